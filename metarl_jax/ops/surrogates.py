"""Policy-gradient surrogate losses: scalars to minimise whose gradient estimates the policy gradient.

All take ``[T, B]`` arrays and average over the steps where ``mask`` is 1. ``log_prob`` is under the parameters being
differentiated, ``sampled_log_prob`` under the policy that sampled the data, a constant stored with it: at the sampling
parameters every ratio is exactly 1, and all losses have the same gradient there (``dice`` weighs step ``t`` by
``discount**t`` besides). Their Hessians differ. With scores ``g_t = grad log pi(a_t|s_t)`` and gains ``G_t`` the
Hessian of the expected return is ``H1 + H2 + H12 + H12^T``: ``H1 = E[sum g_t g_t^T G_t]``, ``H2 = E[sum grad g_t
G_t]``, ``H12`` between the steps.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import chex
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.ops.returns import masked_mean
from metarl_jax.types import Array, Fraction

Surrogate = Callable[[Array, Array, Array, Array], Array]
Estimator = Literal["log_likelihood", "likelihood_ratio", "dice", "loaded_dice", "taypo2"]
"""Surrogates of an inner step, by the Hessian they estimate: see :func:`make_surrogate`."""


def log_likelihood(log_prob: Array, sampled_log_prob: Array, advantage: Array, mask: Array) -> Array:
    """``-mean(log pi(a|s) A)``: the plain policy gradient (REINFORCE).

    Its Hessian misses the terms with products of scores, so a meta-gradient through it is biased.

    Example:
      >>> one = jnp.ones((1, 1))
      >>> log_likelihood(-2 * one, -2 * one, one, one).item()
      2.0
    """
    chex.assert_equal_shape([log_prob, sampled_log_prob, advantage, mask])
    del sampled_log_prob
    return -masked_mean(jnp.where(mask > 0, log_prob, 0.0) * advantage, mask)


def likelihood_ratio(log_prob: Array, sampled_log_prob: Array, advantage: Array, mask: Array) -> Array:
    """``-mean(pi(a|s) / pi_sampled(a|s) A)``: the low-variance curvature estimator (Rothfuss et al., 2018).

    Example:
      >>> one = jnp.ones((1, 1))
      >>> likelihood_ratio(one, one, one, one).item()
      -1.0
    """
    chex.assert_equal_shape([log_prob, sampled_log_prob, advantage, mask])
    return -masked_mean(ratio(log_prob, sampled_log_prob, mask) * advantage, mask)


def clipped_ratio(
    log_prob: Array, sampled_log_prob: Array, advantage: Array, mask: Array, clip_eps: Array | float
) -> Array:
    """``-mean(min(r A, clip(r, 1 - eps, 1 + eps) A))``: PPO's clipped surrogate (Schulman et al., 2017).

    Args:
      clip_eps: half-width of the interval around 1, greater than 0.

    Example:
      >>> one = jnp.ones((1, 1))
      >>> round(clipped_ratio(one, 0 * one, one, one, 0.25).item(), 3)
      -1.25
    """
    chex.assert_equal_shape([log_prob, sampled_log_prob, advantage, mask])
    r = ratio(log_prob, sampled_log_prob, mask)
    clipped = jnp.clip(r, 1.0 - clip_eps, 1.0 + clip_eps)
    return -masked_mean(jnp.minimum(r * advantage, clipped * advantage), mask)


def ratio(log_prob: Array, sampled_log_prob: Array, mask: Array) -> Array:
    """``pi(a|s) / pi_sampled(a|s)``, and 1 where ``mask`` is 0; ``[T, B]``.

    Example:
      >>> ratio(jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.ones((1, 1))).item()
      1.0
    """
    chex.assert_equal_shape([log_prob, sampled_log_prob, mask])
    return jnp.exp(_log_ratio(log_prob, sampled_log_prob, mask))


def dice(log_prob: Array, sampled_log_prob: Array, advantage: Array, mask: Array, discount: Array | float) -> Array:
    """``-mean(gamma^t rho_t r_t)`` with ``rho_t = prod_{s<=t} pi / pi_sampled``: DiCE (Foerster et al., 2018).

    The rewards are those that the advantages are made of, ``r_t = A_t - gamma A_{t+1}``: the task's own with the zero
    baseline, shaped by the baseline's values else, which lowers the variance and changes no expectation. Its Hessian
    is unbiased if ``gae_lambda`` is 1.

    Args:
      discount: ``gamma``, per step.

    Example:
      >>> one = jnp.ones((1, 1))
      >>> dice(one, one, 3 * one, one, 0.9).item()
      -3.0
    """
    chex.assert_equal_shape([log_prob, sampled_log_prob, advantage, mask])
    valid = _valid(advantage, mask)
    following = jnp.concatenate([valid[1:], jnp.zeros_like(valid[:1])])
    reward = valid - discount * following
    rho = jnp.exp(jnp.cumsum(_log_ratio(log_prob, sampled_log_prob, mask), axis=0))
    weight = jnp.power(discount, jnp.arange(valid.shape[0]))[:, None]
    return -masked_mean(weight * rho * reward, mask)


def loaded_dice(log_prob: Array, sampled_log_prob: Array, advantage: Array, mask: Array, decay: Array | float) -> Array:
    """``-mean(A_t (exp(w_t) - exp(w_t - l_t)))``, ``w_t = lambda w_{t-1} + l_t`` (Farquhar et al., 2019).

    ``l_t`` is the log-ratio of step ``t``. At ``lambda = 1`` the Hessian is unbiased; at 0 this is
    :func:`likelihood_ratio` up to a constant: the decay trades bias for variance. Theirs is also a trace decay ``tau``
    of the advantages: ``gae_lambda`` here.

    Args:
      decay: ``lambda`` in [0, 1].

    Example:
      >>> one = jnp.ones((1, 1))
      >>> loaded_dice(one, one, one, one, 1.0).item()
      -0.0
    """
    chex.assert_equal_shape([log_prob, sampled_log_prob, advantage, mask])
    log_ratio = _log_ratio(log_prob, sampled_log_prob, mask)
    steps = jnp.arange(log_ratio.shape[0])
    lag = jnp.subtract.outer(steps, steps)
    kernel = jnp.where(lag >= 0, jnp.power(decay, jnp.maximum(lag, 0)), 0.0).astype(log_ratio.dtype)
    trace = kernel @ log_ratio
    return -masked_mean(_valid(advantage, mask) * (jnp.exp(trace) - jnp.exp(trace - log_ratio)), mask)


def taypo2(log_prob: Array, sampled_log_prob: Array, advantage: Array, mask: Array) -> Array:
    """``-mean(A_t x_t (1 + sum_{s<t} x_s))``, ``x_t = ratio_t - 1``: the second-order expansion of Tang et al. (2021).

    Products of at most two terms ``x``: unbiased second derivatives at the sampling parameters, and no products over
    whole episodes away from them.

    Example:
      >>> one = jnp.ones((1, 1))
      >>> taypo2(one, one, one, one).item()
      -0.0
    """
    chex.assert_equal_shape([log_prob, sampled_log_prob, advantage, mask])
    x = ratio(log_prob, sampled_log_prob, mask) - 1.0
    before = jnp.cumsum(x, axis=0) - x
    return -masked_mean(_valid(advantage, mask) * x * (1.0 + before), mask)


def _log_ratio(log_prob: Array, sampled_log_prob: Array, mask: Array) -> Array:
    return _valid(log_prob - sampled_log_prob, mask)


def _valid(x: Array, mask: Array) -> Array:
    """Zero where masked: later steps' products must not meet a NaN from there, in the backward pass either."""
    return jnp.where(mask > 0, x, 0.0)


@checked
def make_surrogate(estimator: Estimator, discount: Array | Fraction = 1.0, decay: Array | Fraction = 1.0) -> Surrogate:
    """The surrogate of an inner step by name.

    ========================  =====================================================
    ``log_likelihood``        ``H2``: biased
    ``likelihood_ratio``      ``H1 + H2``: low variance; exact at horizon 1 (LVC)
    ``dice``                  the whole Hessian, high variance
    ``loaded_dice``           the whole Hessian at decay 1, ``H1 + H2`` at decay 0
    ``taypo2``                the whole Hessian
    ========================  =====================================================

    Args:
      estimator: its name.
      discount: of the rewards; for ``dice``.
      decay: of past log-ratios; for ``loaded_dice``.

    Returns:
      ``(log_prob, sampled_log_prob, advantage, mask) -> loss []``.

    Example:
      >>> make_surrogate("taypo2") is taypo2
      True
    """
    surrogates: dict[Estimator, Surrogate] = {
        "log_likelihood": log_likelihood,
        "likelihood_ratio": likelihood_ratio,
        "dice": partial(dice, discount=discount),
        "loaded_dice": partial(loaded_dice, decay=decay),
        "taypo2": taypo2,
    }
    return surrogates[estimator]
