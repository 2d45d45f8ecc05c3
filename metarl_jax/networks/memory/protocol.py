"""What a memory is: pure functions from what was seen, step by step, to what is remembered of it."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from metarl_jax.types import Array, Carry, Key, Params

T = TypeVar("T")


class Seen(NamedTuple):
    """What a memory is shown, time first.

    Attributes:
      features: ``[T, B, m]`` what values are made of: observation, previous action, reward and episode start,
        embedded or not.
      observation: ``[T, B, n]`` flat, for memories that address by it.
      reset: ``[T, B]`` 1.0 where the memory is blank before the step; None: nowhere.
    """

    features: Array
    observation: Array
    reset: Array | None = None


class Memory(NamedTuple):
    """A memory as pure functions. A step at a time, as when acting, and all at once give the same numbers.

    Attributes:
      init: ``(key, m, n) -> params``.
      blank: ``(batch_size) -> carry``, all zeros: a memory of nothing.
      read: ``(params, carry, Seen [T, B, ...]) -> (carry, remembered [T, B, size])``: the carry after the last step,
        and what is remembered at each, that step included.
      size: numbers that are remembered.
    """

    init: Callable[[Key, int, int], Params]
    blank: Callable[[int], Carry]
    read: Callable[[Params, Carry, Seen], tuple[Carry, Array]]
    size: int


def forget(reset: Array | None, carry: T) -> T:
    """A carry, blank where it is reset.

    Args:
      reset: ``[B]``, or more axes; None: nowhere.
      carry: the same axes, and others behind.

    Example:
      >>> forget(jnp.array([0.0, 1.0]), jnp.ones((2, 3))).tolist()
      [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """
    if reset is None:
        return carry
    return jax.tree.map(lambda x: jnp.where(jnp.expand_dims(reset, range(reset.ndim, x.ndim)) > 0, 0.0, x), carry)
