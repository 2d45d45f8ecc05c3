"""Linear recurrences, number by number: all steps at once on accelerators, one by one on CPUs.

An associative scan takes a stretch of ``T`` steps in ``2 log T`` passes over it, where a loop waits for ``T`` small
kernels. A CPU, which waits for none, does the loop's fewer operations sooner.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax.types import Array

Times = Callable[[Array, Array], Array]
"""A product, number by number: linear in both sides, and the same whichever two of three are multiplied first."""


def complex_times(x: Array, y: Array) -> Array:
    """The product of complex numbers, whose imaginary parts stand behind all real ones.

    Example:
      >>> complex_times(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])).tolist()  # (1 + 2i) (3 + 4i)
      [-5.0, 10.0]
    """
    (a, b), (c, d) = jnp.split(x, 2, axis=-1), jnp.split(y, 2, axis=-1)
    return jnp.concatenate([a * c - b * d, a * d + b * c], axis=-1)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def linear_recurrence(times: Times, decay: Array, inputs: Array, carry: Array) -> Array:
    """``h_t = decay_t h_{t-1} + inputs_t``; a decay of zero forgets.

    Its derivative, of any order, is another such recurrence.

    Args:
      times: the product of a decay and a state.
      decay: ``[T, B, n]``; axes of one are repeated.
      inputs: ``[T, B, n]``.
      carry: ``[B, n]``, ``h_0``.

    Returns:
      ``[T, B, n]``, ``h`` after each step.

    Example:
      >>> half, ones = jnp.full((1, 1, 1), 0.5), jnp.ones((3, 1, 1))
      >>> linear_recurrence(jnp.multiply, half, ones, jnp.zeros((1, 1))).ravel().tolist()
      [1.0, 1.5, 1.75]
    """
    num_steps: Any = inputs.shape[0]
    decay = jnp.broadcast_to(decay, (num_steps, *decay.shape[1:]))
    if not isinstance(num_steps, int):  # symbolic, in an exported function
        return one_by_one(times, decay, inputs, carry)
    if num_steps == 1:
        return times(decay, carry[None]) + inputs
    ways = {"cpu": partial(one_by_one, times), "default": partial(at_once, times)}
    return jax.lax.platform_dependent(decay, inputs, carry, **ways)


@linear_recurrence.defjvp
def _tangents(times: Times, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (decay, inputs, carry), (d_decay, d_inputs, d_carry) = primals, tangents
    after = linear_recurrence(times, decay, inputs, carry)
    before = jnp.concatenate([carry[None], after[:-1]])
    return after, linear_recurrence(times, decay, d_inputs + times(d_decay, before), d_carry)


def one_by_one(times: Times, decay: Array, inputs: Array, carry: Array) -> Array:
    """:func:`linear_recurrence` as a loop; ``decay`` has all steps."""

    def step(carry: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        decay, inputs = at
        after = times(decay, carry) + inputs
        return after, after

    return jax.lax.scan(step, carry, (decay, inputs))[1]


def at_once(times: Times, decay: Array, inputs: Array, carry: Array) -> Array:
    """:func:`linear_recurrence` as an associative scan; ``decay`` has all steps."""

    def combine(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        return times(first[0], second[0]), times(second[0], first[1]) + second[1]

    inputs = inputs.at[0].add(times(decay[0], carry))
    return jax.lax.associative_scan(combine, (decay, inputs))[1]
