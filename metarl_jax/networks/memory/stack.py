"""Layers of a recurrence each, one on top of another, that see all steps at once."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.networks.memory.protocol import Memory, Seen
from metarl_jax.networks.mlp import dense
from metarl_jax.types import Array, Key, Params


class Mixer(NamedTuple):
    """How a layer of ``n`` numbers mixes those of a step with those of the steps before.

    Attributes:
      init: ``(key) -> params``.
      carried: numbers that it carries from step to step; zeros are a blank memory.
      mix: ``(params, carry [B, carried], x [T, B, n], reset [T, B] or None) -> (carry, mixed [T, B, n])``.
    """

    init: Callable[[Key], Params]
    carried: int
    mix: Callable[[Params, Array, Array, Array | None], tuple[Array, Array]]


def stacked(hidden_size: int, num_layers: int, mixer: Mixer) -> Memory:
    """Residual layers ``x + y * sigmoid(W y + b)``, ``y = gelu(mix(norm(x)))``, on a dense one over what is seen.

    Args:
      hidden_size: width of the layers, and so what is remembered.
      num_layers: how many; each carries its own.
      mixer: for layers of this width.

    Returns:
      The memory. Parameters are ``"encoder"`` and of each layer, ``"layer_0"`` and so on, ``"norm"``, ``"mix"`` and
      ``"gate"``.

    Example:
      >>> sums = Mixer(lambda key: {}, 4, lambda params, carry, x, reset: (carry + x.sum(0), carry + jnp.cumsum(x, 0)))
      >>> memory = stacked(4, 2, sums)
      >>> params, seen = memory.init(jax.random.key(0), 3, 2), Seen(jnp.ones((7, 5, 3)), jnp.ones((7, 5, 2)))
      >>> carry, remembered = memory.read(params, memory.blank(5), seen)
      >>> remembered.shape, [x.shape for x in carry]
      ((7, 5, 4), [(5, 4), (5, 4)])
    """
    encoder, gate = dense(hidden_size), dense(hidden_size)
    norm = nn.LayerNorm(use_fast_variance=False, param_dtype=float)
    names = [f"layer_{i}" for i in range(num_layers)]

    def init_layer(key: Key) -> Params:
        key_mix, key_gate = jax.random.split(key)
        alike = jnp.zeros(hidden_size)
        made = {"norm": norm.init(key_mix, alike)["params"], "gate": gate.init(key_gate, alike)["params"]}
        return {**made, "mix": mixer.init(key_mix)}

    def init(key: Key, feature_size: int, observation_size: int) -> Params:
        first, *keys = jax.random.split(key, num_layers + 1)
        layers = {name: init_layer(key) for name, key in zip(names, keys, strict=True)}
        return {"encoder": encoder.init(first, jnp.zeros(feature_size))["params"], **layers}

    def blank(batch_size: int) -> tuple[Array, ...]:
        return (jnp.zeros((batch_size, mixer.carried)),) * num_layers

    def read(params: Params, carry: tuple[Array, ...], seen: Seen) -> tuple[tuple[Array, ...], Array]:
        x = jnp.asarray(encoder.apply({"params": params["encoder"]}, seen.features))
        kept = []
        for layer, before in zip((params[name] for name in names), carry, strict=True):
            normal = jnp.asarray(norm.apply({"params": layer["norm"]}, x))
            after, mixed = mixer.mix(layer["mix"], before, normal, seen.reset)
            y = nn.gelu(mixed)
            x = x + y * nn.sigmoid(jnp.asarray(gate.apply({"params": layer["gate"]}, y)))
            kept.append(after)
        return tuple(kept), x

    return Memory(init, blank, read, hidden_size)


def slowly(key: Key, size: int, slowest: float = 1e-3, fastest: float = 1e-1) -> Array:
    """Rates per step at which memories start to fade, ``[size]``: log-uniform, so that some last for a thousand steps.

    Example:
      >>> rates = slowly(jax.random.key(0), 100)
      >>> bool(rates.min() >= 1e-3), bool(rates.max() <= 1e-1)
      (True, True)
    """
    return jnp.exp(jax.random.uniform(key, (size,), minval=jnp.log(slowest), maxval=jnp.log(fastest)))


def faded(decay: Array, reset: Array | None) -> Array:
    """A decay ``[T, B, n]``, or less of it that is repeated, that forgets where it is reset, ``[T, B]``."""
    return decay if reset is None else jnp.where(reset[..., None] > 0, 0.0, decay)
