"""A transformer over the last steps: keys and values of each are kept, so that acting looks each one up only."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import checked
from metarl_jax.networks.attention import (
    Attend,
    Scheme,
    Transformer,
    Turns,
    attention,
    likeness,
    mixture,
    rotate,
    turns,
)
from metarl_jax.networks.memory.protocol import Memory, Seen, forget
from metarl_jax.types import Array, Key, Params, PositiveInt, require


class Cache(NamedTuple):
    """What a transformer made of the last steps, in a ring of ``window + 1`` places.

    Attributes:
      keys: of each layer ``[B, heads, window + 1, h]``, turned by the number of their place.
      values: likewise, not turned.
      is_there: ``[B, window + 1]`` 1.0, or 0.0 where there was no step or the memory has been made blank since.
      oldest: ``[B]`` the place that the next step takes.
    """

    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    is_there: Array
    oldest: Array


@checked
def transformer(
    hidden_size: PositiveInt,
    *,
    window: PositiveInt,
    num_layers: PositiveInt = 2,
    num_heads: PositiveInt = 4,
    scheme: Scheme = "pre_norm",
) -> Memory:
    """A causal transformer with rotary, that is relative, positions over a window of steps that slides along.

    A step sees itself and the ``window`` steps before it, in each of the layers: through these up to ``num_layers *
    window`` steps back. A window of as many steps as the trial has sees all of it.

    What is carried are the keys and values of the window and the present step, so one step costs ``O(window)`` and a
    stretch of ``T`` steps ``O(T * window)``. Each stays in its place of a ring until it is the oldest. A key is turned
    once, by the number of its place; a query twice, by its own place and by a round more: so it meets the keys of the
    round before. No position grows with the trial.

    Args:
      hidden_size: width of the layers.
      window: how many steps before the present one are seen.
      num_layers: blocks of attention and perceptron (of four times the width).
      num_heads: heads of attention, which share the width; each is to have an even number of it.
      scheme: ``pre_norm`` (Xiong et al., 2020), or ``t_fixup`` (Huang et al., 2020), without norms, as in TrMRL (Melo,
        2022).

    Raises:
      ValueError: if the heads cannot share the width.

    Example:
      >>> memory = transformer(8, window=6, num_heads=2, num_layers=1)
      >>> params = memory.init(jax.random.key(0), 3, 2)
      >>> seen = Seen(jnp.zeros((7, 5, 3)), jnp.zeros((7, 5, 2)), None)
      >>> cache, remembered = memory.read(params, memory.blank(5), seen)
      >>> remembered.shape, cache.keys[0].shape
      ((7, 5, 8), (5, 2, 7, 4))
    """
    remedy = f"hidden_size = {hidden_size} must be a multiple of twice as many"
    require(hidden_size % (2 * num_heads) == 0, "num_heads", num_heads, remedy)
    net = Transformer(hidden_size, num_layers, num_heads, scheme)

    def init(key: Key, feature_size: int, observation_size: int) -> Params:
        return net.init(key, jnp.zeros((1, feature_size)))["params"]

    def blank(batch_size: int) -> Cache:
        nothing = (jnp.zeros((batch_size, num_heads, window + 1, hidden_size // num_heads)),) * num_layers
        return Cache(nothing, nothing, jnp.zeros((batch_size, window + 1)), jnp.zeros(batch_size, jnp.int32))

    def read(params: Params, cache: Cache, seen: Seen) -> tuple[Cache, Array]:
        num_steps: Any = seen.features.shape[0]
        if not isinstance(num_steps, int):  # symbolic, in an exported function: blocks and angles need a number
            return _one_by_one(partial(read, params), cache, seen)
        is_there, oldest, attend = (
            _take_step(cache, seen.reset) if num_steps == 1 else _take_stretch(cache, num_steps, seen.reset)
        )
        past = tuple(zip(cache.keys, cache.values, strict=True))
        features = jnp.moveaxis(seen.features, 0, 1)
        remembered, kept = net.apply({"params": params}, features, past, attend, method=net.read)
        keys, values = zip(*kept, strict=True)
        return Cache(keys, values, is_there, oldest), jnp.moveaxis(remembered, 1, 0)

    return Memory(init, blank, read, hidden_size)


def _one_by_one(read: Callable[[Cache, Seen], tuple[Cache, Array]], cache: Cache, seen: Seen) -> tuple[Cache, Array]:
    def step(cache: Cache, one: Seen) -> tuple[Cache, Array]:
        cache, remembered = read(cache, jax.tree.map(lambda x: x[None], one))
        return cache, remembered[0]

    return jax.lax.scan(step, cache, seen)


def _take_step(cache: Cache, reset: Array | None) -> tuple[Array, Array, Attend]:
    """A step takes the place of the oldest, and attends to all that are there.

    Returns:
      ``is_there`` and ``oldest`` of the cache after it, and the attention of a layer.
    """
    num_places, size = cache.keys[0].shape[-2:]
    places, newest = np.arange(num_places), cache.oldest[:, None]
    is_newest, is_of_this_round = places == newest, places <= newest
    is_there = jnp.where(is_newest, 1.0, forget(None if reset is None else reset[0], cache.is_there))
    this_round, next_round = (_turns_at(newest, places + first, size) for first in (0, num_places))

    def attend(past: tuple[Array, Array], query: Array, key: Array, value: Array) -> tuple[Array, tuple[Array, Array]]:
        keys, values = (
            jnp.where(is_newest[:, None, :, None], new, old)
            for new, old in zip((rotate(key, this_round), value), past, strict=True)
        )
        both = jnp.concatenate([rotate(query, this_round), rotate(query, next_round)], axis=-2)
        scores = likeness(both, keys)
        scores = jnp.where(is_of_this_round[:, None, None], scores[..., :1, :], scores[..., 1:, :])
        return mixture(scores, values, is_there[:, None, None] > 0), (keys, values)

    return is_there, (cache.oldest + 1) % num_places, attend


def _turns_at(which: Array, positions: np.ndarray, size: int) -> Turns:
    """Of some of the positions, ``[B, n]``, for all heads."""
    every = turns(positions, size)
    return Turns(every.cos[which][:, None], every.sin[which][:, None])


def _take_stretch(cache: Cache, num_steps: int, reset: Array | None) -> tuple[Array, Array, Attend]:
    """``T`` steps at once, behind the ring's newest in their order; likewise."""
    num_places, size = cache.keys[0].shape[-2:]
    places, window, oldest = np.arange(num_places), num_places - 1, (cache.oldest + num_steps) % num_places
    in_order = (cache.oldest[:, None] + 1 + places[:window]) % num_places
    trial = _trials(jnp.take_along_axis(cache.is_there, in_order, axis=1), num_steps, reset)
    step = num_steps - 1 - (oldest[:, None] - 1 - places) % num_places  # that each place has; negative: one from before
    kept_trial = jnp.take_along_axis(trial, window + step, axis=1)
    onwards = _turns_at(window - in_order + places[:window], np.arange(2 * window) - window, size)
    present, at_places = turns(window + np.arange(num_steps), size), turns(places, size)

    def take(x: Array, which: Array) -> Array:
        return jnp.take_along_axis(x, which[:, None, :, None], axis=-2)

    def keep(old: Array, new: Array) -> Array:
        return jnp.where((step >= 0)[:, None, :, None], new, old)

    def attend(past: tuple[Array, Array], query: Array, key: Array, value: Array) -> tuple[Array, tuple[Array, Array]]:
        newer = jnp.maximum(step, 0)
        keys = jnp.concatenate([rotate(take(past[0], in_order), onwards), rotate(key, present)], axis=-2)
        values = jnp.concatenate([take(past[1], in_order), value], axis=-2)
        kept = keep(past[0], rotate(take(key, newer), at_places)), keep(past[1], take(value, newer))
        return _attend_in_window(window, rotate(query, present), keys, values, trial), kept

    return (kept_trial == trial[:, -1:]).astype(cache.is_there.dtype), oldest, attend


def _trials(is_there: Array, num_steps: int, reset: Array | None) -> Array:
    """Which trial each step is of, ``[B, window + T]``: one more from each reset on, -1 where there was no step."""
    present = jnp.zeros((is_there.shape[0], num_steps), jnp.int32)
    if reset is not None:
        present = jnp.cumsum(reset.T > 0, axis=1, dtype=jnp.int32)
    return jnp.concatenate([jnp.where(is_there > 0, 0, -1), present], axis=1)


def _attend_in_window(window: int, query: Array, keys: Array, values: Array, trial: Array) -> Array:
    """Attention of ``T`` queries, each to its own step and the ``window`` before it, as far as these are of its trial.

    In blocks of ``window`` queries, each with its own keys and those of the block before, where ``T`` is longer.

    Args:
      window: how many steps back.
      query: ``[B, heads, T, h]``, turned.
      keys: ``[B, heads, window + T, h]``, turned.
      values: likewise, not turned.
      trial: ``[B, window + T]``.

    Returns:
      ``[B, heads, T, h]``.
    """
    num_steps = query.shape[-2]
    size = min(num_steps, window)

    def queries(x: Array) -> Array:
        return _blocks(x, size)

    def seen(x: Array) -> Array:
        if size == num_steps:
            return x[..., None, :, :]
        blocks = _blocks(x, window)
        return jnp.concatenate([blocks[..., :-1, :, :], blocks[..., 1:, :, :]], axis=-2)

    ago = window + np.arange(size)[:, None] - np.arange(window + size)
    own, others = queries(trial[:, None, window:, None]), seen(trial[:, None, :, None])
    is_same = own == jnp.swapaxes(others, -1, -2)
    mixed = attention(queries(query), seen(keys), seen(values), is_same & (ago >= 0) & (ago <= window))
    return mixed.reshape(*query.shape[:2], -1, query.shape[-1])[..., :num_steps, :]


def _blocks(x: Array, size: int) -> Array:
    """``[..., n, m]`` as ``[..., blocks, size, m]``, with zeros behind where ``n`` is no multiple."""
    missing = -x.shape[-2] % size
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, missing), (0, 0)])
    return padded.reshape(*x.shape[:-2], -1, size, x.shape[-1])
