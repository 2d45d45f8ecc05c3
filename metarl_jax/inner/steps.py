"""What the inner loop is made of: the loss of a stage, the step on it, and adaptation by K of these steps.

Pure functions of one record of settings, which :func:`metarl_jax.inner.make_inner_loop` makes and binds.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from metarl_jax.collect.recorded import recorded_trajectory
from metarl_jax.collect.rollout import by_mode, key_beside, rollout
from metarl_jax.inner.rules import InnerRule, Leaves, is_adapted, rule_params, with_rule
from metarl_jax.inner.scoring import Baseline, make_batch
from metarl_jax.ops import trees
from metarl_jax.ops.moments import without_moments
from metarl_jax.ops.returns import masked_mean
from metarl_jax.types import Array, Batch, Episodes, Key, Params, Policy, PyTree, Task, TaskFamily, Trajectory, require

Seen = TypeVar("Seen")


class Evaluation(NamedTuple):
    """A policy's view of stored data: ``log_prob [T, B]``, ``dist_params [T, B, ...]``, ``value [T, B]``."""

    log_prob: Array
    dist_params: PyTree
    value: Array


Storage = Literal["full", "bfloat16"]
Stages = tuple[Batch, ...]
Evaluations = tuple[Evaluation, ...]


class InnerSettings(NamedTuple):
    """The arguments of :func:`metarl_jax.inner.make_inner_loop`, with their names resolved.

    Attributes:
      rule: the update rule that ``inner_rule`` or the argument ``rule`` makes of the step sizes.
      surrogate: ``(log_prob, sampled log_prob, advantage, mask) -> []``, that of ``estimator``.
    """

    family: TaskFamily
    policy: Policy
    rule: InnerRule
    surrogate: Callable[[Array, Array, Array, Array], Array]
    num_inner_steps: int
    episodes_per_task: int
    first_order: bool
    adapted: tuple[str, ...] | None
    discount: Array | float
    gae_lambda: Array | float
    baseline: Baseline
    critic_coef: Array | float
    critic_lr_scale: Array | float
    entropy_coef: Array | float
    time_limit_is_terminal: bool
    max_inner_grad_norm: Array | float | None
    remat: bool
    percept_storage: Storage


def init(settings: InnerSettings, key: Key) -> Params:
    """The policy's parameters and, beside them, those of the update rule."""
    params = settings.policy.init(key)
    meta = settings.rule.init(adapted_leaves(settings, params), jax.random.fold_in(key, 1))
    return with_rule(params, meta)


def adapted_leaves(settings: InnerSettings, params: Params) -> Leaves:
    """What inner steps move."""
    learned = trees.by_path(without_moments(params))
    return {path: leaf for path, leaf in learned.items() if is_adapted(path, settings.adapted)}


def evaluate(policy: Policy, params: Params, batch: Batch) -> Evaluation:
    """How the policy with these parameters sees a stage."""
    carry = policy.initial_carry(batch.advantage.shape[1])
    dist_params, value = policy.evaluate(params, carry, trees.widen(batch.trajectory.percept))
    return Evaluation(policy.distribution.log_prob(dist_params, batch.trajectory.action), dist_params, value)


def auxiliary_loss(settings: InnerSettings, evaluation: Evaluation, batch: Batch) -> Array:
    """The critic's squared error, if there is a critic, less the entropy, each weighted; ``[]``."""
    policy, entropy_coef, loss = settings.policy, settings.entropy_coef, jnp.zeros(())
    if policy.has_critic:
        error = jnp.square(evaluation.value - batch.value_target)
        loss += settings.critic_coef * masked_mean(error, batch.trajectory.mask)
    if not (isinstance(entropy_coef, (int, float)) and entropy_coef == 0):  # a squashed policy's is costly
        entropy = policy.distribution.entropy(evaluation.dist_params)
        loss -= entropy_coef * masked_mean(entropy, batch.trajectory.mask)
    return loss


def inner_loss(settings: InnerSettings, leaves: Leaves, params: Params, batch: Batch) -> tuple[Array, Evaluation]:
    """The surrogate and the auxiliary loss of a stage as a function of the adapted leaves; ``[]``."""
    evaluation, sampled = evaluate(settings.policy, trees.replace(params, leaves), batch), batch.trajectory
    policy_loss = settings.surrogate(evaluation.log_prob, sampled.log_prob, batch.advantage, sampled.mask)
    return policy_loss + auxiliary_loss(settings, evaluation, batch), evaluation


def inner_step(
    settings: InnerSettings, params: Params, state: PyTree, batch: Batch, k: Array | int
) -> tuple[Params, PyTree, Evaluation]:
    """Step ``k`` on a stage: the parameters and the rule's state after it, and the stage as seen before it."""
    leaves = adapted_leaves(settings, params)
    gradient, evaluation = jax.grad(partial(inner_loss, settings), has_aux=True)(leaves, params, batch)
    if settings.max_inner_grad_norm is not None:
        gradient = trees.clip_by_norm(gradient, settings.max_inner_grad_norm)
    if settings.first_order:
        gradient = jax.lax.stop_gradient(gradient)
    moved, state = settings.rule.step(rule_params(params), leaves, gradient, state, k)
    return trees.replace(params, scale_critic(settings, leaves, moved)), state, evaluation


def scale_critic(settings: InnerSettings, before: Leaves, after: Leaves) -> Leaves:
    """The critic's step in units of the policy's."""
    scale = settings.critic_lr_scale
    if isinstance(scale, (int, float)) and scale == 1:
        return after
    critic = settings.policy.parts.critic
    return {
        path: before[path] + scale * (leaf - before[path]) if trees.is_below(path, critic) else leaf
        for path, leaf in after.items()
    }


def sample_stage(settings: InnerSettings, params: Params, task: Task, key: Key) -> Batch:
    """Interact with a task, and score what was seen; it is stored after that, in fewer bits if so asked."""
    trajectory = rollout(settings.family, settings.policy, params, task, key, settings.episodes_per_task)
    batch = score(settings, params, trajectory)
    if settings.percept_storage == "full":
        return batch
    stored = trees.narrow(trajectory.percept, settings.percept_storage)
    return batch._replace(trajectory=batch.trajectory._replace(percept=stored))


def score(settings: InnerSettings, params: Params, trajectory: Trajectory) -> Batch:
    """Advantages by the settings' baseline."""
    return make_batch(
        settings.policy,
        params,
        trajectory,
        discount=settings.discount,
        gae_lambda=settings.gae_lambda,
        baseline=settings.baseline,
        time_limit_is_terminal=settings.time_limit_is_terminal,
    )


def explore(
    settings: InnerSettings, params: Params, task: Task, key: Key, see: Callable[[Params, Batch, Key], Seen]
) -> tuple[Params, Seen]:
    """Sample K + 1 stages, with a step after each but the last.

    Returns:
      The parameters after the last step, and what is seen of each stage (the parameters that sampled it, its data and
      its key), ``[K + 1, ...]``.
    """
    num_steps = settings.num_inner_steps
    step = partial(inner_step, settings)

    # A scan, so that the environment is compiled once however many stages there are.
    def stage(carry: tuple[Params, PyTree], k: Array) -> tuple[tuple[Params, PyTree], Seen]:
        key_stage = jax.random.fold_in(key, k)
        batch = sample_stage(settings, carry[0], task, key_stage)
        seen = see(carry[0], batch, key_stage)
        if num_steps == 0:
            return carry, seen
        last = num_steps - 1
        return jax.lax.cond(k <= last, lambda: step(*carry, batch, jnp.minimum(k, last))[:2], lambda: carry), seen

    start = (params, settings.rule.start(adapted_leaves(settings, params)))
    (adapted_params, _), seen = jax.lax.scan(stage, start, jnp.arange(num_steps + 1))
    return adapted_params, seen


def collect(settings: InnerSettings, params: Params, task: Task, key: Key) -> tuple[Params, Stages]:
    """Sample K + 1 stages, with a step after each but the last; no gradient flows through it."""
    adapted_params, batches = explore(settings, params, task, key, lambda params, batch, key: batch)
    stages = tuple(jax.tree.map(operator.itemgetter(k), batches) for k in range(settings.num_inner_steps + 1))
    return jax.lax.stop_gradient((adapted_params, stages))


def test(settings: InnerSettings, params: Params, task: Task, key: Key) -> Trajectory:
    """Beside each stage that :func:`collect` samples, as many episodes by the policy's mode; ``[K + 1, T, B, ...]``."""
    family, policy, number = settings.family, by_mode(settings.policy), settings.episodes_per_task

    def play(params: Params, batch: Batch, key: Key) -> Trajectory:
        return rollout(family, policy, params, task, key_beside(key), number)

    return explore(settings, params, task, key, play)[1]


def replay(settings: InnerSettings, params: Params, stages: Stages) -> tuple[Params, Evaluations]:
    """Repeat the K steps on stages that were collected: a differentiable function of the parameters."""
    once = partial(inner_step, settings)
    step = jax.checkpoint(once, static_argnums=3) if settings.remat else once
    state, evaluations = settings.rule.start(adapted_leaves(settings, params)), []
    for k in range(settings.num_inner_steps):
        params, state, evaluation = step(params, state, stages[k], k)
        evaluations.append(evaluation)
    return params, (*evaluations, evaluate(settings.policy, params, stages[-1]))


def learn(settings: InnerSettings, params: Params, episodes: Episodes) -> Params:
    """The first ``k`` steps, one on each of ``k`` stages that were recorded, ``[k, T, B, ...]``."""
    last = settings.num_inner_steps - 1
    require(last >= 0, "num_inner_steps", 0, "there is no step to take: give 1 or more")

    def step(carry: tuple[Params, PyTree], one: tuple[Array, Episodes]) -> tuple[tuple[Params, PyTree], None]:
        (params, state), (k, stage) = carry, one
        batch = score(settings, params, recorded_trajectory(settings.policy, params, stage))
        return inner_step(settings, params, state, batch, jnp.minimum(k, last))[:2], None

    start = (params, settings.rule.start(adapted_leaves(settings, params)))
    (adapted, _), _ = jax.lax.scan(step, start, (jnp.arange(episodes.reward.shape[0]), episodes))
    return adapted
