"""Action distributions as functions of their parameters (the libraries for this need nightly builds)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.types import Array, Distribution, Key

_LOG_2PI = math.log(2.0 * math.pi)

SQUASH_REACH = 5.0
"""A squashed Gaussian is cut off here, before the tanh: beyond it single precision tells few actions apart."""

_SQUASH_LIMIT = math.tanh(SQUASH_REACH)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_FAR_TAIL = -10.0


class GaussianParams(NamedTuple):
    """Diagonal Gaussian: ``mean`` and ``log_std``, both ``[..., action_size]``."""

    mean: Array
    log_std: Array


def _gaussian_sample(params: GaussianParams, key: Key) -> Array:
    return params.mean + jnp.exp(params.log_std) * jax.random.normal(key, params.mean.shape, params.mean.dtype)


def _gaussian_log_prob(params: GaussianParams, action: Array) -> Array:
    standard = (action - params.mean) * jnp.exp(-params.log_std)
    return jnp.sum(-0.5 * standard**2 - params.log_std - 0.5 * _LOG_2PI, axis=-1)


def _gaussian_entropy(params: GaussianParams) -> Array:
    return jnp.sum(params.log_std + 0.5 * (1.0 + _LOG_2PI), axis=-1)


def _gaussian_kl(p: GaussianParams, q: GaussianParams) -> Array:
    variance_ratio = jnp.exp(2.0 * (p.log_std - q.log_std))
    distance = ((p.mean - q.mean) * jnp.exp(-q.log_std)) ** 2
    return 0.5 * jnp.sum(variance_ratio + distance - 1.0 + 2.0 * (q.log_std - p.log_std), axis=-1)


def _gaussian_mode(params: GaussianParams) -> Array:
    return params.mean


def gaussian() -> Distribution:
    """Diagonal Gaussian over ``[..., action_size]`` real actions, parameters :class:`GaussianParams`.

    Example:
      >>> p = GaussianParams(jnp.zeros(2), jnp.zeros(2))
      >>> gaussian().kl(p, p).item()
      0.0
    """
    return Distribution(_gaussian_sample, _gaussian_log_prob, _gaussian_entropy, _gaussian_kl, _gaussian_mode)


def _squash(unsquashed: Array) -> Array:
    return jnp.clip(jnp.tanh(unsquashed), -_SQUASH_LIMIT, _SQUASH_LIMIT)


def _squashed_sample(params: GaussianParams, key: Key) -> Array:
    return _squash(_gaussian_sample(params, key))


def _squashed_mode(params: GaussianParams) -> Array:
    return _squash(params.mean)


def _squashed_log_prob(params: GaussianParams, action: Array) -> Array:
    limit = jnp.asarray(_SQUASH_LIMIT, action.dtype)
    side, saturated = jnp.sign(action), jnp.abs(action) >= limit
    # Either branch gets an argument at which it is harmless where the other one is chosen.
    within = jnp.where(saturated, 0.0, action)
    standard = (jnp.arctanh(within) - params.mean) * jnp.exp(-params.log_std)
    density = -0.5 * standard**2 - params.log_std - 0.5 * _LOG_2PI - jnp.log1p(-within) - jnp.log1p(within)
    beyond = (side * params.mean - SQUASH_REACH) * jnp.exp(-params.log_std)
    return jnp.sum(jnp.where(saturated, _log_tail(jnp.where(saturated, beyond, 0.0)), density), axis=-1)


def _log_tail(x: Array) -> Array:
    """``log P(z < x)`` for a standard normal ``z``, with derivatives that stay finite however negative ``x`` is."""
    near, far = jnp.maximum(x, _FAR_TAIL), jnp.minimum(x, _FAR_TAIL)
    inverse = far**-2
    series = -inverse * (1.0 - inverse * (3.0 - inverse * (15.0 - 105.0 * inverse)))
    asymptote = -0.5 * far**2 - jnp.log(-far) - 0.5 * _LOG_2PI + jnp.log1p(series)
    return jnp.where(x < _FAR_TAIL, asymptote, jax.scipy.special.log_ndtr(near))


def _squashed_entropy(params: GaussianParams) -> Array:
    mean, std = params.mean[..., None], jnp.exp(params.log_std)[..., None]
    unsquashed = mean + std * jnp.asarray(_NODES, mean.dtype)
    log_slope = 2.0 * (math.log(2.0) - unsquashed - jax.nn.softplus(-2.0 * unsquashed))
    weights = jnp.asarray(_WEIGHTS / _WEIGHTS.sum(), mean.dtype)
    return _gaussian_entropy(params) + jnp.sum(log_slope * weights, axis=(-2, -1))


def tanh_gaussian() -> Distribution:
    """A diagonal Gaussian squashed into (-1, 1): ``a = tanh(u)``, ``u ~ N(mean, std)``, per component.

        log p(a) = log N(atanh a; mean, std) - log(1 - a^2)        |a| <  tanh 5
        log p(a) = log P(u beyond 5 on the side of a)              |a| >= tanh 5

    A single-precision ``a`` next to 1 no longer tells ``u``. So actions are clipped to ``tanh 5 = 0.99991``, and the
    two ends have the probability that is clipped to them: density and ends add up to 1, the score has mean zero, and
    a policy that has run far into saturation gets small gradients instead of wrong ones. The parameters are those of
    ``u``, :class:`GaussianParams`. The divergence is that of the Gaussians: tanh does not change it, and clipping can
    only make it smaller. The entropy has no closed form: it is the Gaussian's plus ``E[log(1 - tanh(u)^2)]`` by
    Gauss-Hermite quadrature with 32 nodes, without the clipping; off by less than 0.001 nats for ``std <= 2``, 0.03 for
    ``std <= 5``. The mode is taken of ``u``, ``tanh(mean)``: the density of ``a`` itself can peak at both ends.

    Example:
      >>> p = GaussianParams(jnp.zeros(1), jnp.zeros(1))
      >>> abs(tanh_gaussian().sample(p, jax.random.key(0)).item()) < 1
      True
    """
    return Distribution(_squashed_sample, _squashed_log_prob, _squashed_entropy, _gaussian_kl, _squashed_mode)


def _categorical_sample(logits: Array, key: Key) -> Array:
    return jax.random.categorical(key, logits)


def _categorical_log_prob(logits: Array, action: Array) -> Array:
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


def _categorical_entropy(logits: Array) -> Array:
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def _categorical_kl(p: Array, q: Array) -> Array:
    log_p, log_q = jax.nn.log_softmax(p), jax.nn.log_softmax(q)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def _categorical_mode(logits: Array) -> Array:
    return jnp.argmax(logits, axis=-1)


def categorical() -> Distribution:
    """Categorical over integers ``0..n-1``; the parameters are logits ``[..., n]``.

    Example:
      >>> round(categorical().entropy(jnp.zeros(4)).item(), 4) == round(math.log(4), 4)
      True
    """
    return Distribution(
        _categorical_sample, _categorical_log_prob, _categorical_entropy, _categorical_kl, _categorical_mode
    )
