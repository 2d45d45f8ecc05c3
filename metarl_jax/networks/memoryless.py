"""From a network to a policy without memory: the distribution of actions, acting and evaluating, the critic."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax.networks.heads import action_head
from metarl_jax.types import ActionSpec, Array, Carry, Key, Params, Percept, Policy, PyTree, require


def memoryless_policy(
    network: Any,
    critic: Any | None,
    observation_shape: tuple[int, ...],
    action: ActionSpec,
    *,
    init_std: float = 1.0,
    min_std: float = 1e-6,
    squash: bool = False,
    state_dependent_std: bool = False,
    shared_torso: bool = False,
    context_size: int = 0,
) -> Policy:
    """Make a policy of a network that maps observations to means or logits.

    Parameters are ``{"mean": network, "log_std": [action_size]}``, ``{"logits": network}`` when discrete, and with a
    critic ``"value"``, with a context ``"context"``. A ``log_std`` that depends on the observation is a ``kernel``
    and a ``bias``.

    Args:
      network: a flax module from ``[N, n]`` (a flattened observation and the context behind it) to
        ``[N, action_size]``. Only a shared torso and a state-dependent standard deviation need more: a method
        ``layers`` that also returns the last hidden layer ``[N, h]``.
      critic: a flax module from ``[N, n]``, or from ``[N, h]`` if the torso is shared, to ``[N, 1]``; or None.
      observation_shape: shape of one observation.
      action: what the task takes.
      init_std: initial standard deviation, before squashing.
      min_std: its floor.
      squash: keep continuous actions in (-1, 1) by a tanh.
      state_dependent_std: the standard deviation is a function of the last hidden layer.
      shared_torso: the critic stands on the network's last hidden layer.
      context_size: numbers of a context that is a parameter.

    Returns:
      The policy as pure functions.

    Raises:
      ValueError: if a standard deviation is out of range, an option for continuous actions meets discrete ones, or
        the network has no ``layers`` where its last hidden layer is needed.

    Example:
      >>> from metarl_jax.networks.mlp import MLP
      >>> policy = memoryless_policy(MLP((8,), 3), None, (2,), ActionSpec(3))
      >>> sorted(policy.init(jax.random.key(0)))
      ['log_std', 'mean']
    """
    head = action_head(
        action, init_std=init_std, min_std=min_std, squash=squash, state_dependent_std=state_dependent_std
    )
    for option, needed in {"shared_torso": shared_torso, "state_dependent_std": state_dependent_std}.items():
        remedy = (
            f"give {type(network).__name__} a method 'layers' that returns output and last hidden layer, as MLP has"
        )
        require(not needed or hasattr(network, "layers"), option, needed, remedy)
    distribution = head.distribution
    observation_size = math.prod(observation_shape)

    def init(key: Key) -> Params:
        key_policy, key_value = jax.random.split(key)
        blank, context = jnp.zeros((1, observation_size)), jnp.zeros(context_size)
        (_, hidden), variables = network.init_with_output(key_policy, beside(context, blank), method=layers)
        params = {head.name: variables["params"], **head.init(hidden.shape[-1])}
        if context_size:
            params["context"] = context
        if critic is not None:
            params["value"] = critic.init(key_value, hidden if shared_torso else blank)["params"]
        return params

    def layers(module: Any, inputs: Array) -> tuple[Array, Array]:
        return module.layers(inputs) if hasattr(module, "layers") else (module(inputs), inputs)

    def beside(context: Array | None, flat: Array) -> Array:
        if context is None:
            return flat
        return jnp.concatenate([flat, jnp.broadcast_to(context, (len(flat), context_size))], axis=-1)

    def look(params: Params, observation: Array) -> tuple[PyTree, Array | None]:
        # All leading axes become one: XLA's CPU loops are faster over two axes than over three.
        leading = observation.shape[: observation.ndim - len(observation_shape)]
        flat = observation.reshape(math.prod(leading), observation_size)
        inputs = beside(params.get("context"), flat)
        output, hidden = network.apply({"params": params[head.name]}, inputs, method=layers)
        dist_params, value = head.distribute(params, output, hidden), None
        if critic is not None:
            value = critic.apply({"params": params["value"]}, hidden if shared_torso else flat)[:, 0]
        return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), (dist_params, value))

    def act(params: Params, carry: Carry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, Carry]:
        dist_params, _ = look(params, percept.observation)
        chosen = distribution.sample(dist_params, key)
        return chosen, distribution.log_prob(dist_params, chosen), dist_params, carry

    def evaluate(params: Params, carry: Carry, percept: Percept) -> tuple[PyTree, Array]:
        dist_params, value = look(params, percept.observation)
        return dist_params, jnp.zeros(percept.previous_reward.shape) if value is None else value

    return Policy(init, lambda batch_size: (), act, evaluate, distribution, has_critic=critic is not None)
