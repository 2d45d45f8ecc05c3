"""Split aggregation: of half of what is remembered the maximum so far, which no order of steps changes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.networks.memory.protocol import Memory, Seen, forget
from metarl_jax.types import Array, Carry, Params, require


class Aggregate(NamedTuple):
    """What is carried; all zeros at first.

    Attributes:
      memory: of the memory whose numbers are aggregated.
      maximum: ``[B, size // 2]`` so far.
      begun: ``[B]`` 1.0 once there is one.
    """

    memory: Carry
    maximum: Array
    begun: Array


def splagger(memory: Memory) -> Memory:
    """A memory of which half of the numbers go through a running maximum, the others past it (Beck et al., 2024).

    Raises:
      ValueError: if it has one number only.

    Example:
      >>> from metarl_jax.networks.memory.cells import gru
      >>> splagger(gru(4)).blank(5).maximum.shape
      (5, 2)
    """
    half = memory.size // 2
    require(half > 0, "hidden_size", memory.size, "splagger halves it: give at least 2")

    def blank(batch_size: int) -> Aggregate:
        return Aggregate(memory.blank(batch_size), jnp.zeros((batch_size, half)), jnp.zeros(batch_size))

    def read(params: Params, carry: Aggregate, seen: Seen) -> tuple[Aggregate, Array]:
        kept, remembered = memory.read(params, carry.memory, seen)

        def step(so_far: tuple[Array, Array], at: tuple[Array, Array | None]) -> tuple[tuple[Array, Array], Array]:
            new, reset = at
            maximum, begun = forget(reset, so_far)
            maximum = jnp.where(begun[:, None] > 0, jnp.maximum(maximum, new), new)
            return (maximum, jnp.ones_like(begun)), maximum

        rising, past = remembered[..., :half], remembered[..., half:]
        so_far, maxima = jax.lax.scan(step, (carry.maximum, carry.begun), (rising, seen.reset))
        return Aggregate(kept, *so_far), jnp.concatenate([maxima, past], axis=-1)

    return Memory(memory.init, blank, read, memory.size)
