"""What a critic's predictions cost."""

import jax.numpy as jnp

from metarl_jax.types import Array


def value_error(
    value: Array,
    target: Array,
    collected: Array,
    huber_delta: Array | float | None = None,
    clip_eps: Array | float | None = None,
) -> Array:
    """``(V - target)^2``, or more robust versions of it; ``[...]`` like all arrays here.

    Args:
      value: ``V``, differentiated.
      target: the return that it should predict.
      collected: ``V`` under the parameters that collected.
      huber_delta: an error ``e`` beyond it costs ``delta (2 |e| - delta)``: the gradient is bounded (Huber, 1964).
      clip_eps: the larger of the costs of ``V`` and of ``V`` clipped to within so much of ``collected``: no gradient
        leads further away from there, as in the implementation of PPO by Dhariwal et al. (2017).

    Example:
      >>> one = jnp.ones(1)
      >>> value_error(4 * one, one, one, huber_delta=2.0).item()
      8.0
    """

    def cost(value: Array) -> Array:
        error = value - target
        if huber_delta is None:
            return jnp.square(error)
        size = jnp.abs(error)
        bounded = jnp.minimum(size, huber_delta)
        return bounded * (2.0 * size - bounded)

    if clip_eps is None:
        return cost(value)
    clipped = collected + jnp.clip(value - collected, -clip_eps, clip_eps)
    return jnp.maximum(cost(value), cost(clipped))
