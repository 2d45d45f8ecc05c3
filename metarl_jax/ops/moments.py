"""Running mean and standard deviation of a stream of numbers, over all devices."""

from typing import NamedTuple

import jax.numpy as jnp

from metarl_jax.ops import trees
from metarl_jax.ops.returns import masked_mean
from metarl_jax.types import Array


class Moments(NamedTuple):
    """Of all numbers so far, on all devices.

    Attributes:
      how_many: ``[]``.
      mean: ``[]``.
      squares: ``[]`` sum of squared deviations from the mean.
    """

    how_many: Array
    mean: Array
    squares: Array


def no_moments() -> Moments:
    """Moments of nothing yet.

    Example:
      >>> no_moments().how_many.item()
      0.0
    """
    return Moments(*(jnp.zeros(()) for _ in range(3)))


def add_numbers(moments: Moments, x: Array, mask: Array, axis_name: str | None = None) -> Moments:
    """Moments of the numbers so far and of new ones (Chan et al., 1979).

    Args:
      moments: so far.
      x: ``[T, N]``.
      mask: ``[T, N]`` 1 where a number counts.
      axis_name: mapped device axis, or None.

    Example:
      >>> moments = add_numbers(no_moments(), jnp.array([[1.0, 3.0]]), jnp.ones((1, 2)))
      >>> moments.mean.item(), running_std(moments).item()
      (2.0, 1.0)
    """
    count = trees.psum(jnp.sum(mask), axis_name)
    mean = masked_mean(x, mask, axis_name)
    squares = count * masked_mean(jnp.square(x - mean), mask, axis_name)
    total = moments.how_many + count
    shift = mean - moments.mean
    share = count / jnp.maximum(total, 1.0)
    return Moments(
        total,
        moments.mean + share * shift,
        moments.squares + squares + jnp.square(shift) * moments.how_many * share,
    )


def running_std(moments: Moments) -> Array:
    """Standard deviation of the numbers so far, at least 1e-4; ``[]``.

    Example:
      >>> round(running_std(no_moments()).item(), 4)
      0.0001
    """
    return jnp.maximum(jnp.sqrt(moments.squares / jnp.maximum(moments.how_many, 1.0)), 1e-4)
