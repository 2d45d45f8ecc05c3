"""The core that every MAML variant shares: collect data for a batch of tasks, then step on a replayed outer loss.

A variant supplies an outer objective on the replayed stages and a way to step on it; nothing else differs.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metarl_jax.checks import checked
from metarl_jax.collect.rollout import episode_info
from metarl_jax.inner import Evaluations, InnerLoop, Stages
from metarl_jax.inner.rules import rule_params
from metarl_jax.networks.normalised import with_observed
from metarl_jax.ops import trees
from metarl_jax.ops.optimise import keep_if_finite, minimise, minimise_within
from metarl_jax.ops.returns import (
    episode_return,
    has_succeeded,
    has_terminated,
    is_dropped,
    masked_mean,
    masked_mean_or_nan,
)
from metarl_jax.ops.surrogates import ratio
from metarl_jax.types import (
    Agent,
    Array,
    Batch,
    Episodes,
    Info,
    Key,
    MetaAlgorithm,
    Params,
    Policy,
    PositiveFloat,
    PositiveInt,
    PyTree,
    Task,
    TaskChunk,
    TaskFamily,
    TrainState,
    require,
)

Objective = Callable[[Evaluations, Stages, PyTree], tuple[Array, Info]]
"""``(evaluations, stages, aux) -> (loss [], info)`` for one task."""
MetaLoss = Callable[[Params, PyTree, PyTree], tuple[Array, Info]]
"""``(params, data of one task, aux) -> (loss [], info)``; the data are its stages, with whatever the method adds."""
OuterStep = Callable[[TrainState, Stages, str | None], tuple[TrainState, Info]]
"""Move the state on stages with a leading task axis; ``step`` is counted by the caller."""

_CPU_EPISODES_AT_ONCE = 100
_HOST_EPISODES_AT_ONCE = 1000
_SQUARE = "task_grad_square"


def with_auxiliary_loss(loop: InnerLoop, objective: Objective) -> Objective:
    """Add the inner loop's auxiliary loss of the last stage: the critic's error, less the entropy, each weighted.

    Args:
      loop: the inner loop.
      objective: what the method optimises.

    Returns:
      The outer loss; the info is the objective's.

    Example:
      >>> outer_loss = with_auxiliary_loss(loop, objective)  # doctest: +SKIP
    """

    def outer_loss(evaluations: Evaluations, stages: Stages, aux: PyTree) -> tuple[Array, Info]:
        loss, info = objective(evaluations, stages, aux)
        return loss + loop.auxiliary_loss(evaluations[-1], stages[-1]), info

    return outer_loss


def make_meta_loss(loop: InnerLoop, objective: Objective) -> MetaLoss:
    """The outer loss of one task as a deterministic function of the meta-parameters.

    ``meta_loss(theta, stages, aux)`` replays the inner steps from ``theta`` and applies ``objective``, to which the
    critic's error and the entropy of the last stage are added (:func:`with_auxiliary_loss`); ``jax.grad`` of it is the
    exact meta-gradient of the surrogate, through every inner step.

    Args:
      loop: the inner loop.
      objective: the variant's outer objective.

    Returns:
      ``(params, stages, aux) -> (loss [], info)``.

    Example:
      >>> meta_loss = make_meta_loss(loop, objective)  # doctest: +SKIP
      >>> jax.grad(meta_loss, has_aux=True)(params, stages, aux)  # doctest: +SKIP
    """
    outer_loss = with_auxiliary_loss(loop, objective)

    def meta_loss(params: Params, stages: Stages, aux: PyTree) -> tuple[Array, Info]:
        _, evaluations = loop.replay(params, stages)
        return outer_loss(evaluations, stages, aux)

    return meta_loss


def outer_ratio_error(evaluations: Evaluations, stages: Stages) -> Array:
    """Largest ``|ratio - 1|`` on the last stage; zero (up to rounding) at the parameters that collected the data.

    An update reports its mean over tasks, whatever the number of devices.

    Args:
      evaluations: K + 1 evaluations of one task.
      stages: K + 1 batches of one task.

    Returns:
      ``[]``.
    """
    sampled = stages[-1].trajectory
    return jnp.max(jnp.abs(ratio(evaluations[-1].log_prob, sampled.log_prob, sampled.mask) - 1.0))


def with_outer_kl(objective: Objective) -> Objective:
    """Report how far the adapted policy has moved from the one that collected: ``outer_kl``, on the last stage.

    ``KL(pi_old || pi)`` as estimated by Schulman (2020), ``mean(ratio - 1 - log ratio)``: never negative, unbiased, and
    from log-probabilities alone.

    Args:
      objective: what is optimised.

    Returns:
      The same with ``outer_kl []``, in nats per action, in its info.

    Example:
      >>> with_outer_kl(objective)(evaluations, stages, ())[1]["outer_kl"]  # doctest: +SKIP
    """

    def reporting(evaluations: Evaluations, stages: Stages, aux: PyTree) -> tuple[Array, Info]:
        loss, info = objective(evaluations, stages, aux)
        sampled = stages[-1].trajectory
        log_ratio = evaluations[-1].log_prob - sampled.log_prob
        return loss, {**info, "outer_kl": masked_mean(jnp.expm1(log_ratio) - log_ratio, sampled.mask)}

    return reporting


def gradient_chunk(task_chunk: TaskChunk) -> int | None:
    """How many tasks to differentiate at once: as told, else 1 on CPUs (what is in flight fits the cache), else all.

    ``auto`` is settled where the devices and their memory are known, :func:`metarl_jax.runs.fit.settle`; here it is as
    if it were left out.
    """
    told = _told(task_chunk)
    return 1 if told is None and jax.default_backend() == "cpu" else told


def collect_chunk(family: TaskFamily, task_chunk: TaskChunk, episodes_per_task: int) -> int | None:
    """How many tasks to collect at once: as told, else all on accelerators.

    On CPUs, about 100 episodes' worth, which fits the cache; of a family that steps on the host about 1000, to spread
    the price of each call.
    """
    told = _told(task_chunk)
    if told is None and jax.default_backend() == "cpu":
        at_once = _HOST_EPISODES_AT_ONCE if family.on_host else _CPU_EPISODES_AT_ONCE
        return max(1, at_once // episodes_per_task)
    return told


def _told(task_chunk: TaskChunk) -> int | None:
    return None if isinstance(task_chunk, str) else task_chunk


def mean_value_and_grad(
    meta_loss: MetaLoss, data: PyTree, aux: PyTree, task_chunk: TaskChunk
) -> Callable[[Params], tuple[tuple[Array, Info], Params]]:
    """Differentiate the mean outer loss over tasks, ``task_chunk`` of them at a time.

    Args:
      meta_loss: of one task.
      data: with a leading task axis ``[M, ...]``.
      aux: the state's adaptive coefficients.
      task_chunk: tasks differentiated at once; if None, what suits the backend.

    Returns:
      ``params -> ((loss [], info), gradient)``, all averaged over this device's tasks.
    """

    def value_and_grad(params: Params) -> tuple[tuple[Array, Info], Params]:
        def of_task(data: PyTree) -> tuple[tuple[Array, Info], Params]:
            (loss, info), gradient = jax.value_and_grad(meta_loss, has_aux=True)(params, data, aux)
            return (loss, {**info, _SQUARE: trees.dot(gradient, gradient)}), gradient

        return trees.mean_over_tasks(trees.over_tasks(of_task, data, gradient_chunk(task_chunk)))

    return value_and_grad


@checked
def optax_outer_step(
    loop: InnerLoop,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    num_epochs: PositiveInt,
    task_chunk: TaskChunk,
    max_outer_kl: PositiveFloat | None = None,
) -> OuterStep:
    """Step with an optax optimiser, ``num_epochs`` times on the same data.

    Args:
      loop: the inner loop.
      objective: the variant's outer objective.
      optimizer: any optax transformation.
      num_epochs: optimiser steps per batch of data.
      task_chunk: tasks differentiated at once; if None, what suits the backend.
      max_outer_kl: see :func:`descend`.

    Returns:
      The outer step; see :func:`descend` for its info.

    Raises:
      ValueError: if ``max_outer_kl`` is given for a single epoch.
    """
    if max_outer_kl is not None:
        require(num_epochs > 1, "num_epochs", num_epochs, "max_outer_kl needs 2 or more: a halving takes one")
    meta_loss = make_meta_loss(loop, objective if max_outer_kl is None else with_outer_kl(objective))

    def outer_step(state: TrainState, stages: Stages, axis_name: str | None) -> tuple[TrainState, Info]:
        return descend(meta_loss, stages, state, optimizer, num_epochs, task_chunk, axis_name, max_outer_kl)

    return outer_step


def descend(
    meta_loss: MetaLoss,
    data: PyTree,
    state: TrainState,
    optimizer: optax.GradientTransformation,
    num_epochs: int,
    task_chunk: TaskChunk,
    axis_name: str | None,
    max_outer_kl: float | None = None,
) -> tuple[TrainState, Info]:
    """Step with an optax optimiser on the mean of a meta-loss over tasks, ``num_epochs`` times on the same data.

    Args:
      meta_loss: of one task.
      data: with a leading task axis ``[M, ...]``.
      state: where to start.
      optimizer: any optax transformation.
      num_epochs: optimiser steps.
      task_chunk: tasks differentiated at once; if None, what suits the backend.
      axis_name: mapped device axis, or None.
      max_outer_kl: halve steps after which the meta-loss reports a larger ``outer_kl``, as
        :func:`metarl_jax.ops.optimise.minimise_within` does; no limit if None.

    Returns:
      The state with new parameters and optimiser state, and the first epoch's info, where the policy is still the one
      that collected, with ``grad_snr``, see :func:`signal_to_noise`.
      With a limit also ``outer_kl`` at the end, and ``outer_step_scale``, 1 if no step was halved.
    """
    loss = mean_value_and_grad(meta_loss, data, state.aux, task_chunk)
    arguments = (loss, state.params, state.opt_state, optimizer, num_epochs)
    if max_outer_kl is None:
        params, opt_state, infos = minimise(*arguments, axis_name)
        info = jax.tree.map(lambda x: x[0], infos)
    else:
        params, opt_state, info, last = minimise_within(
            *arguments, lambda info: info["outer_kl"] <= max_outer_kl, axis_name
        )
        info |= {"outer_kl": last["outer_kl"], "outer_step_scale": last["step_scale"]}
    return state._replace(params=params, opt_state=opt_state), signal_to_noise(info, count_tasks(data, axis_name))


def count_tasks(data: PyTree, axis_name: str | None) -> int:
    """Tasks in a meta-batch: on this device ``[M, ...]``, times the devices.

    Example:
      >>> count_tasks({"reward": jnp.zeros((3, 5))}, None)
      3
    """
    return int(trees.psum(jax.tree.leaves(data)[0].shape[0], axis_name))


def signal_to_noise(info: Info, num_tasks: int) -> Info:
    """Replace the mean squared norm of the tasks' gradients by ``grad_snr``, given the norm of their mean.

    ``grad_snr = (|mean|^2 - V / M) / V``, with the unbiased variance between tasks
    ``V = (mean |g|^2 - |mean|^2) M / (M - 1)``: the signal is what the mean has beyond the noise that averaging leaves.
    Pure noise reads 0 on average, so single values may be negative, at lowest ``-1 / M``, as one task always reads.

    Args:
      info: with ``grad_norm`` and ``task_grad_square``, over the tasks of all devices.
      num_tasks: M, of all devices.

    Returns:
      The info, with ``grad_snr []``.

    Example:
      >>> signal_to_noise({"grad_norm": jnp.array(2.0), "task_grad_square": jnp.array(12.0)}, 4)["grad_snr"].item()
      0.125
    """
    squared_mean = jnp.square(info["grad_norm"])
    precision = jnp.finfo(squared_mean.dtype)  # one task, or several that agree, have no noise: stay finite
    spread = jnp.maximum(info[_SQUARE] - squared_mean, precision.eps * squared_mean + precision.tiny)
    snr = ((num_tasks - 1) * squared_mean / spread - 1.0) / num_tasks
    return {**{name: value for name, value in info.items() if name != _SQUARE}, "grad_snr": snr}


def gradient_based(
    policy: Policy,
    loop: InnerLoop,
    outer_step: OuterStep,
    init_opt_state: Callable[[Params], PyTree] = lambda params: (),
    init_aux: Callable[[], PyTree] = lambda: (),
    collect_at_once: int | None = None,
    init_local: Callable[[], PyTree] = lambda: (),
) -> MetaAlgorithm:
    """Assemble a meta-algorithm from an inner loop and an outer step.

    Args:
      policy: what is trained.
      loop: how it adapts.
      outer_step: how the meta-parameters move.
      init_opt_state: ``params -> optimiser state``.
      init_aux: ``() -> adaptive coefficients``.
      collect_at_once: tasks that interact side by side; all if None. See :func:`collect_chunk`.
      init_local: ``() -> TrainState.local``, which the outer step may replace.

    Returns:
      The algorithm, without its ``adaptation``: its factory declares that by ``@adapts(by_gradient_steps)``. ``adapt``
      reports ``return``, ``terminated``, ``dropped`` and, where a function of the family measures it, ``success``
      ``[K + 1, B]``, of every episode after 0..K inner steps. ``update`` reports ``return`` ``[K + 1]``, the mean
      return after 0..K inner steps (NaN where every episode was dropped), the mean ``policy_entropy`` (nats) over the
      last stage, ``critic_explained_variance`` if there is a critic, ``steps_taken`` and ``episodes_dropped``, counted
      over all stages, tasks and devices, ``skipped`` (1 if the step was not finite and so not taken), and the outer
      step's info.

    Example:
      >>> from metarl_jax.algorithms import ALGORITHMS
      >>> "maml" in ALGORITHMS
      True
    """

    def init(key: Key) -> TrainState:
        params = loop.init(key)
        return TrainState(params, init_opt_state(params), init_aux(), jnp.zeros((), jnp.int32), init_local())

    def adapt(params: Params, task: Task, key: Key) -> tuple[Agent, Info]:
        adapted, stages = loop.collect(params, task, key)
        info = {"return": stage_returns(stages), "terminated": stage_ends(stages), "dropped": stage_drops(stages)}
        return Agent(adapted, ()), info | stage_successes(stages)

    def test(params: Params, task: Task, key: Key) -> Info:
        return episode_info(loop.test(params, task, key))

    def update(state: TrainState, tasks: Task, keys: Key, axis_name: str | None = None) -> tuple[TrainState, Info]:
        def collect(one: tuple[Task, Key]) -> Stages:
            return loop.collect(state.params, *one)[1]

        stages = trees.over_tasks(collect, (tasks, keys), collect_at_once)
        learns_from_steps = len(stages) > 1 or rule_params(state.params) is None
        require(learns_from_steps, "num_inner_steps", 0, "a learned inner rule needs 1 or more, to learn from")
        info = _describe(policy, state.params, stages, axis_name)
        new_state, outer_info = outer_step(state, stages, axis_name)
        sampled = [batch.trajectory for batch in stages]
        new_state = new_state._replace(params=with_observed(policy, new_state.params, sampled, axis_name))
        kept, outer_info = keep_if_finite(state, new_state, outer_info, axis_name)
        return kept, {**info, **outer_info}

    def learn(params: Params, episodes: Episodes) -> Agent:
        return Agent(loop.learn(params, episodes), ())

    return MetaAlgorithm(
        init, adapt, update, loop.collect, loop.replay, tasks_at_once=collect_at_once, test=test, learn=learn
    )


def without_learned_rule(algorithm: MetaAlgorithm, inner: Mapping[str, Any], why: str) -> MetaAlgorithm:
    """Refuse an inner rule with meta-parameters to a method that would leave them as they start.

    Args:
      algorithm: the method.
      inner: the arguments of its inner loop.
      why: it does not learn them.

    Returns:
      The method.

    Raises:
      ValueError: if its rule has meta-parameters.

    Example:
      >>> without_learned_rule(algorithm, {"inner_rule": "learned"}, "nothing is learned")  # doctest: +SKIP
    """
    name = "rule" if inner.get("rule") is not None else "inner_rule"
    learned = rule_params(jax.eval_shape(algorithm.init, jax.random.key(0)).params)
    remedy = f"{why}: choose sgd, momentum or adam, or a method that learns it, such as maml"
    require(learned is None, name, inner.get(name), remedy)
    return algorithm


def stage_returns(stages: Stages) -> Array:
    """Undiscounted return of every episode after 0..K inner steps; ``[K + 1, B]``."""
    return jnp.stack([episode_return(batch.trajectory.reward, batch.trajectory.mask) for batch in stages])


def stage_ends(stages: Stages) -> Array:
    """Whether the task ended each episode, after 0..K inner steps; ``[K + 1, B]``."""
    return jnp.stack([has_terminated(batch.trajectory.discount) for batch in stages])


def stage_successes(stages: Stages) -> Info:
    """Whether each episode succeeded, after 0..K inner steps, ``[K + 1, B]``; nothing if no function measures it."""
    measured = [batch.trajectory.success for batch in stages if batch.trajectory.success is not None]
    return {"success": jnp.stack([has_succeeded(success) for success in measured])} if measured else {}


def stage_drops(stages: Stages) -> Array:
    """Whether each episode is left out, after 0..K inner steps; ``[K + 1, B]``."""
    return jnp.stack([is_dropped(batch.trajectory.mask) for batch in stages])


def _describe(policy: Policy, params: Params, stages: Stages, axis_name: str | None) -> Info:
    """Of stages with a leading task axis: tasks weigh equally, but for those of whose stage no episode is left."""
    last = stages[-1].trajectory
    kept = ~jax.vmap(stage_drops)(stages)
    has_data = kept.any(axis=-1)
    returns = jax.vmap(jax.vmap(masked_mean))(jax.vmap(stage_returns)(stages), kept)
    entropy = jax.vmap(masked_mean)(policy.distribution.entropy(last.dist_params), last.mask)
    steps_taken = sum(jnp.sum(batch.trajectory.taken > 0) for batch in stages)
    info = {
        "return": jax.vmap(partial(masked_mean_or_nan, axis_name=axis_name), in_axes=1)(returns, has_data),
        "policy_entropy": masked_mean(entropy, has_data[:, -1], axis_name),
        **trees.psum({"steps_taken": steps_taken, "episodes_dropped": jnp.sum(~kept)}, axis_name),
    }
    if policy.has_critic:
        explained = jax.vmap(partial(_explained, policy, params))(stages[0])
        info["critic_explained_variance"] = masked_mean(explained, has_data[:, 0], axis_name)
    return info


def _explained(policy: Policy, params: Params, batch: Batch) -> Array:
    """``1 - var(target - value) / var(target)`` of the critic before adaptation: 1 is perfect, 0 knows nothing."""
    trajectory, target = batch.trajectory, batch.value_target
    _, value = policy.evaluate(params, policy.initial_carry(target.shape[1]), trees.widen(trajectory.percept))
    error = target - value

    def variance(x: Array) -> Array:
        return masked_mean(jnp.square(x - masked_mean(x, trajectory.mask)), trajectory.mask)

    return 1.0 - variance(error) / (variance(target) + 1e-8)
