"""Policy-gradient surrogate losses: scalars to minimise whose gradient estimates the policy gradient.

All take ``[T, B]`` log-probabilities and average over the steps where ``mask`` is 1. ``sampled_log_prob`` is the
log-probability under the policy that sampled the data, a constant stored with it: at the sampling parameters every
ratio is exactly 1, and all three losses have the same gradient there. Their Hessians differ.
"""

from collections.abc import Callable

import jax.numpy as jnp

from metarl_jax.ops.returns import masked_mean
from metarl_jax.types import Array

Surrogate = Callable[[Array, Array, Array, Array], Array]


def log_likelihood(log_prob: Array, sampled_log_prob: Array, advantage: Array, mask: Array) -> Array:
    """``-mean(log pi(a|s) A)``: the plain policy gradient (REINFORCE).

    Its Hessian misses the terms with products of scores, so a meta-gradient through it is biased.

    Args:
      log_prob: ``[T, B]`` under the parameters being differentiated.
      sampled_log_prob: ``[T, B]`` not used; all surrogates share one signature.
      advantage: ``[T, B]``.
      mask: ``[T, B]``.

    Returns:
      ``[]`` loss.

    Example:
      >>> one = jnp.ones((1, 1))
      >>> log_likelihood(-2 * one, -2 * one, one, one).item()
      2.0
    """
    del sampled_log_prob
    return -masked_mean(jnp.where(mask > 0, log_prob, 0.0) * advantage, mask)


def likelihood_ratio(log_prob: Array, sampled_log_prob: Array, advantage: Array, mask: Array) -> Array:
    """``-mean(pi(a|s) / pi_sampled(a|s) A)``: the low-variance curvature estimator (Rothfuss et al., 2018).

    Args:
      log_prob: ``[T, B]`` under the parameters being differentiated.
      sampled_log_prob: ``[T, B]`` under the sampling policy.
      advantage: ``[T, B]``.
      mask: ``[T, B]``.

    Returns:
      ``[]`` loss.

    Example:
      >>> one = jnp.ones((1, 1))
      >>> likelihood_ratio(one, one, one, one).item()
      -1.0
    """
    return -masked_mean(ratio(log_prob, sampled_log_prob, mask) * advantage, mask)


def clipped_ratio(
    log_prob: Array, sampled_log_prob: Array, advantage: Array, mask: Array, clip_eps: Array | float
) -> Array:
    """``-mean(min(r A, clip(r, 1 - eps, 1 + eps) A))``: PPO's clipped surrogate (Schulman et al., 2017).

    Args:
      log_prob: ``[T, B]`` under the parameters being differentiated.
      sampled_log_prob: ``[T, B]`` under the sampling policy.
      advantage: ``[T, B]``.
      mask: ``[T, B]``.
      clip_eps: half-width of the interval around 1, greater than 0.

    Returns:
      ``[]`` loss.

    Example:
      >>> one = jnp.ones((1, 1))
      >>> round(clipped_ratio(one, 0 * one, one, one, 0.25).item(), 3)
      -1.25
    """
    r = ratio(log_prob, sampled_log_prob, mask)
    clipped = jnp.clip(r, 1.0 - clip_eps, 1.0 + clip_eps)
    return -masked_mean(jnp.minimum(r * advantage, clipped * advantage), mask)


def ratio(log_prob: Array, sampled_log_prob: Array, mask: Array) -> Array:
    """``pi(a|s) / pi_sampled(a|s)``, and 1 where ``mask`` is 0; ``[T, B]``.

    Example:
      >>> ratio(jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.ones((1, 1))).item()
      1.0
    """
    return jnp.exp(jnp.where(mask > 0, log_prob - sampled_log_prob, 0.0))


INNER_SURROGATES: dict[str, Surrogate] = {
    "log_likelihood": log_likelihood,
    "likelihood_ratio": likelihood_ratio,
}
