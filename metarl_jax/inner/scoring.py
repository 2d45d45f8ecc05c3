"""From a trajectory to a batch that a loss can use: baselines and advantages."""

from typing import Literal

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.ops.baselines import fit_linear_baseline
from metarl_jax.ops.returns import discounted_return, generalized_advantage, normalize
from metarl_jax.types import Array, Batch, Fraction, Params, Policy, Trajectory

Baseline = Literal["linear_feature", "zero", "critic"]


@checked
def make_batch(
    policy: Policy,
    params: Params,
    trajectory: Trajectory,
    *,
    discount: Array | Fraction,
    gae_lambda: Array | Fraction,
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
      >>> from metarl_jax import networks, rollout, tasks
      >>> family = tasks.navigation_finn(horizon=5)
      >>> policy = networks.mlp_policy(family.observation_shape, family.action)
      >>> params, key = policy.init(jax.random.key(0)), jax.random.key(1)
      >>> data = rollout(family, policy, params, family.sample(key), key, 3)
      >>> make_batch(policy, params, data, discount=0.99, gae_lambda=1.0, baseline="zero",
      ...            time_limit_is_terminal=False).advantage.shape
      (5, 3)
    """
    reward, step_discount, mask = trajectory.reward, trajectory.discount, trajectory.mask
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
