"""Recurrent cells: what is remembered from step to step.

A loop over steps, differentiated, adds up the gradients of weights step by step: on CPUs, whose caches that suits, it
is left so. A GPU waits for each of the 40 kernels of such a step. On accelerators only what needs the memory of the
step before is done one at a time, a product and what the gates make of it; all else is one product for all steps.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.types import Array, Carry, Key, Params, PositiveInt

CellName = Literal["gru", "lstm"]


class Cell(NamedTuple):
    """A recurrent cell as pure functions.

    Attributes:
      init: ``(key, input_size) -> params``.
      blank: ``(batch_size) -> carry``, all zeros.
      step: ``(params, carry, inputs [B, m]) -> (carry, remembered [B, hidden_size])``.
      unroll: the same for ``[T, B, m]``: ``remembered`` is of every step, the carry of the last.
    """

    init: Callable[[Key, int], Params]
    blank: Callable[[int], Carry]
    step: Callable[[Params, Carry, Array], tuple[Carry, Array]]
    unroll: Callable[[Params, Carry, Array], tuple[Carry, Array]]


React = Callable[[Carry, Array, Array], Carry]
"""``(carry, given [B, gates h], recalled [B, gates h]) -> carry``, number by number: what the gates make of what the
input gives to them, and the memory."""


class Kind(NamedTuple):
    """What a cell is made of: flax's module, how that calls the gates, and what they do."""

    module: Callable[..., Any]
    gates: tuple[str, ...]
    react: React


class Weights(NamedTuple):
    """Of all gates side by side: ``kernel`` ``[n, gates h]`` and ``bias`` ``[gates h]``."""

    kernel: Array
    bias: Array


def _gru(carry: Array, given: Array, recalled: Array) -> Array:
    (r_in, z_in, n_in), (r_own, z_own, n_own) = jnp.split(given, 3, axis=-1), jnp.split(recalled, 3, axis=-1)
    keep = nn.sigmoid(z_in + z_own)
    new = nn.tanh(n_in + nn.sigmoid(r_in + r_own) * n_own)
    return (1.0 - keep) * new + keep * carry


def _lstm(carry: tuple[Array, Array], given: Array, recalled: Array) -> tuple[Array, Array]:
    write, keep, new, show = jnp.split(recalled + given, 4, axis=-1)
    cell = nn.sigmoid(keep) * carry[0] + nn.sigmoid(write) * nn.tanh(new)
    return cell, nn.sigmoid(show) * nn.tanh(cell)


KINDS: dict[CellName, Kind] = {
    "gru": Kind(nn.GRUCell, ("r", "z", "n"), _gru),
    "lstm": Kind(nn.OptimizedLSTMCell, ("i", "f", "g", "o"), _lstm),
}


@checked
def recurrent_cell(name: CellName, hidden_size: PositiveInt) -> Cell:
    """A cell by name: ``gru`` (Cho et al., 2014) or ``lstm`` (Hochreiter and Schmidhuber, 1997).

    Args:
      name: of the cell.
      hidden_size: numbers that it remembers; an LSTM carries twice as many.

    Example:
      >>> cell = recurrent_cell("gru", 4)
      >>> carry, remembered = cell.unroll(cell.init(jax.random.key(0), 3), cell.blank(5), jnp.ones((7, 5, 3)))
      >>> remembered.shape
      (7, 5, 4)
    """
    kind = KINDS[name]
    module = kind.module(hidden_size, param_dtype=float)

    def blank(batch_size: int) -> Carry:
        zeros = jnp.zeros((batch_size, hidden_size))
        return (zeros, zeros) if name == "lstm" else zeros

    def init(key: Key, input_size: int) -> Params:
        return module.init(key, blank(1), jnp.zeros((1, input_size)))["params"]

    def step(params: Params, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        return module.apply({"params": params}, carry, inputs)

    def one_by_one(params: Params, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        return jax.lax.scan(partial(step, params), carry, inputs)

    def unroll(params: Params, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        all_at_once = partial(unroll_at_once, kind)
        return jax.lax.platform_dependent(params, carry, inputs, cpu=one_by_one, default=all_at_once)

    return Cell(init, blank, step, unroll)


def unroll_at_once(kind: Kind, params: Params, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
    """``Cell.unroll`` in few kernels: the inputs' products, and the derivative's by all weights, are of all steps.

    Args:
      kind: of :data:`KINDS`.
      params: of the cell.
      carry: before the first step.
      inputs: ``[T, B, m]``.

    Returns:
      The last carry, and what is remembered after each step.
    """

    def side(letter: str) -> Weights:
        kernels = [params[letter + gate]["kernel"] for gate in kind.gates]
        biases = [params[letter + gate].get("bias", jnp.zeros(kernels[0].shape[1])) for gate in kind.gates]
        return Weights(jnp.concatenate(kernels, axis=-1), jnp.concatenate(biases))

    carries = _recur(kind.react, side("h"), carry, _project(side("i"), inputs))
    return jax.tree.map(lambda x: x[-1], carries), _remembered(carries)


def _project(weights: Weights, x: Array) -> Array:
    return x @ weights.kernel + weights.bias


def _remembered(carry: Carry) -> Array:
    """What a cell shows of its carry: the second half of an LSTM's."""
    return jax.tree.leaves(carry)[-1]


def _run(react: React, own: Weights, carry: Carry, given: Array) -> tuple[Carry, Array]:
    """Carries after each step, and what the gates recalled in it: ``[T, B, ...]``."""

    def step(carry: Carry, given: Array) -> tuple[Carry, tuple[Carry, Array]]:
        recalled = _project(own, _remembered(carry))
        after = react(carry, given, recalled)
        return after, (after, recalled)

    return jax.lax.scan(step, carry, given)[1]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recur(react: React, own: Weights, carry: Carry, given: Array) -> Carry:
    """Carries after each step; ``given`` is ``[T, B, gates h]``."""
    return _run(react, own, carry, given)[0]


@_recur.defjvp
def _recur_tangents(react: React, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Carry, Carry]:
    """Its derivative: the gates are linearised, and the weights' changes taken, for all steps before the loop."""
    (own, carry, given), (d_own, d_carry, d_given) = primals, tangents
    after, recalled = _run(react, own, carry, given)
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), carry, after)
    gates = jax.vmap(lambda *at: jax.linearize(react, *at)[1])(before, given, recalled)
    d_recalled = _project(d_own, _remembered(before))

    def step(d_carry: Carry, at: tuple[Any, Array, Array]) -> tuple[Carry, Carry]:
        gates, d_given, d_recalled = at
        d_carry = gates(d_carry, d_given, _remembered(d_carry) @ own.kernel + d_recalled)
        return d_carry, d_carry

    return after, jax.lax.scan(step, d_carry, (gates, d_given, d_recalled))[1]
