"""A transformer over the last steps: keys and values of each are kept, so that acting looks each one up only."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import checked
from metarl_jax.networks.attention import Scheme, Transformer, attention, rotate
from metarl_jax.networks.memory.protocol import Memory, Seen
from metarl_jax.types import Array, Key, Params, PositiveInt, require


class Cache(NamedTuple):
    """What a transformer made of the last ``window`` steps, the newest last.

    Attributes:
      keys: of each layer ``[B, window, heads, h]``, as before their positions.
      values: likewise.
      is_there: ``[B, window]`` 1.0, or 0.0 where there was no step or the memory has been made blank since.
    """

    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    is_there: Array


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

    What is carried are the keys and values of the window, so one step costs ``O(window)`` and a stretch of ``T`` steps
    ``O(T * window)``. They are stored unturned, and turned by their distance from the newest as they are read: no
    position grows with the trial.

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
      ((7, 5, 8), (5, 6, 2, 4))
    """
    remedy = f"hidden_size = {hidden_size} must be a multiple of twice as many"
    require(hidden_size % (2 * num_heads) == 0, "num_heads", num_heads, remedy)
    net = Transformer(hidden_size, num_layers, num_heads, scheme)

    def init(key: Key, feature_size: int, observation_size: int) -> Params:
        return net.init(key, jnp.zeros((1, feature_size)))["params"]

    def blank(batch_size: int) -> Cache:
        nothing = (jnp.zeros((batch_size, window, num_heads, hidden_size // num_heads)),) * num_layers
        return Cache(nothing, nothing, jnp.zeros((batch_size, window)))

    def read(params: Params, cache: Cache, seen: Seen) -> tuple[Cache, Array]:
        num_steps: Any = seen.features.shape[0]
        if not isinstance(num_steps, int):  # symbolic, in an exported function: blocks and angles need a number
            return _one_by_one(partial(read, params), cache, seen)
        features, trial = jnp.moveaxis(seen.features, 0, 1), _trials(cache.is_there, num_steps, seen.reset)

        def attend(past: tuple[Array, Array], query: Array, key: Array, value: Array) -> tuple[Array, tuple]:
            keys, values = (jnp.concatenate(pair, axis=1) for pair in zip(past, (key, value), strict=True))
            kept = keys[:, -window:], values[:, -window:]
            return _attend_in_window(window, query, keys, values, trial), kept

        past = tuple(zip(cache.keys, cache.values, strict=True))
        remembered, kept = net.apply({"params": params}, features, past, attend, method=net.read)
        is_there = (trial[:, -window:] == trial[:, -1:]).astype(cache.is_there.dtype)
        keys, values = zip(*kept, strict=True)
        return Cache(keys, values, is_there), jnp.moveaxis(remembered, 1, 0)

    return Memory(init, blank, read, hidden_size)


def _one_by_one(read: Callable[[Cache, Seen], tuple[Cache, Array]], cache: Cache, seen: Seen) -> tuple[Cache, Array]:
    def step(cache: Cache, one: Seen) -> tuple[Cache, Array]:
        cache, remembered = read(cache, jax.tree.map(lambda x: x[None], one))
        return cache, remembered[0]

    return jax.lax.scan(step, cache, seen)


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
      query: ``[B, T, heads, h]``.
      keys: ``[B, window + T, heads, h]``.
      values: likewise.
      trial: ``[B, window + T]``.

    Returns:
      ``[B, T, heads, h]``.
    """
    batch, num_steps = query.shape[:2]
    size = min(num_steps, window)
    missing = -num_steps % size

    def padded(x: Array) -> Array:
        return jnp.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2))

    def queries(x: Array) -> Array:
        return padded(x).reshape(batch, -1, size, *x.shape[2:])

    def seen(x: Array) -> Array:
        if size == num_steps:
            return x[:, None]
        blocks = padded(x).reshape(batch, -1, window, *x.shape[2:])
        return jnp.concatenate([blocks[:, :-1], blocks[:, 1:]], axis=2)

    query, keys = rotate(query, window + np.arange(num_steps)), rotate(keys, np.arange(window + num_steps))
    ago = window + np.arange(size)[:, None] - np.arange(window + size)
    is_same = queries(trial[:, window:])[..., None] == seen(trial)[..., None, :]
    mixed = attention(queries(query), seen(keys), seen(values), is_same & (ago >= 0) & (ago <= window))
    return mixed.reshape(batch, -1, *query.shape[2:])[:, :num_steps]
