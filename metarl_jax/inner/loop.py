"""The inner loop: collect data while adapting, then replay the same adaptation to differentiate it.

``collect`` interacts: it samples K + 1 stages of data, adapting after each of the first K, and is constant as far as
gradients go. ``replay`` repeats the K updates on that data as a deterministic function of the meta-parameters, so an
outer loss built on it can be differentiated exactly, stepped on several times, and checked by finite differences.
"""

import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import Traced, checked
from metarl_jax.collect.rollout import rollout
from metarl_jax.inner.rules import MakeRule, RuleName, is_adapted, make_rule, rule_params, with_rule
from metarl_jax.inner.scoring import Baseline, make_batch
from metarl_jax.ops import trees
from metarl_jax.ops.returns import masked_mean
from metarl_jax.ops.surrogates import Estimator, make_surrogate
from metarl_jax.types import (
    Array,
    Batch,
    Fraction,
    Key,
    NonNegativeFloat,
    NonNegativeInt,
    Params,
    Policy,
    PositiveFloat,
    PositiveInt,
    PyTree,
    Task,
    TaskFamily,
    require,
)

StepSizes = float | tuple[float, ...] | Array


class Evaluation(NamedTuple):
    """A policy's view of stored data: ``log_prob [T, B]``, ``dist_params [T, B, ...]``, ``value [T, B]``."""

    log_prob: Array
    dist_params: PyTree
    value: Array


Stages = tuple[Batch, ...]
Evaluations = tuple[Evaluation, ...]


class InnerLoop(NamedTuple):
    """Adaptation to one task as two pure functions.

    Attributes:
      init: ``(key) -> params``: the policy's and, beside them, the update rule's if it has any.
      collect: ``(params, task, key) -> (adapted params, K + 1 batches)``. No gradient flows through it.
      replay: ``(params, K + 1 batches) -> (adapted params, K + 1 evaluations)``, where evaluation ``k`` is of batch
        ``k`` under the parameters after ``k`` steps. Differentiable.
      auxiliary_loss: ``(evaluation, batch) -> []``: the weighted squared error of the critic, if there is one, less the
        weighted entropy. It is in the inner loss, and belongs in the outer one.
    """

    init: Callable[[Key], Params]
    collect: Callable[[Params, Task, Key], tuple[Params, Stages]]
    replay: Callable[[Params, Stages], tuple[Params, Evaluations]]
    auxiliary_loss: Callable[[Evaluation, Batch], Array]


@checked
def make_inner_loop(
    family: TaskFamily,
    policy: Policy,
    *,
    inner_lr: Traced[NonNegativeFloat | tuple[NonNegativeFloat, ...]] = 0.1,
    num_inner_steps: NonNegativeInt = 1,
    episodes_per_task: PositiveInt = 20,
    estimator: Estimator = "log_likelihood",
    estimator_decay: Traced[Fraction] = 1.0,
    first_order: bool = False,
    inner_rule: RuleName = "sgd",
    adapted: tuple[str, ...] | None = None,
    discount: Traced[Fraction] = 0.99,
    gae_lambda: Traced[Fraction] = 1.0,
    baseline: Baseline = "linear_feature",
    critic_coef: Traced[NonNegativeFloat] = 0.5,
    critic_lr_scale: Traced[NonNegativeFloat] = 1.0,
    entropy_coef: Traced[NonNegativeFloat] = 0.0,
    time_limit_is_terminal: bool = False,
    max_inner_grad_norm: Traced[PositiveFloat] | None = None,
    remat: bool = False,
    rule: MakeRule | None = None,
) -> InnerLoop:
    """Gradient descent on a surrogate loss as the inner update: ``phi_{k+1} = phi_k - alpha_k grad L(phi_k; D_k)``.

    Every gradient-based method is made of this loop, and takes these arguments.

    Args:
      family: where tasks come from.
      policy: what is adapted; a critic is adapted with it.
      inner_lr: inner step size ``alpha``, or one for each of the K inner steps.
      num_inner_steps: K; 0 gives plain policy gradients over all tasks.
      episodes_per_task: B, episodes collected in each of the K + 1 stages.
      estimator: surrogate of the inner loss, by the Hessian that it estimates: ``log_likelihood`` (biased),
        ``likelihood_ratio`` (low variance), ``dice``, ``loaded_dice``, ``taypo2`` (unbiased).
      estimator_decay: of past log-ratios in ``loaded_dice``: 1 is unbiased, 0 equals ``likelihood_ratio``.
      first_order: ignore second derivatives: hold the inner gradient constant (first-order MAML).
      inner_rule: what makes a step of the gradient: ``sgd``, ``momentum``, ``adam``, ``learned_step_sizes`` (for each
        layer and step, meta-learned, starting at ``inner_lr``) or ``learned`` (a small network whose weights are).
      adapted: paths of the parameters that inner steps move, such as ``mean/Dense_2``; all if left out.
      discount: reward discount per step.
      gae_lambda: trace decay of the advantage estimates; 1 is Monte Carlo.
      baseline: what is subtracted from returns: ``linear_feature`` (refitted to each batch), ``zero``, or ``critic``
        (learned and adapted; the policy must have one).
      critic_coef: weight of the critic's squared error in the inner and the outer loss.
      critic_lr_scale: the critic's inner step size in units of ``inner_lr``; 0 leaves it unadapted.
      entropy_coef: weight of the policy's mean entropy, in nats, against policies that stop exploring: in every inner
        loss, at meta-test time too, and in the outer one, where it is that of the policy after the last step. It has
        no gradient where a standard deviation is at its floor, ``min_std``.
      time_limit_is_terminal: do not bootstrap the critic through the time limit.
      max_inner_grad_norm: shorten longer inner gradients to this norm; no limit if left out.
      remat: recompute each inner step when differentiating instead of storing it: more time, less memory.
      rule: an update rule of your own, ``step sizes [K] -> InnerRule``, in the place of ``inner_rule``.

    Returns:
      The loop.

    Raises:
      ValueError: if a size or a step size is out of range, ``baseline`` is ``critic`` and the policy has none, or
        ``adapted`` names no parameter.

    Example:
      >>> from metarl_jax import tasks, networks
      >>> family = tasks.navigation.navigation_finn(horizon=5)
      >>> policy = networks.mlp_policy(family.observation_shape, family.action)
      >>> loop = make_inner_loop(family, policy, estimator="likelihood_ratio", episodes_per_task=3)
      >>> params, stages = loop.collect(loop.init(jax.random.key(0)), family.sample(jax.random.key(1)),
      ...                               jax.random.key(2))
      >>> len(stages)
      2
    """
    step_sizes = _step_sizes(inner_lr, num_inner_steps)
    require(
        baseline != "critic" or policy.has_critic,
        "baseline",
        baseline,
        "needs a policy with a critic: set policy.critic_hidden_sizes or policy.shared_torso, "
        "or choose linear_feature or zero",
    )
    surrogate = make_surrogate(estimator, discount, estimator_decay)
    own = "a rule takes its place, the argument of this name or the method's own: leave inner_rule out"
    require(rule is None or inner_rule == "sgd", "inner_rule", inner_rule, own)
    update_rule = make_rule(inner_rule, step_sizes) if rule is None else rule(step_sizes)
    _check_adapted(policy, adapted)

    def select(params: Params) -> dict[str, Array]:
        return {path: leaf for path, leaf in trees.by_path(params).items() if is_adapted(path, adapted)}

    def init(key: Key) -> Params:
        params = policy.init(key)
        return with_rule(params, update_rule.init(select(params), jax.random.fold_in(key, 1)))

    def evaluate(params: Params, batch: Batch) -> Evaluation:
        carry = policy.initial_carry(batch.advantage.shape[1])
        dist_params, value = policy.evaluate(params, carry, batch.trajectory.percept)
        return Evaluation(policy.distribution.log_prob(dist_params, batch.trajectory.action), dist_params, value)

    def auxiliary_loss(evaluation: Evaluation, batch: Batch) -> Array:
        loss = jnp.zeros(())
        if policy.has_critic:
            error = jnp.square(evaluation.value - batch.value_target)
            loss += critic_coef * masked_mean(error, batch.trajectory.mask)
        if not (isinstance(entropy_coef, (int, float)) and entropy_coef == 0):  # a squashed policy's is costly
            entropy = policy.distribution.entropy(evaluation.dist_params)
            loss -= entropy_coef * masked_mean(entropy, batch.trajectory.mask)
        return loss

    def inner_step(params: Params, state: PyTree, batch: Batch, k: Array | int) -> tuple[Params, PyTree, Evaluation]:
        def loss(leaves: dict[str, Array]) -> tuple[Array, Evaluation]:
            evaluation = evaluate(trees.replace(params, leaves), batch)
            sampled = batch.trajectory
            policy_loss = surrogate(evaluation.log_prob, sampled.log_prob, batch.advantage, sampled.mask)
            return policy_loss + auxiliary_loss(evaluation, batch), evaluation

        leaves = select(params)
        gradient, evaluation = jax.grad(loss, has_aux=True)(leaves)
        if max_inner_grad_norm is not None:
            gradient = trees.clip_by_norm(gradient, max_inner_grad_norm)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        moved, state = update_rule.step(rule_params(params), leaves, gradient, state, k)
        return trees.replace(params, _scale_critic(leaves, moved, critic_lr_scale)), state, evaluation

    def sample_stage(params: Params, task: Task, key: Key) -> Batch:
        trajectory = rollout(family, policy, params, task, key, episodes_per_task)
        return make_batch(
            policy,
            params,
            trajectory,
            discount=discount,
            gae_lambda=gae_lambda,
            baseline=baseline,
            time_limit_is_terminal=time_limit_is_terminal,
        )

    def collect(params: Params, task: Task, key: Key) -> tuple[Params, Stages]:
        # A scan, so that the environment is compiled once however many stages there are.
        def stage(carry: tuple[Params, PyTree], k: Array) -> tuple[tuple[Params, PyTree], Batch]:
            batch = sample_stage(carry[0], task, jax.random.fold_in(key, k))
            if num_inner_steps == 0:
                return carry, batch
            last = num_inner_steps - 1
            moved = jax.lax.cond(k <= last, lambda: inner_step(*carry, batch, jnp.minimum(k, last))[:2], lambda: carry)
            return moved, batch

        start = (params, update_rule.start(select(params)))
        (adapted_params, _), batches = jax.lax.scan(stage, start, jnp.arange(num_inner_steps + 1))
        stages = tuple(jax.tree.map(operator.itemgetter(k), batches) for k in range(num_inner_steps + 1))
        return jax.lax.stop_gradient((adapted_params, stages))

    def replay(params: Params, stages: Stages) -> tuple[Params, Evaluations]:
        step = jax.checkpoint(inner_step, static_argnums=3) if remat else inner_step
        state, evaluations = update_rule.start(select(params)), []
        for k in range(num_inner_steps):
            params, state, evaluation = step(params, state, stages[k], k)
            evaluations.append(evaluation)
        return params, (*evaluations, evaluate(params, stages[-1]))

    return InnerLoop(init, collect, replay, auxiliary_loss)


def _scale_critic(before: dict[str, Array], after: dict[str, Array], scale: Array | float) -> dict[str, Array]:
    """The critic's step in units of the policy's."""
    if isinstance(scale, (int, float)) and scale == 1:
        return after
    return {
        path: before[path] + scale * (leaf - before[path]) if path.startswith("value/") else leaf
        for path, leaf in after.items()
    }


def _check_adapted(policy: Policy, adapted: tuple[str, ...] | None) -> None:
    if adapted is None:
        return
    paths = list(trees.by_path(jax.eval_shape(policy.init, jax.random.key(0))))
    for name in adapted:
        matched = any(is_adapted(path, (name,)) for path in paths)
        require(matched, "adapted", name, f"is no parameter of the policy; there are {', '.join(paths)}")


def _step_sizes(inner_lr: StepSizes, num_inner_steps: int) -> Array:
    """``[K]`` step sizes from one number or K of them."""
    sizes = jnp.asarray(inner_lr, dtype=float)
    require(
        sizes.ndim == 0 or sizes.shape == (num_inner_steps,),
        "inner_lr",
        inner_lr,
        f"give one step size, or one for each of the {num_inner_steps} inner steps",
    )
    return jnp.broadcast_to(sizes, (num_inner_steps,))
