"""From a network to a policy without memory: the distribution of actions, acting and evaluating, the critic."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.networks.heads import action_head
from metarl_jax.types import (
    ActionSpec,
    Array,
    Carry,
    Key,
    NonNegativeInt,
    Params,
    Parts,
    Percept,
    Policy,
    PositiveFloat,
    PyTree,
    require,
)


@checked
def memoryless_policy(
    network: Any,
    critic: Any | None,
    observation_shape: tuple[int, ...],
    action: ActionSpec,
    *,
    init_std: PositiveFloat = 1.0,
    min_std: PositiveFloat = 1e-6,
    squash: bool = False,
    state_dependent_std: bool = False,
    shared_torso: bool = False,
    context_size: NonNegativeInt = 0,
    privileged_size: NonNegativeInt = 0,
    head_layer: str | None = None,
) -> Policy:
    """Make a policy of a network that maps observations to means or logits.

    Parameters are ``{"mean": network, "log_std": [action_size]}``, ``{"logits": network}`` when discrete, and with a
    critic ``"value"``, with a context ``"context"``. A ``log_std`` that depends on the observation is a ``kernel``
    and a ``bias``.

    Args:
      network: a flax module from ``[N, n]`` (a flattened observation and the context behind it) to
        ``[N, action_size]``. Only a shared torso and a state-dependent standard deviation need more: a method
        ``layers`` that also returns the last hidden layer ``[N, h]``.
      critic: a flax module from ``[N, n]``, or from ``[N, h]`` if the torso is shared, to ``[N, 1]``, with
        privileged numbers behind; or None.
      observation_shape: shape of one observation.
      action: what the task takes.
      init_std: initial standard deviation, before squashing.
      min_std: its floor.
      squash: keep continuous actions in (-1, 1) by a tanh.
      state_dependent_std: the standard deviation is a function of the last hidden layer.
      shared_torso: the critic stands on the network's last hidden layer.
      context_size: numbers of a context that is a parameter.
      privileged_size: how many of the last numbers of a flat observation are for the critic alone.
      head_layer: path of the network's last layer among its parameters, which ANIL adapts; if left out, ANIL has to be
        told.

    Returns:
      The policy; its ``parts`` name these parameters.

    Raises:
      ValueError: if a standard deviation is out of range, an option for continuous actions meets discrete ones, or
        nothing is left that the policy may see, or the network has no ``layers`` where its last hidden layer is needed.

    Example:
      >>> from metarl_jax.networks.mlp import MLP
      >>> policy = memoryless_policy(MLP((8,), 3), None, (2,), ActionSpec(3))
      >>> sorted(policy.init(jax.random.key(0)))
      ['log_std', 'mean']
    """
    head = action_head(
        action, init_std=init_std, min_std=min_std, squash=squash, state_dependent_std=state_dependent_std
    )
    _require_layers(network, shared_torso=shared_torso, state_dependent_std=state_dependent_std)
    distribution = head.distribution
    public_size = num_public(observation_shape, privileged_size)
    shown_to_critic = partial(_shown_to_critic, shared_torso, public_size)

    def init(key: Key) -> Params:
        key_policy, key_value = jax.random.split(key)
        blank, context = jnp.zeros((1, math.prod(observation_shape))), jnp.zeros(context_size)
        inputs = _beside(context, blank[:, :public_size])
        (_, hidden), variables = network.init_with_output(key_policy, inputs, method=_layers)
        params = {head.name: variables["params"], **head.init(hidden.shape[-1])}
        if context_size:
            params["context"] = context
        if critic is not None:
            params["value"] = critic.init(key_value, shown_to_critic(hidden, blank))["params"]
        return params

    def look(params: Params, observation: Array) -> tuple[PyTree, Array | None]:
        leading, flat = _flatten(observation, observation_shape)
        inputs = _beside(params.get("context"), flat[:, :public_size])
        output, hidden = network.apply({"params": params[head.name]}, inputs, method=_layers)
        dist_params, value = head.distribute(params, output, hidden), None
        if critic is not None:
            value = critic.apply({"params": params["value"]}, shown_to_critic(hidden, flat))[:, 0]
        return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), (dist_params, value))

    def act(params: Params, carry: Carry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, Carry]:
        dist_params, _ = look(params, percept.observation)
        chosen = distribution.sample(dist_params, key)
        return chosen, distribution.log_prob(dist_params, chosen), dist_params, carry

    def evaluate(params: Params, carry: Carry, percept: Percept) -> tuple[PyTree, Array]:
        dist_params, value = look(params, percept.observation)
        return dist_params, jnp.zeros(percept.previous_reward.shape) if value is None else value

    parts = Parts(
        head=() if head_layer is None else (f"{head.name}/{head_layer}",),
        critic=() if critic is None else ("value",),
        context=("context",) if context_size else (),
    )
    return Policy(init, lambda batch_size: (), act, evaluate, distribution, parts)


def _require_layers(network: Any, **options: bool) -> None:
    for option, needed in options.items():
        remedy = (
            f"give {type(network).__name__} a method 'layers' that returns output and last hidden layer, as MLP has"
        )
        require(not needed or _shows_hidden(network), option, needed, remedy)


def _layers(module: Any, inputs: Array) -> tuple[Array, Array]:
    """The output and the last hidden layer; of a module that does not show it, the inputs in its place."""
    return module.layers(inputs) if _shows_hidden(module) else (module(inputs), inputs)


def _shows_hidden(module: Any) -> bool:
    """Whether it has the method; the ``layers`` of a ``flax.linen.Sequential`` are something else."""
    return callable(getattr(module, "layers", None))


def _flatten(observation: Array, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Array]:
    """The leading axes, and all of them as one, ``[N, n]``: XLA's CPU loops are faster over two axes than three."""
    leading = observation.shape[: observation.ndim - len(shape)]
    return leading, observation.reshape(math.prod(leading), math.prod(shape)).astype(float)


def _shown_to_critic(shared_torso: bool, public_size: int, hidden: Array, flat: Array) -> Array:
    """The whole observation or, on a shared torso, its last hidden layer with what is for the critic alone behind."""
    if not shared_torso:
        return flat
    privileged = flat[:, public_size:]
    return jnp.concatenate([hidden, privileged], axis=-1) if privileged.shape[1] else hidden


def _beside(context: Array | None, flat: Array) -> Array:
    """The network's inputs: observations ``[N, n]`` with the context behind."""
    if context is None:
        return flat
    return jnp.concatenate([flat, jnp.broadcast_to(context, (flat.shape[0], *context.shape))], axis=-1)


def num_public(observation_shape: tuple[int, ...], privileged_size: int) -> int:
    """How many numbers of an observation a policy may see.

    Args:
      observation_shape: shape of one observation; flat if some of it is privileged.
      privileged_size: how many of its last numbers are for a critic alone.

    Raises:
      ValueError: if nothing is left, or privileged numbers are in an image.

    Example:
      >>> num_public((5,), 2)
      3
    """
    size = math.prod(observation_shape)
    fits = privileged_size == 0 or (len(observation_shape) == 1 and 0 < privileged_size < size)
    remedy = f"must be the last numbers, not all, of a flat observation, not of {observation_shape}"
    require(fits, "privileged_size", privileged_size, remedy)
    return size - privileged_size
