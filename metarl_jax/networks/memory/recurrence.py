"""Linear recurrences, number by number: all steps at once on accelerators, one by one on CPUs.

An associative scan takes a stretch of ``T`` steps in ``2 log T`` passes over it, where a loop waits for ``T`` small
kernels. A CPU, which waits for none, does the loop's fewer operations sooner.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax.types import Array


@jax.custom_jvp
def linear_recurrence(decay: Array, inputs: Array, carry: Array) -> Array:
    """``h_t = decay_t h_{t-1} + inputs_t``; a decay of zero forgets.

    Its derivative, of any order, is another such recurrence.

    Args:
      decay: ``[T, B, n]``, real or complex; axes of one are repeated.
      inputs: ``[T, B, n]``.
      carry: ``[B, n]``, ``h_0``.

    Returns:
      ``[T, B, n]``, ``h`` after each step.

    Example:
      >>> linear_recurrence(jnp.full((1, 1, 1), 0.5), jnp.ones((3, 1, 1)), jnp.zeros((1, 1))).ravel().tolist()
      [1.0, 1.5, 1.75]
    """
    num_steps: Any = inputs.shape[0]
    if num_steps == 1:
        return decay * carry + inputs
    decay = jnp.broadcast_to(decay, (num_steps, *decay.shape[1:]))
    if not isinstance(num_steps, int):  # symbolic, in an exported function
        return one_by_one(decay, inputs, carry)
    return jax.lax.platform_dependent(decay, inputs, carry, cpu=one_by_one, default=at_once)


@linear_recurrence.defjvp
def _tangents(primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    (decay, inputs, carry), (d_decay, d_inputs, d_carry) = primals, tangents
    after = linear_recurrence(decay, inputs, carry)
    before = jnp.concatenate([carry[None], after[:-1]])
    return after, linear_recurrence(decay, d_inputs + d_decay * before, d_carry)


def one_by_one(decay: Array, inputs: Array, carry: Array) -> Array:
    """:func:`linear_recurrence` as a loop; ``decay`` has all steps."""

    def step(carry: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        decay, inputs = at
        after = decay * carry + inputs
        return after, after

    return jax.lax.scan(step, carry, (decay, inputs))[1]


def at_once(decay: Array, inputs: Array, carry: Array) -> Array:
    """:func:`linear_recurrence` as an associative scan; ``decay`` has all steps."""

    def combine(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        return first[0] * second[0], second[0] * first[1] + second[1]

    inputs = inputs.at[0].add(decay[0] * carry)
    return jax.lax.associative_scan(combine, (decay, inputs))[1]
