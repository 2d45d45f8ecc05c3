"""PPO on whole trials (Schulman et al., 2017): the loss of a policy with a memory, and its minibatches."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metarl_jax.algorithms.memory.core import EvaluateTrials
from metarl_jax.ops import trees
from metarl_jax.ops.returns import device_weight, masked_mean
from metarl_jax.ops.surrogates import clipped_ratio, ratio
from metarl_jax.types import Array, Batch, Distribution, Info, Key, Params, require


def ppo_loss(
    evaluate: EvaluateTrials,
    distribution: Distribution,
    clip_eps: Array | float,
    entropy_coef: Array | float,
    critic_coef: Array | float,
    axis_name: str | None = None,
) -> Callable[[Params, Batch], tuple[Array, Info]]:
    """``clipped surrogate + critic_coef mean (V - target)^2 - entropy_coef mean H`` (Schulman et al., 2017).

    Args:
      evaluate: the policy on whole trials.
      distribution: the policy's.
      clip_eps: half-width of the ratio's interval.
      entropy_coef: weight of the entropy bonus.
      critic_coef: weight of the critic's squared error.
      axis_name: mapped device axis, or None. Loss, info and gradient are such that their average over devices is that
        of all devices' trials, however many valid steps each of them has.

    Returns:
      ``(params, batch [T, N]) -> (loss [], info)``.
    """

    def loss(params: Params, batch: Batch) -> tuple[Array, Info]:
        sampled = batch.trajectory
        dist_params, value = evaluate(params, sampled.percept)
        log_prob = distribution.log_prob(dist_params, sampled.action)
        surrogate = clipped_ratio(log_prob, sampled.log_prob, batch.advantage, sampled.mask, clip_eps)
        value_loss = masked_mean(jnp.square(value - batch.value_target), sampled.mask)
        entropy = masked_mean(distribution.entropy(dist_params), sampled.mask)
        weight = device_weight(sampled.mask, axis_name)
        error = jnp.max(jnp.abs(ratio(jax.lax.stop_gradient(log_prob), sampled.log_prob, sampled.mask) - 1.0))
        info = {"value_loss": weight * value_loss, "outer_ratio_error": trees.pmax(error, axis_name)}
        return weight * (surrogate + critic_coef * value_loss - entropy_coef * entropy), info

    return loss


def minibatch_indices(key: Key, num_trials: int, num_epochs: int, num_minibatches: int) -> Array:
    """Which trials each optimiser step sees: every epoch all of them once, in an order of its own.

    Args:
      key: one key; epoch ``e`` is shuffled by ``fold_in(key, e)``.
      num_trials: ``N``.
      num_epochs: passes over the data.
      num_minibatches: steps per pass.

    Returns:
      ``[num_epochs * num_minibatches, N / num_minibatches]``.

    Raises:
      ValueError: if ``num_minibatches`` does not divide ``num_trials``.

    Example:
      >>> minibatch_indices(jax.random.key(0), 6, 2, 3).shape
      (6, 2)
    """
    require(
        num_trials % num_minibatches == 0,
        "num_minibatches",
        num_minibatches,
        f"must divide the {num_trials} trials of each device (its tasks times training.episodes_per_task)",
    )
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(num_epochs))
    orders = jax.vmap(lambda key: jax.random.permutation(key, num_trials))(keys)
    return orders.reshape(num_epochs * num_minibatches, -1)
