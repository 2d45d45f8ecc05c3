"""Numbers just outside the range that training draws from, for tasks out of distribution."""

from collections.abc import Callable
from functools import partial

import jax

from metarl_jax.types import Array, Key

FRACTION = 0.5
"""How far beyond, as a fraction of the range's width (of a symmetric range: of its half-width)."""


def above(key: Key, low: float, high: float) -> Array:
    """Uniform on ``[high, high + (high - low) / 2]``.

    Example:
      >>> 2.0 <= float(above(jax.random.key(0), 0.0, 2.0)) <= 3.0
      True
    """
    return jax.random.uniform(key, minval=high, maxval=high + FRACTION * (high - low))


def faster_than(low: float, high: float) -> Callable[[Key], Array] | None:
    """A sampler of numbers :func:`above` a range, if it is more than a point.

    Example:
      >>> faster_than(1.0, 1.0) is None
      True
    """
    return partial(above, low=low, high=high) if high > low else None


def around(key: Key, shape: tuple[int, ...], half_width: Array | float) -> Array:
    """Of either sign, with a size uniform on ``[half_width, 1.5 half_width]``.

    Example:
      >>> 2.0 <= abs(float(around(jax.random.key(0), (), 2.0))) <= 3.0
      True
    """
    key_sign, key_size = jax.random.split(key)
    size = half_width * jax.random.uniform(key_size, shape, minval=1.0, maxval=1.0 + FRACTION)
    return jax.random.rademacher(key_sign, shape, size.dtype) * size
