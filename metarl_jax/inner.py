"""The inner loop: collect data while adapting, then replay the same adaptation to differentiate it.

``collect`` interacts: it samples K + 1 stages of data, adapting after each of the first K, and is constant as far as
gradients go. ``replay`` repeats the K updates on that data as a deterministic function of the meta-parameters, so an
outer loss built on it can be differentiated exactly, stepped on several times, and checked by finite differences.
"""

import operator
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.ops import trees
from metarl_jax.ops.baselines import fit_linear_baseline
from metarl_jax.ops.returns import discounted_return, generalized_advantage, masked_mean, normalize
from metarl_jax.ops.surrogates import Surrogate
from metarl_jax.rollout import rollout
from metarl_jax.types import (
    Array,
    Batch,
    Key,
    Params,
    Policy,
    PyTree,
    Task,
    TaskFamily,
    Trajectory,
    require,
    require_number,
)

Baseline = Literal["linear_feature", "zero", "critic"]
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
      collect: ``(params, task, key) -> (adapted params, K + 1 batches)``. No gradient flows through it.
      replay: ``(params, K + 1 batches) -> (adapted params, K + 1 evaluations)``, where evaluation ``k`` is of batch
        ``k`` under the parameters after ``k`` steps. Differentiable.
      value_loss: ``(evaluation, batch) -> []``: the weighted squared error of the critic, 0 without one.
    """

    collect: Callable[[Params, Task, Key], tuple[Params, Stages]]
    replay: Callable[[Params, Stages], tuple[Params, Evaluations]]
    value_loss: Callable[[Evaluation, Batch], Array]


def make_batch(
    policy: Policy,
    params: Params,
    trajectory: Trajectory,
    *,
    discount: Array | float,
    gae_lambda: Array | float,
    baseline: Baseline,
    time_limit_is_terminal: bool,
) -> Batch:
    """Score a trajectory: fit or evaluate the baseline, estimate and normalise advantages.

    The linear and the zero baseline estimate the return up to the horizon, so nothing is earned after it. A critic
    estimates the return without a time limit and is bootstrapped through it, unless ``time_limit_is_terminal``.

    Args:
      policy: what sampled the data.
      params: its parameters then.
      trajectory: ``[T, B, ...]``.
      discount: per step, in [0, 1].
      gae_lambda: trace decay in [0, 1].
      baseline: ``linear_feature``, ``zero`` or ``critic``.
      time_limit_is_terminal: give the state at the time limit the value 0.

    Returns:
      The batch, with gradients stopped.

    Example:
      >>> from metarl_jax import tasks, networks
      >>> family = tasks.navigation.navigation_finn(horizon=5)
      >>> policy = networks.mlp_policy(family.observation_shape, family.action)
      >>> params, key = policy.init(jax.random.key(0)), jax.random.key(1)
      >>> data = rollout(family, policy, params, family.sample(key), key, 3)
      >>> make_batch(policy, params, data, discount=0.99, gae_lambda=1.0, baseline="zero",
      ...            time_limit_is_terminal=False).advantage.shape
      (5, 3)
    """
    _, _, reward, step_discount, mask, *_ = trajectory
    num_episodes = reward.shape[1]
    final_value = jnp.zeros(num_episodes)
    if baseline == "critic":
        carry = policy.initial_carry(num_episodes)
        _, value = policy.evaluate(params, carry, trajectory.percept)
        if not time_limit_is_terminal:
            _, last = policy.evaluate(params, carry, jax.tree.map(lambda x: x[None], trajectory.final_percept))
            final_value = last[0]
    elif baseline == "linear_feature":
        target = discounted_return(reward, final_value, step_discount, mask, discount)
        value = fit_linear_baseline(trajectory.percept.observation, target, mask)
    else:
        value = jnp.zeros_like(reward)
    advantage = generalized_advantage(reward, value, final_value, step_discount, mask, discount, gae_lambda)
    batch = Batch(trajectory, normalize(advantage, mask), advantage + value)
    return jax.lax.stop_gradient(batch)


def make_inner_loop(
    family: TaskFamily,
    policy: Policy,
    *,
    surrogate: Surrogate,
    inner_lr: StepSizes,
    num_inner_steps: int,
    episodes_per_task: int,
    discount: Array | float,
    gae_lambda: Array | float,
    baseline: Baseline,
    first_order: bool = False,
    critic_coef: Array | float = 0.5,
    time_limit_is_terminal: bool = False,
    max_inner_grad_norm: Array | float | None = None,
    remat: bool = False,
) -> InnerLoop:
    """Gradient descent on a surrogate loss as the inner update: ``phi_{k+1} = phi_k - alpha_k grad L(phi_k; D_k)``.

    Args:
      family: where tasks come from.
      policy: what is adapted; a critic is adapted with it.
      surrogate: the inner policy loss.
      inner_lr: the step size ``alpha``, or one for each of the K steps.
      num_inner_steps: K; 0 gives plain policy gradients.
      episodes_per_task: B, episodes collected in each stage.
      discount: per step, in [0, 1].
      gae_lambda: trace decay in [0, 1].
      baseline: what is subtracted from returns.
      first_order: hold the inner gradient constant in ``replay`` (first-order MAML).
      critic_coef: weight of the critic's squared error beside the policy loss.
      time_limit_is_terminal: see :func:`make_batch`.
      max_inner_grad_norm: shorten a longer inner gradient to this norm; no limit if None.
      remat: recompute each inner step when differentiating instead of storing it: less memory.

    Returns:
      The loop.

    Raises:
      ValueError: if a size or a step size is out of range, or ``baseline`` is ``critic`` and the policy has none.

    Example:
      >>> from metarl_jax import tasks, networks
      >>> from metarl_jax.ops.surrogates import likelihood_ratio
      >>> family = tasks.navigation.navigation_finn(horizon=5)
      >>> policy = networks.mlp_policy(family.observation_shape, family.action)
      >>> loop = make_inner_loop(family, policy, surrogate=likelihood_ratio, inner_lr=0.1, num_inner_steps=1,
      ...     episodes_per_task=3, discount=0.99, gae_lambda=1.0, baseline="linear_feature")
      >>> params, stages = loop.collect(policy.init(jax.random.key(0)), family.sample(jax.random.key(1)),
      ...                               jax.random.key(2))
      >>> len(stages)
      2
    """
    step_sizes = _step_sizes(inner_lr, num_inner_steps)
    require_number("episodes_per_task", episodes_per_task, at_least=1)
    require(
        baseline != "critic" or policy.has_critic,
        "baseline",
        baseline,
        "needs a policy with a critic: set policy.critic_hidden_sizes, or choose linear_feature or zero",
    )

    def evaluate(params: Params, batch: Batch) -> Evaluation:
        carry = policy.initial_carry(episodes_per_task)
        dist_params, value = policy.evaluate(params, carry, batch.trajectory.percept)
        return Evaluation(policy.distribution.log_prob(dist_params, batch.trajectory.action), dist_params, value)

    def value_loss(evaluation: Evaluation, batch: Batch) -> Array:
        if not policy.has_critic:
            return jnp.zeros(())
        error = jnp.square(evaluation.value - batch.value_target)
        return critic_coef * masked_mean(error, batch.trajectory.mask)

    def inner_loss(params: Params, batch: Batch) -> tuple[Array, Evaluation]:
        evaluation = evaluate(params, batch)
        sampled = batch.trajectory
        loss = surrogate(evaluation.log_prob, sampled.log_prob, batch.advantage, sampled.mask)
        return loss + value_loss(evaluation, batch), evaluation

    def inner_step(params: Params, batch: Batch, step_size: Array) -> tuple[Params, Evaluation]:
        gradient, evaluation = jax.grad(inner_loss, has_aux=True)(params, batch)
        if max_inner_grad_norm is not None:
            gradient = trees.clip_by_norm(gradient, max_inner_grad_norm)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        return trees.add_scaled(params, -step_size, gradient), evaluation

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
        def stage(params: Params, k: Array) -> tuple[Params, Batch]:
            batch = sample_stage(params, task, jax.random.fold_in(key, k))
            if num_inner_steps == 0:
                return params, batch
            adapted = jax.lax.cond(
                k < num_inner_steps,
                lambda: inner_step(params, batch, step_sizes[jnp.minimum(k, num_inner_steps - 1)])[0],
                lambda: params,
            )
            return adapted, batch

        adapted, batches = jax.lax.scan(stage, params, jnp.arange(num_inner_steps + 1))
        stages = tuple(jax.tree.map(operator.itemgetter(k), batches) for k in range(num_inner_steps + 1))
        return jax.lax.stop_gradient((adapted, stages))

    def replay(params: Params, stages: Stages) -> tuple[Params, Evaluations]:
        step = jax.checkpoint(inner_step) if remat else inner_step
        evaluations = []
        for k in range(num_inner_steps):
            params, evaluation = step(params, stages[k], step_sizes[k])
            evaluations.append(evaluation)
        return params, (*evaluations, evaluate(params, stages[-1]))

    return InnerLoop(collect, replay, value_loss)


def _step_sizes(inner_lr: StepSizes, num_inner_steps: int) -> Array:
    """``[K]`` step sizes from one number or K of them."""
    require_number("num_inner_steps", num_inner_steps, at_least=0)
    sizes = jnp.asarray(inner_lr, dtype=float)
    require_number("inner_lr", sizes, at_least=0)
    require(
        sizes.ndim == 0 or sizes.shape == (num_inner_steps,),
        "inner_lr",
        inner_lr,
        f"give one step size, or one for each of the {num_inner_steps} inner steps",
    )
    return jnp.broadcast_to(sizes, (num_inner_steps,))
