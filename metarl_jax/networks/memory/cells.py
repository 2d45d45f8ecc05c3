"""Recurrent cells: what is remembered from step to step.

A loop over steps, differentiated, adds up the gradients of weights step by step: on CPUs, whose caches that suits, it
is left so. A GPU waits for each of the 40 kernels of such a step. On accelerators only what needs the memory of the
step before is done one at a time, a product and what the gates make of it; all else is one product for all steps.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge

from metarl_jax.checks import checked
from metarl_jax.networks.memory.protocol import Memory, Seen, forget
from metarl_jax.ops.factors import orthogonal
from metarl_jax.types import Array, Carry, Key, Params, PositiveInt

React = Callable[[Carry, Array, Array], Carry]
"""``(carry, given [B, gates h], recalled [B, gates h]) -> carry``, number by number: what the gates make of what the
input gives to them, and the memory."""


ChronoSteps = Annotated[int, Ge(2)]


class Kind(NamedTuple):
    """What a cell is made of: flax's module, how that calls the gates, what these do, whose biases keep and write."""

    module: Callable[..., Any]
    gates: tuple[str, ...]
    react: React
    keeps: str
    writes: str | None = None


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


GRU = Kind(nn.GRUCell, ("r", "z", "n"), _gru, keeps="iz")
LSTM = Kind(nn.OptimizedLSTMCell, ("i", "f", "g", "o"), _lstm, keeps="hf", writes="hi")


@checked
def gru(hidden_size: PositiveInt, *, chrono_steps: ChronoSteps | None = None) -> Memory:
    """A gated recurrent unit (Cho et al., 2014).

    Args:
      hidden_size: numbers that it remembers.
      chrono_steps: chrono initialisation (Tallec and Ollivier, 2018) for what must be remembered over up to so many
        steps: the gates start so that numbers are kept for 2 to ``chrono_steps`` of them, each for its own time. Left
        out, about half of every number is forgotten in each step at first.

    Example:
      >>> memory = gru(4)
      >>> seen = Seen(jnp.ones((7, 5, 3)), jnp.ones((7, 5, 2)))
      >>> carry, remembered = memory.read(memory.init(jax.random.key(0), 3, 2), memory.blank(5), seen)
      >>> carry.shape, remembered.shape
      ((5, 4), (7, 5, 4))
    """
    return _recurrent(GRU, hidden_size, chrono_steps, lambda batch_size: jnp.zeros((batch_size, hidden_size)))


@checked
def lstm(hidden_size: PositiveInt, *, chrono_steps: ChronoSteps | None = None) -> Memory:
    """Long short-term memory (Hochreiter and Schmidhuber, 1997); it carries twice what it shows.

    Args:
      hidden_size: numbers that it shows.
      chrono_steps: as for :func:`gru`.

    Example:
      >>> [x.shape for x in lstm(4).blank(5)]
      [(5, 4), (5, 4)]
    """
    return _recurrent(LSTM, hidden_size, chrono_steps, lambda batch_size: (jnp.zeros((batch_size, hidden_size)),) * 2)


def _recurrent(kind: Kind, hidden_size: int, chrono_steps: int | None, blank: Callable[[int], Carry]) -> Memory:
    module = kind.module(hidden_size, param_dtype=float, recurrent_kernel_init=orthogonal)

    def init(key: Key, feature_size: int, observation_size: int) -> Params:
        params = module.init(key, blank(1), jnp.zeros((1, feature_size)))["params"]
        return params if chrono_steps is None else _chrono(kind, key, params, chrono_steps)

    def step(params: Params, carry: Carry, at: tuple[Array, Array | None]) -> tuple[Carry, Array]:
        inputs, reset = at
        return module.apply({"params": params}, forget(reset, carry), inputs)

    def one_by_one(params: Params, carry: Carry, seen: Seen) -> tuple[Carry, Array]:
        return jax.lax.scan(partial(step, params), carry, (seen.features, seen.reset))

    def read(params: Params, carry: Carry, seen: Seen) -> tuple[Carry, Array]:
        if seen.features.shape[0] == 1:  # acting
            carry, remembered = step(params, carry, jax.tree.map(lambda x: x[0], (seen.features, seen.reset)))
            return carry, remembered[None]
        at_once = partial(read_at_once, kind)
        return jax.lax.platform_dependent(params, carry, seen, cpu=one_by_one, default=at_once)

    return Memory(init, blank, read, hidden_size)


def _chrono(kind: Kind, key: Key, params: Params, steps: int) -> Params:
    """``params`` whose gates keep numbers for times of 2 to ``steps`` steps, uniformly drawn."""
    kept = params[kind.keeps]["bias"]
    logit = jnp.log(jax.random.uniform(jax.random.fold_in(key, 1), kept.shape, kept.dtype, 1.0, steps - 1.0))
    gates = {kind.keeps: logit} | ({} if kind.writes is None else {kind.writes: -logit})
    return {**params, **{name: {**params[name], "bias": bias} for name, bias in gates.items()}}


def read_at_once(kind: Kind, params: Params, carry: Carry, seen: Seen) -> tuple[Carry, Array]:
    """``Memory.read`` in few kernels: the inputs' products, and the derivative's by all weights, are of all steps.

    Args:
      kind: :data:`GRU` or :data:`LSTM`.
      params: of the cell.
      carry: before the first step.
      seen: ``[T, B, ...]``.

    Returns:
      The last carry, and what is remembered after each step.
    """

    def side(letter: str) -> Weights:
        kernels = [params[letter + gate]["kernel"] for gate in kind.gates]
        biases = [params[letter + gate].get("bias", jnp.zeros(kernels[0].shape[1])) for gate in kind.gates]
        return Weights(jnp.concatenate(kernels, axis=-1), jnp.concatenate(biases))

    carries = _recur(kind.react, side("h"), carry, _project(side("i"), seen.features), seen.reset)
    return jax.tree.map(lambda x: x[-1], carries), _remembered(carries)


def _project(weights: Weights, x: Array) -> Array:
    return x @ weights.kernel + weights.bias


def _remembered(carry: Carry) -> Array:
    """What a cell shows of its carry: the second half of an LSTM's."""
    return jax.tree.leaves(carry)[-1]


def _run(react: React, own: Weights, carry: Carry, given: Array, reset: Array | None) -> tuple[Carry, Array]:
    """Carries after each step, and what the gates recalled in it: ``[T, B, ...]``."""

    def step(carry: Carry, at: tuple[Array, Array | None]) -> tuple[Carry, tuple[Carry, Array]]:
        given, reset = at
        before = forget(reset, carry)
        recalled = _project(own, _remembered(before))
        after = react(before, given, recalled)
        return after, (after, recalled)

    return jax.lax.scan(step, carry, (given, reset))[1]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recur(react: React, own: Weights, carry: Carry, given: Array, reset: Array | None) -> Carry:
    """Carries after each step; ``given`` is ``[T, B, gates h]``."""
    return _run(react, own, carry, given, reset)[0]


@_recur.defjvp
def _recur_tangents(react: React, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Carry, Carry]:
    """Its derivative: the gates are linearised, and the weights' changes taken, for all steps before the loop."""
    (own, carry, given, reset), (d_own, d_carry, d_given, _) = primals, tangents
    after, recalled = _run(react, own, carry, given, reset)
    before = forget(reset, jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), carry, after))
    gates = jax.vmap(lambda *at: jax.linearize(react, *at)[1])(before, given, recalled)
    d_recalled = _project(d_own, _remembered(before))

    def step(d_carry: Carry, at: tuple[Any, Array, Array, Array | None]) -> tuple[Carry, Carry]:
        gates, d_given, d_recalled, reset = at
        d_before = forget(reset, d_carry)
        d_after = gates(d_before, d_given, _remembered(d_before) @ own.kernel + d_recalled)
        return d_after, d_after

    return after, jax.lax.scan(step, d_carry, (gates, d_given, d_recalled, reset))[1]
