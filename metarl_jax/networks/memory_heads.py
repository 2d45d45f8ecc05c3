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


def heads_by_name(
    name: HeadsName,
    head: ActionHead,
    sizes: Sizes,
    head_sizes: tuple[int, ...],
    activation: str,
    state_sizes: tuple[int, ...] = (),
    latent_size: int | None = None,
) -> Heads:
    """:func:`memory_heads` (``plain``, ``generated``) or :func:`state_heads` (``state``, ``hypernetwork``).

    Raises:
      ValueError: if ``state_sizes`` or ``latent_size`` is given to those that have no such layers.
    """
    if name in ("state", "hypernetwork"):
        is_emitted = name == "hypernetwork"
        return state_heads(head, sizes, head_sizes, activation, state_sizes, latent_size, hypernetwork=is_emitted)
    remedy = f"of no use with heads: {name}; take state or hypernetwork"
    require(not state_sizes, "state_sizes", state_sizes, remedy)
    require(latent_size is None, "latent_size", latent_size, remedy)
    return memory_heads(head, sizes, head_sizes, activation, generated=name == "generated")


def memory_heads(
    head: ActionHead, sizes: Sizes, head_sizes: tuple[int, ...], activation: str, *, generated: bool = False
) -> Heads:
    """Heads that are linear in what is remembered or in layers, ``"shortcut"``, over that and the memory's input.

    Args:
      head: the policy's.
      sizes: of what there is.
      head_sizes: widths of the shared layers; none if empty.
      activation: the function after each of them.
      generated: the weights of the policy's head are a linear function of its input.
    """
    num_seen = sizes.remembered + (sizes.inputs if head_sizes else 0)

    def init(key_policy: Key, key_value: Key, key_below: Key) -> Params:
        params = _init_base(head, num_seen, sizes.privileged, head_sizes, (key_policy, key_value, key_below))
        if generated:
            size = params[head.name]["Dense_0"]["kernel"].shape[0]
            params["hypernetwork"] = no_changes({head.name: params[head.name]}, size)
        return params

    def decide(params: Params, remembered: Array, present: Present) -> tuple[PyTree, Array]:
        def layer(network: str, i: str, x: Array) -> Array:
            if generated and network == head.name:
                return emitted_layer(params[network][i], params["hypernetwork"][network][i], x, x)
            return dense_layer(params[network][i], x)

        seen = jnp.concatenate([remembered, present.inputs], axis=-1) if head_sizes else remembered
        return _decide(head, params, layer, activation, seen, present.privileged)

    return Heads(init, decide, *_paths(head, generated, False))


def state_heads(
    head: ActionHead,
    sizes: Sizes,
    head_sizes: tuple[int, ...],
    activation: str,
    state_sizes: tuple[int, ...] = (),
    latent_size: int | None = None,
    *,
    hypernetwork: bool = False,
) -> Heads:
    """A network of the observation, which what is remembered stands beside or, with a hypernetwork, makes.

    Args:
      head: the policy's.
      sizes: of what there is.
      head_sizes: widths of the layers that both heads share, ``"shortcut"``.
      activation: the function after each layer but the heads.
      state_sizes: widths of layers over the observation, ``"state"``; none if empty.
      latent_size: width of a layer over what is remembered, ``"latent"``; none if None.
      hypernetwork: all weights above ``"state"`` are emitted; otherwise they are ordinary ones.
    """
    latent_sizes = () if latent_size is None else (latent_size,)
    num_latent, num_state = _last(sizes.remembered, latent_sizes), _last(sizes.observation, state_sizes)
    num_seen = num_state if hypernetwork else num_latent + num_state
    embeddings = {"state": (state_sizes, sizes.observation), "latent": (latent_sizes, sizes.remembered)}

    def init(key_policy: Key, key_value: Key, key_below: Key) -> Params:
        params = _init_base(head, num_seen, sizes.privileged, head_sizes, (key_policy, key_value, key_below))
        emitted = {name: params[name] for name in ("shortcut", head.name, "value") if name in params}
        for i, (name, (widths, num_inputs)) in enumerate(embeddings.items(), 1):
            if widths:
                params[name] = _init_layers(widths, num_inputs, jax.random.fold_in(key_below, i))
        return {**params, "hypernetwork": no_changes(emitted, num_latent)} if hypernetwork else params

    def decide(params: Params, remembered: Array, present: Present) -> tuple[PyTree, Array]:
        def plain(network: str, i: str, x: Array) -> Array:
            return dense_layer(params[network][i], x)

        def emitted(network: str, i: str, x: Array) -> Array:
            return emitted_layer(params[network][i], params["hypernetwork"][network][i], x, latent)

        state = _through(params, plain, activation, "state", present.observation)
        latent = _through(params, plain, activation, "latent", remembered)
        if hypernetwork:
            return _decide(head, params, emitted, activation, state, present.privileged)
        seen = jnp.concatenate([latent, state], axis=-1)
        return _decide(head, params, plain, activation, seen, present.privileged)

    return Heads(init, decide, *_paths(head, hypernetwork, hypernetwork))


def _paths(head: ActionHead, policy_is_emitted: bool, value_is_emitted: bool) -> tuple[tuple[str, ...], ...]:
    """Of the policy's head, and of the value's: the weights, and how they change."""
    policy, value = f"{head.name}/Dense_0", "value"
    changes = {policy: policy_is_emitted, value: value_is_emitted}
    return tuple((path, f"hypernetwork/{path}") if emitted else (path,) for path, emitted in changes.items())


def _init_base(
    head: ActionHead, num_seen: int, num_privileged: int, head_sizes: tuple[int, ...], keys: tuple[Key, Key, Key]
) -> Params:
    """Both heads, and the layers that they share."""
    key_policy, key_value, key_below = keys
    size = _last(num_seen, head_sizes)
    params = {head.name: MLP((), head.action.size).init(key_policy, jnp.zeros(size))["params"], **head.init(size)}
    params["value"] = MLP((), 1).init(key_value, jnp.zeros(size + num_privileged))["params"]
    if head_sizes:
        params["shortcut"] = _init_layers(head_sizes, num_seen, key_below)
    return params


def _last(num_inputs: int, widths: tuple[int, ...]) -> int:
    """Numbers that come out of layers, if there are any."""
    return widths[-1] if widths else num_inputs


def _init_layers(widths: tuple[int, ...], num_inputs: int, key: Key) -> Params:
    return MLP(widths[:-1], widths[-1]).init(key, jnp.zeros(num_inputs))["params"]


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
