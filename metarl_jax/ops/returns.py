"""Returns and advantages of ``[T, B]`` reward streams.

Two ways for an episode to stop are kept apart. *Termination* ends the task: ``discount`` is 0 there and nothing is
earned afterwards (``mask`` is 0). The *time limit* only ends our view of it: the value of the state after the last
step, ``final_value``, stands for the rest. Pass zeros to treat the time limit as terminal.
"""

import jax
import jax.numpy as jnp

from metarl_jax.types import Array


def masked_mean(x: Array, mask: Array) -> Array:
    """Mean of ``x`` where ``mask`` is 1; the rest may hold anything, NaN included. ``[]``.

    Example:
      >>> masked_mean(jnp.array([1.0, jnp.nan]), jnp.array([1.0, 0.0])).item()
      1.0
    """
    return jnp.sum(jnp.where(mask > 0, x, 0.0)) / jnp.maximum(jnp.sum(mask), 1.0)


def episode_return(reward: Array, mask: Array) -> Array:
    """Undiscounted return of each episode; ``[T, B] -> [B]``.

    Example:
      >>> episode_return(jnp.ones((3, 1)), jnp.array([[1.0], [1.0], [0.0]])).tolist()
      [2.0]
    """
    return jnp.sum(jnp.where(mask > 0, reward, 0.0), axis=0)


def generalized_advantage(
    reward: Array,
    value: Array,
    final_value: Array,
    discount: Array,
    mask: Array,
    gamma: Array | float,
    gae_lambda: Array | float,
) -> Array:
    """Generalised advantage estimates (Schulman et al., 2016).

    ``delta_t = r_t + gamma d_t V_{t+1} - V_t`` and ``A_t = delta_t + gamma lambda d_t A_{t+1}``.

    Args:
      reward: ``[T, B]``.
      value: ``[T, B]`` the estimate ``V(s_t)``.
      final_value: ``[B]`` the estimate ``V(s_T)`` at the time limit; zero to treat it as terminal.
      discount: ``[T, B]`` 0 where step ``t`` terminated the episode, else 1.
      mask: ``[T, B]`` 1 while the episode runs.
      gamma: discount factor per step, in [0, 1].
      gae_lambda: trace decay, in [0, 1]; 1 gives Monte-Carlo returns minus values.

    Returns:
      ``[T, B]`` advantages, zero where ``mask`` is zero.

    Example:
      >>> one = jnp.ones((2, 1))
      >>> generalized_advantage(one, 0 * one, jnp.zeros(1), one, one, 0.5, 1.0).ravel().tolist()
      [1.5, 1.0]
    """
    next_value = jnp.concatenate([value[1:], final_value[None]])
    alive = mask > 0
    delta = jnp.where(alive, reward + gamma * discount * jnp.where(discount > 0, next_value, 0.0) - value, 0.0)
    decay = gamma * gae_lambda * discount * mask

    def step(advantage: Array, xs: tuple[Array, Array]) -> tuple[Array, Array]:
        delta_t, decay_t = xs
        advantage = delta_t + decay_t * advantage
        return advantage, advantage

    _, advantage = jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, decay), reverse=True)
    return advantage


def discounted_return(reward: Array, final_value: Array, discount: Array, mask: Array, gamma: Array | float) -> Array:
    """Discounted return from every step on, ``G_t = r_t + gamma d_t G_{t+1}`` with ``G_T = final_value``.

    Args:
      reward: ``[T, B]``.
      final_value: ``[B]`` the value at the time limit; zero to treat it as terminal.
      discount: ``[T, B]`` 0 where step ``t`` terminated the episode, else 1.
      mask: ``[T, B]`` 1 while the episode runs.
      gamma: discount factor per step, in [0, 1].

    Returns:
      ``[T, B]``, zero where ``mask`` is zero.

    Example:
      >>> one = jnp.ones((2, 1))
      >>> discounted_return(one, jnp.full(1, 4.0), one, one, 0.5).ravel().tolist()
      [2.5, 3.0]
    """
    return generalized_advantage(reward, jnp.zeros_like(reward), final_value, discount, mask, gamma, 1.0)


def normalize(advantage: Array, mask: Array) -> Array:
    """``(A - mean) / (std + 1e-8)`` over the steps where ``mask`` is 1; zero elsewhere.

    Example:
      >>> normalize(jnp.array([1.0, 3.0, 9.0]), jnp.array([1.0, 1.0, 0.0])).tolist()
      [-1.0, 1.0, 0.0]
    """
    centred = advantage - masked_mean(advantage, mask)
    std = jnp.sqrt(masked_mean(jnp.square(centred), mask))
    return jnp.where(mask > 0, centred / (std + 1e-8), 0.0)
