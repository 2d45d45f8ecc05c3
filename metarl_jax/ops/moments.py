"""Running mean and standard deviation of a stream of numbers, over all devices.

Among parameters, :class:`Moments` are what is counted, not learned: no gradient step moves them.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.ops import trees
from metarl_jax.ops.returns import masked_mean
from metarl_jax.types import Array, PyTree


class Moments(NamedTuple):
    """Of all numbers so far, on all devices.

    Attributes:
      how_many: ``[]``.
      mean: ``[]``, or ``[*shape]`` of arrays, each number of which has moments of its own.
      squares: likewise, sum of squared deviations from the mean.
    """

    how_many: Array
    mean: Array
    squares: Array


def no_moments(shape: tuple[int, ...] = ()) -> Moments:
    """Moments of nothing yet.

    Example:
      >>> no_moments((2,)).mean.tolist()
      [0.0, 0.0]
    """
    return Moments(jnp.zeros(()), jnp.zeros(shape), jnp.zeros(shape))


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


def add_arrays(moments: Moments, x: Array, mask: Array, axis_name: str | None = None) -> Moments:
    """:func:`add_numbers` for each number of an array by itself.

    Args:
      moments: so far, of ``[n]``.
      x: ``[T, N, n]``.
      mask: ``[T, N]`` 1 where an array counts.
      axis_name: mapped device axis, or None.

    Example:
      >>> add_arrays(no_moments((2,)), jnp.array([[[1.0, 3.0], [2.0, 5.0]]]), jnp.ones((1, 2))).mean.tolist()
      [1.5, 4.0]
    """
    each = Moments._make((None, 0, 0))
    return jax.vmap(partial(add_numbers, axis_name=axis_name), in_axes=(each, -1, None), out_axes=each)(
        moments, x, mask
    )


def keep_moments(tree: PyTree, stepped: PyTree) -> PyTree:
    """What a step led to, but with the moments as they were before it, whatever it did to them (decay of weights).

    Args:
      tree: before the step.
      stepped: after it.

    Example:
      >>> keep_moments({"w": 1.0, "seen": Moments(5.0, 1.0, 1.0)}, {"w": 2.0, "seen": Moments(0.0, 0.0, 0.0)})
      {'seen': Moments(how_many=5.0, mean=1.0, squares=1.0), 'w': 2.0}
    """
    return jax.tree.map(lambda old, new: old if _are_moments(old) else new, tree, stepped, is_leaf=_are_moments)


def without_moments(tree: PyTree) -> PyTree:
    """The tree with None in the place of moments.

    Example:
      >>> without_moments({"w": 1.0, "seen": no_moments()})
      {'seen': None, 'w': 1.0}
    """
    return jax.tree.map(lambda leaf: None if _are_moments(leaf) else leaf, tree, is_leaf=_are_moments)


def _are_moments(tree: PyTree) -> bool:
    return isinstance(tree, Moments)
