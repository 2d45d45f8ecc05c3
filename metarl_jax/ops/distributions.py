"""Action distributions as functions of their parameters (the libraries for this need nightly builds)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.types import Array, Distribution, Key

_LOG_2PI = math.log(2.0 * math.pi)


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


def gaussian() -> Distribution:
    """Diagonal Gaussian over ``[..., action_size]`` real actions, parameters :class:`GaussianParams`.

    Example:
      >>> p = GaussianParams(jnp.zeros(2), jnp.zeros(2))
      >>> gaussian().kl(p, p).item()
      0.0
    """
    return Distribution(_gaussian_sample, _gaussian_log_prob, _gaussian_entropy, _gaussian_kl)


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


def categorical() -> Distribution:
    """Categorical over integers ``0..n-1``; the parameters are logits ``[..., n]``.

    Example:
      >>> round(categorical().entropy(jnp.zeros(4)).item(), 4) == round(math.log(4), 4)
      True
    """
    return Distribution(_categorical_sample, _categorical_log_prob, _categorical_entropy, _categorical_kl)
