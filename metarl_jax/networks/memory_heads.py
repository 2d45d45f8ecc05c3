"""From what is remembered, and the present, to a distribution of actions and a value."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.networks.heads import ActionHead
from metarl_jax.networks.hypernetwork import dense_layer, emitted_layer, no_changes
from metarl_jax.networks.mlp import ACTIVATIONS, MLP
from metarl_jax.types import Array, Key, Params, PyTree, require

HeadsName = Literal["plain", "generated", "state", "hypernetwork"]


class Present(NamedTuple):
    """What there is to decide on beside the memory.

    Attributes:
      inputs: ``[..., m]`` what the memory was just fed.
      observation: ``[..., n]`` flat.
      privileged: ``[..., p]`` for the value alone.
    """

    inputs: Array
    observation: Array
    privileged: Array


class Sizes(NamedTuple):
    """Numbers in what is remembered, and in each part of :class:`Present`."""

    remembered: int
    inputs: int
    observation: int
    privileged: int


class Layers(NamedTuple):
    """Dense layers below the heads; none where there are no widths.

    Attributes:
      shared: widths of those right below both heads, ``"shortcut"``.
      state: of those that embed the observation, ``"state"``.
      latent: of those that embed what is remembered, ``"latent"``.
      activation: the function after each.
    """

    shared: tuple[int, ...] = ()
    state: tuple[int, ...] = ()
    latent: tuple[int, ...] = ()
    activation: str = "tanh"


class Heads(NamedTuple):
    """A policy's and a value's head on layers that they share.

    Attributes:
      init: ``(key of the policy's head, of the value's, of the layers below) -> params``.
      decide: ``(params, remembered [..., h], present) -> (dist_params, value [...])``.
      policy: paths of the policy's head.
      value: paths of what is the value's alone.
    """

    init: Callable[[Key, Key, Key], Params]
    decide: Callable[[Params, Array, Present], tuple[PyTree, Array]]
    policy: tuple[str, ...]
    value: tuple[str, ...]


Layer = Callable[[str, str, Array], Array]
"""``(network, layer, x) -> y``: a dense layer, by its path among the parameters."""


def heads_by_name(name: HeadsName, head: ActionHead, sizes: Sizes, layers: Layers) -> Heads:
    """:func:`memory_heads` (``plain``, ``generated``) or :func:`state_heads` (``state``, ``hypernetwork``).

    Args:
      name: as :func:`metarl_jax.networks.recurrent_policy` has it.
      head: the policy's.
      sizes: of what there is.
      layers: below the heads.

    Raises:
      ValueError: if layers are given that these heads do not have.
    """
    if name in ("state", "hypernetwork"):
        return state_heads(head, sizes, layers, hypernetwork=name == "hypernetwork")
    remedy = f"of no use with heads: {name}; take state or hypernetwork"
    require(not layers.state, "state_sizes", layers.state, remedy)
    require(not layers.latent, "latent_size", layers.latent and layers.latent[-1], remedy)
    return memory_heads(head, sizes, layers, generated=name == "generated")


def memory_heads(head: ActionHead, sizes: Sizes, layers: Layers, *, generated: bool = False) -> Heads:
    """Heads that are linear in what is remembered or in the shared layers, over that and the memory's input.

    Args:
      head: the policy's.
      sizes: of what there is.
      layers: the shared ones are used.
      generated: the weights of the policy's head are a linear function of its input.
    """
    num_seen = sizes.remembered + (sizes.inputs if layers.shared else 0)

    def init(*keys: Key) -> Params:
        params = _init_base(head, num_seen, sizes, layers, *keys)
        if generated:
            num_known = _num_out(num_seen, layers.shared)
            params["hypernetwork"] = no_changes({head.name: params[head.name]}, num_known)
        return params

    def decide(params: Params, remembered: Array, present: Present) -> tuple[PyTree, Array]:
        def layer(network: str, i: str, x: Array) -> Array:
            if generated and network == head.name:
                return emitted_layer(params[network][i], params["hypernetwork"][network][i], x, x)
            return dense_layer(params[network][i], x)

        seen = jnp.concatenate([remembered, present.inputs], axis=-1) if layers.shared else remembered
        return _decide(head, params, layer, layers.activation, seen, present.privileged)

    return Heads(init, decide, *_paths(head, generated, False))


def state_heads(head: ActionHead, sizes: Sizes, layers: Layers, *, hypernetwork: bool = False) -> Heads:
    """A network of the observation, which what is remembered stands beside or, with a hypernetwork, makes.

    Args:
      head: the policy's.
      sizes: of what there is.
      layers: those that embed are ordinary ones.
      hypernetwork: all weights of the shared layers and of both heads are emitted.
    """
    num_latent, num_state = _num_out(sizes.remembered, layers.latent), _num_out(sizes.observation, layers.state)
    num_seen = num_state if hypernetwork else num_latent + num_state

    def init(key_policy: Key, key_value: Key, key_below: Key) -> Params:
        params = _init_base(head, num_seen, sizes, layers, key_policy, key_value, key_below)
        emitted = {name: params[name] for name in ("shortcut", head.name, "value") if name in params}
        if hypernetwork:
            params["hypernetwork"] = no_changes(emitted, num_latent)
        key_state, key_latent = (jax.random.fold_in(key_below, i) for i in (1, 2))
        return {
            **params,
            **_init_layers("state", layers.state, sizes.observation, key_state),
            **_init_layers("latent", layers.latent, sizes.remembered, key_latent),
        }

    def decide(params: Params, remembered: Array, present: Present) -> tuple[PyTree, Array]:
        def plain(network: str, i: str, x: Array) -> Array:
            return dense_layer(params[network][i], x)

        def emitted(network: str, i: str, x: Array) -> Array:
            return emitted_layer(params[network][i], params["hypernetwork"][network][i], x, latent)

        state = _through(params, plain, layers.activation, "state", present.observation)
        latent = _through(params, plain, layers.activation, "latent", remembered)
        seen, layer = (state, emitted) if hypernetwork else (jnp.concatenate([latent, state], axis=-1), plain)
        return _decide(head, params, layer, layers.activation, seen, present.privileged)

    return Heads(init, decide, *_paths(head, hypernetwork, hypernetwork))


def _paths(head: ActionHead, policy_is_emitted: bool, value_is_emitted: bool) -> tuple[tuple[str, ...], ...]:
    """Of the policy's head, and of the value's: the weights, and how they change."""
    paths = {f"{head.name}/Dense_0": policy_is_emitted, "value": value_is_emitted}
    return tuple((path, f"hypernetwork/{path}") if emitted else (path,) for path, emitted in paths.items())


def _num_out(num_inputs: int, widths: tuple[int, ...]) -> int:
    """Numbers that come out of layers, if there are any."""
    return widths[-1] if widths else num_inputs


def _init_base(
    head: ActionHead, num_seen: int, sizes: Sizes, layers: Layers, key_policy: Key, key_value: Key, key_below: Key
) -> Params:
    """Both heads, and the layers that they share."""
    size = _num_out(num_seen, layers.shared)
    params = {head.name: MLP((), head.action.size).init(key_policy, jnp.zeros(size))["params"], **head.init(size)}
    params["value"] = MLP((), 1).init(key_value, jnp.zeros(size + sizes.privileged))["params"]
    return {**params, **_init_layers("shortcut", layers.shared, num_seen, key_below)}


def _init_layers(name: str, widths: tuple[int, ...], num_inputs: int, key: Key) -> Params:
    """By name; nothing without widths."""
    return {name: MLP(widths[:-1], widths[-1]).init(key, jnp.zeros(num_inputs))["params"]} if widths else {}


def _decide(
    head: ActionHead, params: Params, layer: Layer, activation: str, seen: Array, privileged: Array
) -> tuple[PyTree, Array]:
    known = _through(params, layer, activation, "shortcut", seen)
    output = layer(head.name, "Dense_0", known)
    judged = jnp.concatenate([known, privileged.astype(known.dtype)], axis=-1) if privileged.shape[-1] else known
    return head.distribute(params, output, known), layer("value", "Dense_0", judged)[..., 0]


def _through(params: Params, layer: Layer, activation: str, network: str, x: Array) -> Array:
    """Through all layers of a network, if there are any; an activation after each."""
    for i in range(len(params.get(network, ()))):
        x = ACTIVATIONS[activation](layer(network, f"Dense_{i}", x))
    return x
