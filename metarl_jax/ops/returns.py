"""Returns and advantages of ``[T, B]`` reward streams.

Two ways for an episode to stop are kept apart. *Termination* ends the task: ``discount`` is 0 there and nothing is
earned afterwards (``mask`` is 0; so it is throughout an episode that does not count). The *time limit* only ends our
view of it: the value of the state after the last step, ``final_value`` ``[B]``, stands for the rest. Pass zeros to
treat the time limit as terminal. ``value`` is the estimate ``V(s_t)``, ``gamma`` the discount factor per step and
``gae_lambda`` the decay of traces, both in [0, 1]. ``axis_name`` is the mapped axis of devices whose data count too.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from metarl_jax.ops import trees
from metarl_jax.types import Array


def masked_mean(x: Array, mask: Array, axis_name: str | None = None) -> Array:
    """Mean of ``x`` where ``mask`` is 1, 0 if it is nowhere; the rest may hold anything, NaN included. ``[]``.

    Args:
      axis_name: mapped device axis whose data count too, or None.

    Example:
      >>> masked_mean(jnp.array([1.0, jnp.nan]), jnp.array([1.0, 0.0])).item()
      1.0
    """
    chex.assert_equal_shape([x, mask])
    total, count = _total_and_count(x, mask, axis_name)
    return total / jnp.maximum(count, 1.0)


def masked_mean_or_nan(x: Array, mask: Array, axis_name: str | None = None) -> Array:
    """:func:`masked_mean` that is NaN where there is nothing to average, for people to see.

    Example:
      >>> masked_mean_or_nan(jnp.ones(2), jnp.zeros(2)).item()
      nan
    """
    total, count = _total_and_count(x, mask, axis_name)
    return total / count


def _total_and_count(x: Array, mask: Array, axis_name: str | None) -> tuple[Array, Array]:
    return trees.psum((jnp.sum(jnp.where(mask > 0, x, 0.0)), jnp.sum(mask)), axis_name)


def device_weight(mask: Array, axis_name: str | None) -> Array:
    """What a masked mean of this device weighs, so that the devices' average is the masked mean of all their data.

    It is the device's share of all valid steps times the number of devices: 1 on a single one. Multiply a loss or a
    gradient by it before :func:`metarl_jax.ops.trees.pmean`.

    Example:
      >>> device_weight(jnp.array([1.0, 0.0]), None).item()
      1.0
    """
    count = jnp.sum(mask)
    average = trees.pmean(count, axis_name)
    return jnp.where(average > 0, count / jnp.where(average > 0, average, 1.0), 1.0)


def episode_return(reward: Array, mask: Array) -> Array:
    """Undiscounted return of each episode; ``[T, B] -> [B]``.

    Example:
      >>> episode_return(jnp.ones((3, 1)), jnp.array([[1.0], [1.0], [0.0]])).tolist()
      [2.0]
    """
    return jnp.sum(jnp.where(mask > 0, reward, 0.0), axis=0)


def is_dropped(mask: Array) -> Array:
    """Whether each episode is left out, since its environment failed; ``[T, B] -> [B]``.

    Example:
      >>> is_dropped(jnp.array([[1.0, 0.0], [0.0, 0.0]])).tolist()
      [False, True]
    """
    return mask[0] == 0.0


def has_terminated(discount: Array) -> Array:
    """Whether the task ended each episode; ``[T, B] -> [B]``.

    Example:
      >>> has_terminated(jnp.array([[1.0, 1.0], [0.0, 1.0]])).tolist()
      [True, False]
    """
    return jnp.any(discount == 0.0, axis=0)


def has_succeeded(success: Array) -> Array:
    """Whether each episode succeeded after any of its steps; ``[T, B] -> [B]``.

    Example:
      >>> has_succeeded(jnp.array([[True, False], [False, False]])).tolist()
      [True, False]
    """
    return jnp.any(success, axis=0)


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
      gae_lambda: trace decay, in [0, 1]; 1 gives Monte-Carlo returns minus values.

    Returns:
      ``[T, B]`` advantages, zero where ``mask`` is zero.

    Example:
      >>> one = jnp.ones((2, 1))
      >>> generalized_advantage(one, 0 * one, jnp.zeros(1), one, one, 0.5, 1.0).ravel().tolist()
      [1.5, 1.0]
    """
    chex.assert_equal_shape([reward, value, discount, mask])
    chex.assert_equal_shape([reward[0], final_value])
    next_value = jnp.concatenate([value[1:], final_value[None]])
    alive = mask > 0
    delta = jnp.where(alive, reward + gamma * discount * jnp.where(discount > 0, next_value, 0.0) - value, 0.0)
    decay = gamma * gae_lambda * discount * mask
    return _accumulated(delta, decay)


def _accumulated(delta: Array, decay: Array) -> Array:
    """``A_t = delta_t + decay_t A_{t+1}`` of ``[T, B]`` each, with nothing after the last."""
    return _as_suits(_step_by_step, _in_pairs, delta, decay)


def _as_suits(one_by_one: Callable[..., Array], in_pairs: Callable[..., Array], *given: Any) -> Array:
    """One by one on CPUs, and where the number of steps is symbolic, as in an exported function; else in pairs."""
    if not isinstance(given[0].shape[0], int):
        return one_by_one(*given)
    return jax.lax.platform_dependent(*given, cpu=one_by_one, default=in_pairs)


def _step_by_step(delta: Array, decay: Array) -> Array:
    def step(following: Array, xs: tuple[Array, Array]) -> tuple[Array, Array]:
        delta_t, decay_t = xs
        accumulated = delta_t + decay_t * following
        return accumulated, accumulated

    return jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, decay), reverse=True)[1]


def _in_pairs(delta: Array, decay: Array) -> Array:
    """In about ``2 log2(T)`` steps, as an accelerator waits for the launch of each."""

    def combine(later: tuple[Array, Array], earlier: tuple[Array, Array]) -> tuple[Array, Array]:
        (later_delta, later_decay), (delta_t, decay_t) = later, earlier
        return delta_t + decay_t * later_delta, decay_t * later_decay

    return jax.lax.associative_scan(combine, (delta, decay), reverse=True)[0]


def discounted_return(reward: Array, final_value: Array, discount: Array, mask: Array, gamma: Array | float) -> Array:
    """Discounted return from every step on, ``G_t = r_t + gamma d_t G_{t+1}`` with ``G_T = final_value``.

    Returns:
      ``[T, B]``, zero where ``mask`` is zero.

    Example:
      >>> one = jnp.ones((2, 1))
      >>> discounted_return(one, jnp.full(1, 4.0), one, one, 0.5).ravel().tolist()
      [2.5, 3.0]
    """
    return generalized_advantage(reward, jnp.zeros_like(reward), final_value, discount, mask, gamma, 1.0)


def trial_advantage(reward: Array, value: Array, mask: Array, gamma: Array | float, gae_lambda: Array | float) -> Array:
    """Generalised advantage estimates over a whole trial of several episodes.

    The end of an episode, by termination or by its time limit, does not end the trial: values and traces reach across
    it, from the last valid step of one episode to the first of the next. The end of the trial does: nothing is earned
    after it. Masked steps take no time.

    Args:
      reward: ``[T, B]`` the episodes of a trial in a row.
      value: ``[T, B]`` the estimate ``V`` of what the rest of the trial earns.

    Returns:
      ``[T, B]`` advantages, zero where ``mask`` is zero.

    Example:
      >>> one, mask = jnp.ones((3, 1)), jnp.array([[1.0], [0.0], [1.0]])
      >>> trial_advantage(one, 0 * one, mask, 0.5, 1.0).ravel().tolist()
      [1.5, 0.0, 1.0]
    """
    chex.assert_equal_shape([reward, value, mask])
    return _as_suits(_trial_step_by_step, _trial_in_pairs, reward, value, mask > 0, gamma, gae_lambda)


def _trial_step_by_step(
    reward: Array, value: Array, alive: Array, gamma: Array | float, gae_lambda: Array | float
) -> Array:
    def step(following: tuple[Array, Array], xs: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], Array]:
        next_value, next_advantage = following
        reward_t, value_t, is_alive = xs
        advantage = reward_t + gamma * next_value - value_t + gamma * gae_lambda * next_advantage
        return trees.where(is_alive, (value_t, advantage), following), jnp.where(is_alive, advantage, 0.0)

    end = jnp.zeros_like(reward[0])
    return jax.lax.scan(step, (end, end), (reward, value, alive), reverse=True)[1]


def _trial_in_pairs(
    reward: Array, value: Array, alive: Array, gamma: Array | float, gae_lambda: Array | float
) -> Array:
    """Steps that are left out pass on what follows: their decay is 1."""

    def combine(later: tuple[Array, Array], earlier: tuple[Array, Array]) -> tuple[Array, Array]:
        (later_value, later_alive), (value_t, alive_t) = later, earlier
        return jnp.where(alive_t, value_t, later_value), alive_t | later_alive

    end = jnp.zeros_like(value[:1])
    since = jax.lax.associative_scan(combine, (jnp.where(alive, value, 0.0), alive), reverse=True)[0]
    next_value = jnp.concatenate([since[1:], end])
    delta = jnp.where(alive, reward + gamma * next_value - value, 0.0)
    return jnp.where(alive, _in_pairs(delta, jnp.where(alive, gamma * gae_lambda, 1.0).astype(delta.dtype)), 0.0)


def normalize(advantage: Array, mask: Array, axis_name: str | None = None) -> Array:
    """``(A - mean) / (std + 1e-8)`` over the steps where ``mask`` is 1; zero elsewhere.

    Args:
      axis_name: mapped device axis whose steps count too, or None.

    Example:
      >>> normalize(jnp.array([1.0, 3.0, 9.0]), jnp.array([1.0, 1.0, 0.0])).tolist()
      [-1.0, 1.0, 0.0]
    """
    centred = advantage - masked_mean(advantage, mask, axis_name)
    std = jnp.sqrt(masked_mean(jnp.square(centred), mask, axis_name))
    return jnp.where(mask > 0, centred / (std + 1e-8), 0.0)
