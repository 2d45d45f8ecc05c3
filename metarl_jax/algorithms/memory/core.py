"""The core that the RL^2 variants share: collect trials for a batch of tasks, then step on all of them together.

Nothing is adapted but the memory: a recurrent policy plays the ``n`` episodes of a trial on one task, and what it
remembers is its adaptation. A variant supplies one way to step on ``[T, N]`` trials; nothing else differs.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from metarl_jax.algorithms.adaptation import Remake, Settings
from metarl_jax.checks import checked
from metarl_jax.collect.recorded import last_taken, recorded_percepts
from metarl_jax.collect.rollout import episode_info, rollout_tests, rollout_trial
from metarl_jax.networks.normalised import with_observed
from metarl_jax.ops import trees
from metarl_jax.ops.optimise import keep_if_finite
from metarl_jax.ops.returns import (
    episode_return,
    has_succeeded,
    has_terminated,
    is_dropped,
    masked_mean,
    masked_mean_or_nan,
)
from metarl_jax.types import (
    Adaptation,
    Agent,
    Array,
    Carry,
    Episodes,
    Info,
    Key,
    MetaAlgorithm,
    Params,
    Policy,
    PositiveInt,
    PyTree,
    StepSizeRule,
    Task,
    TaskFamily,
    TrainState,
    Trajectory,
)

TrialStep = Callable[[TrainState, Trajectory, Key, str | None], tuple[TrainState, Info]]
"""Move the state on this device's trials ``[T, N, ...]``, with a key for each of its tasks, the first of which is the
device's; ``step`` is counted by the caller."""


def side_by_side(trajectory: Trajectory) -> Trajectory:
    """All trials of all tasks as columns of one trajectory: ``[M, T, B, ...] -> [T, M B, ...]``.

    Args:
      trajectory: with a leading task axis.

    Returns:
      ``[T, N, ...]``; gradients stopped.
    """
    last = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory.final_percept)
    rest = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:]), trajectory[:-1])
    return jax.lax.stop_gradient(Trajectory._make([*rest, last]))


def episode_returns(trajectory: Trajectory, episodes_per_trial: int) -> Array:
    """Undiscounted return of every episode of every trial; ``[n, B]``.

    Args:
      trajectory: ``[n T, B, ...]``.
      episodes_per_trial: ``n``.

    Returns:
      ``[n, B]``.
    """
    reward, mask = (_episodes(x, episodes_per_trial) for x in (trajectory.reward, trajectory.mask))
    return jax.vmap(episode_return)(reward, mask)


def episode_drops(trajectory: Trajectory, episodes_per_trial: int) -> Array:
    """Whether each episode of every trial is left out; ``[n, B]``.

    Args:
      trajectory: ``[n T, B, ...]``.
      episodes_per_trial: ``n``.

    Returns:
      ``[n, B]``.
    """
    return jax.vmap(is_dropped)(_episodes(trajectory.mask, episodes_per_trial))


def _episodes(x: Array, episodes_per_trial: int) -> Array:
    """Episodes apart: ``[n T, B] -> [n, T, B]``."""
    return x.reshape(episodes_per_trial, -1, x.shape[1])


def by_episodes(settings: Settings, remake: Remake) -> Adaptation:
    """The adaptation of a factory that takes ``episodes_per_trial`` and ``episodes_per_task``.

    Before its last episode a trial of ``n`` has seen ``n - 1``: these are its units.

    Args:
      settings: the factory's arguments.
      remake: calls it again with others.

    Returns:
      What :func:`metarl_jax.algorithms.adaptation.adapts` declares.

    Example:
      >>> by_episodes({"episodes_per_trial": 3}, lambda **changes: changes).with_budget(9, 5, "constant")
      {'episodes_per_trial': 10, 'episodes_per_task': 5}
    """

    def with_budget(seen: int, episodes_per_task: int, _: StepSizeRule) -> MetaAlgorithm:
        return remake(episodes_per_trial=seen + 1, episodes_per_task=episodes_per_task)

    episodes = int(settings["episodes_per_trial"])
    return Adaptation("episode", episodes - 1, episodes, with_budget, is_trial=True)


@checked
def memory_based(
    family: TaskFamily,
    policy: Policy,
    trial_step: TrialStep,
    *,
    episodes_per_trial: PositiveInt,
    episodes_per_task: PositiveInt,
    init_opt_state: Callable[[Params], PyTree] = lambda params: (),
    init_aux: Callable[[], PyTree] = lambda: (),
    collect_at_once: PositiveInt | None = None,
    init_local: Callable[[], PyTree] = lambda: (),
) -> MetaAlgorithm:
    """Assemble a meta-algorithm from a policy with a memory and an outer step.

    Args:
      family: where tasks come from.
      policy: what is trained.
      trial_step: how the meta-parameters move.
      episodes_per_trial: ``n``, episodes through which the memory lasts.
      episodes_per_task: ``B``, trials of each task, side by side: each its own memory.
      init_opt_state: ``params -> optimiser state``.
      init_aux: ``() -> statistics``.
      collect_at_once: tasks that interact side by side; all if None.
      init_local: ``() -> TrainState.local``, which the outer step may replace.

    Returns:
      The algorithm, without its ``adaptation``: its factory declares that by ``@adapts(by_episodes)``. ``adapt`` gives
      the memory after a trial in ``Agent.carry``; its ``return``, ``terminated``, ``dropped`` and, where a function of
      the family measures it, ``success`` are ``[n, B]``, of each episode of the trial. ``update`` reports ``return``
      ``[n]`` (NaN where every episode was dropped), the mean ``policy_entropy`` (nats), ``steps_taken`` and
      ``episodes_dropped``, counted over all tasks and devices, ``skipped`` (1 if the step was not finite and so not
      taken), and the outer step's info.

    Raises:
      ValueError: if a number is out of range.

    Example:
      >>> from metarl_jax.algorithms import ALGORITHMS
      >>> "rl2" in ALGORITHMS
      True
    """

    def update(state: TrainState, tasks: Task, keys: Key, axis_name: str | None = None) -> tuple[TrainState, Info]:
        key_collect, key_step = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        collected = trees.over_tasks(lambda one: collect(state.params, *one)[0], (tasks, key_collect), collect_at_once)
        trials = side_by_side(collected)
        entropy = policy.distribution.entropy(trials.dist_params)
        info = {
            **trials_info(trials, episodes_per_trial, axis_name),
            "policy_entropy": masked_mean(entropy, trials.mask, axis_name),
        }
        new_state, step_info = trial_step(state, trials, key_step, axis_name)
        new_state = new_state._replace(params=with_observed(policy, new_state.params, [trials], axis_name))
        kept, step_info = keep_if_finite(state, new_state, step_info, axis_name)
        return kept, {**info, **step_info}

    def collect(params: Params, task: Task, key: Key) -> tuple[Trajectory, Carry]:
        return rollout_trial(family, policy, params, task, key, episodes_per_trial, episodes_per_task)

    return remembering(
        family,
        policy,
        update,
        episodes_per_trial=episodes_per_trial,
        episodes_per_task=episodes_per_task,
        init_opt_state=init_opt_state,
        init_aux=init_aux,
        collect_at_once=collect_at_once,
        init_local=init_local,
    )


def trials_info(trials: Trajectory, episodes_per_trial: int, axis_name: str | None = None) -> Info:
    """What an update reports of the trials that it was made from.

    Args:
      trials: ``[n T, N, ...]`` of this device.
      episodes_per_trial: ``n``.
      axis_name: mapped device axis whose trials count too, or None.

    Returns:
      ``return`` ``[n]``, ``steps_taken`` and ``episodes_dropped``.
    """
    returns, dropped = (of(trials, episodes_per_trial) for of in (episode_returns, episode_drops))
    counts = {"steps_taken": jnp.sum(trials.taken > 0), "episodes_dropped": jnp.sum(dropped)}
    mean_return = jax.vmap(partial(masked_mean_or_nan, axis_name=axis_name))(returns, ~dropped)
    return {"return": mean_return, **trees.psum(counts, axis_name)}


def remembering(
    family: TaskFamily,
    policy: Policy,
    update: Callable[..., tuple[TrainState, Info]],
    *,
    episodes_per_trial: int,
    episodes_per_task: int,
    init_opt_state: Callable[[Params], PyTree] = lambda params: (),
    init_aux: Callable[[], PyTree] = lambda: (),
    collect_at_once: int | None = None,
    init_local: Callable[[], PyTree] = lambda: (),
) -> MetaAlgorithm:
    """A meta-algorithm of any ``update``, whose policy adapts by remembering; the rest as in :func:`memory_based`."""

    def init(key: Key) -> TrainState:
        params = policy.init(key)
        return TrainState(params, init_opt_state(params), init_aux(), jnp.zeros((), jnp.int32), init_local())

    def adapt(params: Params, task: Task, key: Key) -> tuple[Agent, Info]:
        trajectory, carry = rollout_trial(family, policy, params, task, key, episodes_per_trial, episodes_per_task)
        info = {
            "return": episode_returns(trajectory, episodes_per_trial),
            "terminated": jax.vmap(has_terminated)(_episodes(trajectory.discount, episodes_per_trial)),
            "dropped": episode_drops(trajectory, episodes_per_trial),
        }
        if trajectory.success is not None:
            info["success"] = jax.vmap(has_succeeded)(_episodes(trajectory.success, episodes_per_trial))
        return Agent(params, carry), info

    def test(params: Params, task: Task, key: Key) -> Info:
        return episode_info(rollout_tests(family, policy, params, task, key, episodes_per_trial, episodes_per_task))

    learn = partial(remember, policy)
    return MetaAlgorithm(init, adapt, update, tasks_at_once=collect_at_once, test=test, learn=learn)


def remember(policy: Policy, params: Params, episodes: Episodes) -> Agent:
    """What a policy remembers of the ``k`` episodes of each trial, in a row, that somebody else recorded.

    Args:
      policy: one with a memory.
      params: its parameters.
      episodes: ``[k, T, B, ...]``.

    Returns:
      The same parameters, and the memory of the ``B`` trials.
    """
    unroll = policy.unroll
    assert unroll is not None  # make_evaluate has refused the others

    def episode(before: tuple[Carry, Array, Array], one: Episodes) -> tuple[tuple[Carry, Array, Array], None]:
        carry, *earned = before
        *_, carry = unroll(params, carry, recorded_percepts(one, *earned))
        return (carry, *last_taken(one)), None

    nothing = (jnp.zeros_like(episodes.action[0, 0]), jnp.zeros_like(episodes.reward[0, 0]))
    blank = (policy.initial_carry(episodes.reward.shape[2]), *nothing)
    (carry, *_), _ = jax.lax.scan(episode, blank, episodes)
    return Agent(params, carry)
