"""Policies with a memory: a recurrent cell over observation, previous action, previous reward and episode start."""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.networks.heads import action_head
from metarl_jax.networks.mlp import ACTIVATIONS, MLP
from metarl_jax.ops.matmul import matmul
from metarl_jax.types import (
    ActionSpec,
    Array,
    Carry,
    Key,
    Params,
    Percept,
    Policy,
    PositiveFloat,
    PositiveInt,
    PyTree,
    require_number,
)

CELLS: dict[str, Callable[..., Any]] = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}


def percept_features(percept: Percept, observation_shape: tuple[int, ...], action: ActionSpec) -> Array:
    """What a memory is fed: ``[observation, previous action, previous reward, done]``.

    Args:
      percept: any leading axes.
      observation_shape: shape of one observation; flattened.
      action: a discrete previous action becomes one-hot.

    Returns:
      ``[..., observation_size + action_size + 2]``.

    Example:
      >>> percept = Percept(jnp.zeros(1), jnp.array(2), jnp.array(0.5), jnp.array(1.0))
      >>> percept_features(percept, (1,), ActionSpec(3, discrete=True)).tolist()
      [0.0, 0.0, 0.0, 1.0, 0.5, 1.0]
    """
    reward = percept.previous_reward[..., None]
    observation = percept.observation.reshape(*percept.done.shape, math.prod(observation_shape)).astype(reward.dtype)
    previous = percept.previous_action
    encoded = jax.nn.one_hot(previous, action.size, dtype=reward.dtype) if action.discrete else previous
    return jnp.concatenate([observation, encoded, reward, percept.done[..., None]], axis=-1)


def recurrent_policy(
    observation_shape: tuple[int, ...],
    action: ActionSpec,
    *,
    cell: Literal["gru", "lstm"] = "gru",
    hidden_size: PositiveInt = 128,
    embedding_sizes: tuple[PositiveInt, ...] = (),
    activation: Literal["tanh", "relu", "elu", "swish"] = "tanh",
    init_std: PositiveFloat = 1.0,
    min_std: PositiveFloat = 1e-6,
    squash: bool = False,
    state_dependent_std: bool = False,
    hypernetwork: bool = False,
) -> Policy:
    """A recurrent cell over all that a policy may see, with a linear policy head and a linear value head.

    Gaussian, squashed by tanh or not, or categorical for discrete actions. Parameters are ``"cell"``,
    ``"mean"`` and ``"log_std"`` (``"logits"`` when discrete), ``"value"`` and, if there are layers before the cell,
    ``"embedding"``. The memory starts from zeros.

    With a hypernetwork (Beck et al., 2022) the weights of the policy's head are a linear function of the memory ``h``,
    ``logits = (W_0 + W(h)) h + b_0 + b(h)``, whose parameters ``"hypernetwork"`` start at zero: at first the head is
    the ordinary one, with its initial weights ``W_0, b_0``, whatever is remembered.

    Args:
      observation_shape: shape of one observation; flattened.
      action: what the task takes.
      cell: ``gru`` (Cho et al., 2014) or ``lstm`` (Hochreiter and Schmidhuber, 1997).
      hidden_size: numbers that the cell remembers.
      embedding_sizes: widths of dense layers between the input and the cell; none if empty.
      activation: the function after each of these layers.
      init_std: initial standard deviation of the action, in units of the policy's output (before squashing).
      min_std: the standard deviation is clamped from below to this wherever it is used.
      squash: continuous actions pass a tanh and stay in (-1, 1). Tasks divide by their ``action_scale``, so 1 uses
        their whole range.
      state_dependent_std: the standard deviation is a function of what is remembered, ``init_std`` everywhere at
        first and at most 1000, instead of one number for each component of the action.
      hypernetwork: the weights of the policy's head depend on the memory; ``(hidden_size + 1) * action_size`` times
        ``hidden_size`` more parameters.

    Returns:
      The policy as pure functions.

    Raises:
      ValueError: if a size or a standard deviation is not positive, or an option for continuous actions meets
        discrete ones.

    Example:
      >>> policy = recurrent_policy((1,), ActionSpec(5, discrete=True), hidden_size=8)
      >>> params, carry = policy.init(jax.random.key(0)), policy.initial_carry(3)
      >>> percept = Percept(jnp.zeros((3, 1)), jnp.zeros(3, int), jnp.zeros(3), jnp.ones(3))
      >>> chosen, _, _, carry = policy.act(params, carry, percept, jax.random.key(1))
      >>> chosen.shape, carry.shape
      ((3,), (3, 8))
    """
    require_number("hidden_size", hidden_size, at_least=1)
    memory = CELLS[cell](hidden_size)
    embedding = MLP(tuple(embedding_sizes[:-1]), embedding_sizes[-1], activation) if embedding_sizes else None
    linear, critic = MLP((), action.size), MLP((), 1)
    head = action_head(
        action, init_std=init_std, min_std=min_std, squash=squash, state_dependent_std=state_dependent_std
    )
    distribution = head.distribution
    input_size = math.prod(observation_shape) + action.size + 2

    def initial_carry(batch_size: int) -> Carry:
        zeros = jnp.zeros((batch_size, hidden_size))
        return (zeros, zeros) if cell == "lstm" else zeros

    def init(key: Key) -> Params:
        key_embedding, key_cell, key_policy, key_value = jax.random.split(key, 4)
        blank, remembered = jnp.zeros(input_size), jnp.zeros(hidden_size)
        params = {"value": critic.init(key_value, remembered)["params"]}
        if embedding is not None:
            params["embedding"] = embedding.init(key_embedding, blank)["params"]
        params["cell"] = memory.init(key_cell, initial_carry(1), _embed(params, blank[None]))["params"]
        params |= {head.name: linear.init(key_policy, remembered)["params"], **head.init(hidden_size)}
        if hypernetwork:
            params["hypernetwork"] = jnp.zeros((hidden_size, (hidden_size + 1) * action.size))
        return params

    def _embed(params: Params, features: Array) -> Array:
        if embedding is None:
            return features
        return ACTIVATIONS[activation](jnp.asarray(embedding.apply({"params": params["embedding"]}, features)))

    def embed(params: Params, percept: Percept) -> Array:
        return _embed(params, percept_features(percept, observation_shape, action))

    def remember(params: Params, carry: Carry, features: Array) -> tuple[Carry, Array]:
        return memory.apply({"params": params["cell"]}, carry, features)

    def distribute(params: Params, remembered: Array) -> PyTree:
        output = jnp.asarray(linear.apply({"params": params[head.name]}, remembered))
        if hypernetwork:
            output = output + depend(params["hypernetwork"], remembered)
        return head.distribute(params, output, remembered)

    def depend(weights: Array, remembered: Array) -> Array:
        generated = matmul(remembered, weights).reshape(*remembered.shape[:-1], hidden_size + 1, action.size)
        return jnp.sum(remembered[..., None] * generated[..., :-1, :], axis=-2) + generated[..., -1, :]

    def act(params: Params, carry: Carry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, Carry]:
        carry, remembered = remember(params, carry, embed(params, percept))
        dist_params = distribute(params, remembered)
        chosen = distribution.sample(dist_params, key)
        return chosen, distribution.log_prob(dist_params, chosen), dist_params, carry

    def unroll(params: Params, carry: Carry, percept: Percept) -> tuple[PyTree, Array, Carry]:
        # Only the cell goes step by step: the layers before and after it take all steps at once.
        carry, remembered = jax.lax.scan(functools.partial(remember, params), carry, embed(params, percept))
        value = jnp.asarray(critic.apply({"params": params["value"]}, remembered))[..., 0]
        return distribute(params, remembered), value, carry

    def evaluate(params: Params, carry: Carry, percept: Percept) -> tuple[PyTree, Array]:
        dist_params, value, _ = unroll(params, carry, percept)
        return dist_params, value

    return Policy(init, initial_carry, act, evaluate, distribution, has_critic=True, unroll=unroll)
