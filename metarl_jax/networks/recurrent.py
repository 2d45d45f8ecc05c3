"""Policies with a memory: a recurrent cell over observation, previous action, previous reward and episode start."""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.checks import Traced, checked
from metarl_jax.networks.heads import action_head
from metarl_jax.networks.memory.associative import associative_memory
from metarl_jax.networks.memoryless import num_public
from metarl_jax.networks.mlp import ACTIVATIONS, MLP
from metarl_jax.ops.matmul import matmul
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
    PositiveInt,
    PyTree,
    require,
)


class RecurrentCarry(NamedTuple):
    """What a recurrent policy carries from step to step.

    Attributes:
      cell: ``[B, hidden_size]``; two of these for an LSTM.
      table: of the associative memory; ``()`` without one.
    """

    cell: PyTree
    table: PyTree


_SLOT_SIZE = 32
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


@checked
def recurrent_policy(
    observation_shape: tuple[int, ...],
    action: ActionSpec,
    *,
    cell: Literal["gru", "lstm"] = "gru",
    hidden_size: PositiveInt = 128,
    embedding_sizes: tuple[PositiveInt, ...] = (),
    activation: Literal["tanh", "relu", "elu", "swish"] = "tanh",
    init_std: Traced[PositiveFloat] = 1.0,
    min_std: Traced[PositiveFloat] = 1e-6,
    squash: bool = False,
    state_dependent_std: bool = False,
    hypernetwork: bool = False,
    head_sizes: tuple[PositiveInt, ...] = (),
    memory_slots: PositiveInt | None = None,
    slot_size: PositiveInt | None = None,
    privileged_size: NonNegativeInt = 0,
) -> Policy:
    """A recurrent cell over all that a policy may see, with a policy head and a value head.

    Gaussian, squashed by tanh or not, or categorical for discrete actions. Parameters are ``"cell"``,
    ``"mean"`` and ``"log_std"`` (``"logits"`` when discrete), ``"value"`` and, if there are layers before the cell,
    ``"embedding"``. The memory starts from zeros.

    The heads are linear in what the cell remembers or, with ``head_sizes``, in dense layers ``"shortcut"`` over that
    and the cell's input: what to do with a memory depends on where one is (Ni et al., 2022).

    With ``memory_slots`` an :func:`associative_memory`, parameters ``"associative"``, gives the cell and the layers of
    the heads what followed earlier observations like the present one. It is for trials that meet many states a few
    times each, in episodes that do not terminate.

    With a hypernetwork (Beck et al., 2022) the weights of the policy's head are a linear function of its input ``h``,
    what the cell remembers or the last of the layers above it: ``logits = (W_0 + W(h)) h + b_0 + b(h)``. The parameters
    of ``W`` and ``b``, ``"hypernetwork"``, start at zero: at first the head is the ordinary one, with its initial
    weights ``W_0, b_0``, whatever is remembered.

    Args:
      observation_shape: shape of one observation; flattened.
      action: what the task takes.
      cell: ``gru`` (Cho et al., 2014) or ``lstm`` (Hochreiter and Schmidhuber, 1997).
      hidden_size: numbers that the cell remembers.
      embedding_sizes: widths of dense layers between the input and the cell; none if empty.
      activation: the function after each of these layers, and of those of ``head_sizes``.
      init_std: initial standard deviation of the action, in units of the policy's output (before squashing).
      min_std: the standard deviation is clamped from below to this wherever it is used.
      squash: continuous actions pass a tanh and stay in (-1, 1). Tasks divide by their ``action_scale``, so 1 uses
        their whole range.
      state_dependent_std: the standard deviation is a function of what is remembered, ``init_std`` everywhere at
        first and at most 1000, instead of one number for each component of the action.
      hypernetwork: the weights of the policy's head depend on its input; ``(n + 1) * action_size * n`` more parameters
        for an input of ``n`` numbers.
      head_sizes: widths of dense layers that both heads share; none if empty.
      memory_slots: slots of an associative memory beside the cell; none if left out. Training costs the square of a
        trial's steps, of ``bptt_length`` if that is shorter.
      slot_size: numbers in each of these slots; 32 if left out.
      privileged_size: how many of the last numbers of a flat observation are for the value head alone, which is linear
        in them; a family's own. They are not remembered.

    Returns:
      The policy as pure functions.

    Raises:
      ValueError: if a size or a standard deviation is not positive, an option for continuous actions meets
        discrete ones, or ``slot_size`` is given without slots.

    Example:
      >>> policy = recurrent_policy((1,), ActionSpec(5, discrete=True), hidden_size=8)
      >>> params, carry = policy.init(jax.random.key(0)), policy.initial_carry(3)
      >>> percept = Percept(jnp.zeros((3, 1)), jnp.zeros(3, int), jnp.zeros(3), jnp.ones(3))
      >>> chosen, _, _, carry = policy.act(params, carry, percept, jax.random.key(1))
      >>> chosen.shape, carry.cell.shape
      ((3,), (3, 8))
    """
    observation_size = math.prod(observation_shape)
    public_size = num_public(observation_shape, privileged_size)
    input_size = public_size + action.size + 2
    embedding = _layers(embedding_sizes, activation)
    embedded_size = embedding_sizes[-1] if embedding_sizes else input_size
    associative = None
    require(slot_size is None or memory_slots is not None, "slot_size", slot_size, "of no use without memory_slots")
    if memory_slots is not None:
        slot_size = _SLOT_SIZE if slot_size is None else slot_size
        associative = associative_memory(public_size, embedded_size, slots=memory_slots, slot_size=slot_size)
    cell_input_size = embedded_size + (associative.read_size if associative else 0)
    recurrent = CELLS[cell](hidden_size, param_dtype=float)
    shortcut = _layers(head_sizes, activation)
    head_input_size = head_sizes[-1] if head_sizes else hidden_size
    linear, critic = MLP((), action.size), MLP((), 1)
    head = action_head(
        action, init_std=init_std, min_std=min_std, squash=squash, state_dependent_std=state_dependent_std
    )
    distribution = head.distribution

    def initial_carry(batch_size: int) -> RecurrentCarry:
        zeros = jnp.zeros((batch_size, hidden_size))
        return RecurrentCarry(
            (zeros, zeros) if cell == "lstm" else zeros, associative.blank(batch_size) if associative else ()
        )

    def init(key: Key) -> Params:
        keys = jax.random.split(key, 6)
        blank = jnp.zeros(head_input_size)
        params = {}
        if embedding is not None:
            params["embedding"] = embedding.init(keys[0], jnp.zeros(input_size))["params"]
        params["cell"] = recurrent.init(keys[1], initial_carry(1).cell, jnp.zeros((1, cell_input_size)))["params"]
        params |= {head.name: linear.init(keys[2], blank)["params"], **head.init(head_input_size)}
        params["value"] = critic.init(keys[3], jnp.zeros(head_input_size + privileged_size))["params"]
        if associative is not None:
            params["associative"] = associative.init(keys[4])
        if shortcut is not None:
            params["shortcut"] = shortcut.init(keys[5], jnp.zeros(hidden_size + cell_input_size))["params"]
        if hypernetwork:
            params["hypernetwork"] = jnp.zeros((head_input_size, (head_input_size + 1) * action.size))
        return params

    def activated(net: MLP, params: Params, x: Array) -> Array:
        return ACTIVATIONS[activation](jnp.asarray(net.apply({"params": params}, x)))

    def flat(percept: Percept) -> Array:
        return percept.observation.reshape(*percept.done.shape, observation_size)

    def perceive(params: Params, table: PyTree, percept: Percept) -> tuple[PyTree, Array]:
        public = percept._replace(observation=flat(percept)[..., :public_size])
        seen = percept_features(public, (public_size,), action)
        features = seen if embedding is None else activated(embedding, params["embedding"], seen)
        if associative is None:
            return table, features
        table, read = associative.recall(params["associative"], table, seen[..., :public_size], features)
        return table, jnp.concatenate([features, read], axis=-1)

    def remember(params: Params, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        return recurrent.apply({"params": params["cell"]}, carry, inputs)

    def decide(params: Params, remembered: Array, inputs: Array, percept: Percept) -> tuple[PyTree, Array]:
        """Distribution and value from what the cell remembers, what it was fed, and what is for the value alone."""
        known = remembered
        if shortcut is not None:
            known = activated(shortcut, params["shortcut"], jnp.concatenate([remembered, inputs], axis=-1))
        output = jnp.asarray(linear.apply({"params": params[head.name]}, known))
        if hypernetwork:
            output = output + _generated_head(params["hypernetwork"], known, action.size)
        judged = known
        if privileged_size:
            judged = jnp.concatenate([known, flat(percept)[..., public_size:].astype(known.dtype)], axis=-1)
        value = jnp.asarray(critic.apply({"params": params["value"]}, judged))[..., 0]
        return head.distribute(params, output, known), value

    def act(
        params: Params, carry: RecurrentCarry, percept: Percept, key: Key
    ) -> tuple[Array, Array, PyTree, RecurrentCarry]:
        table, inputs = perceive(params, carry.table, jax.tree.map(lambda x: x[None], percept))
        kept, remembered = remember(params, carry.cell, inputs[0])
        dist_params, _ = decide(params, remembered, inputs[0], percept)
        chosen = distribution.sample(dist_params, key)
        return chosen, distribution.log_prob(dist_params, chosen), dist_params, RecurrentCarry(kept, table)

    def unroll(params: Params, carry: RecurrentCarry, percept: Percept) -> tuple[PyTree, Array, RecurrentCarry]:
        # Only the cell goes step by step: the layers before and after it take all steps at once.
        table, inputs = perceive(params, carry.table, percept)
        kept, remembered = jax.lax.scan(functools.partial(remember, params), carry.cell, inputs)
        return *decide(params, remembered, inputs, percept), RecurrentCarry(kept, table)

    def evaluate(params: Params, carry: RecurrentCarry, percept: Percept) -> tuple[PyTree, Array]:
        dist_params, value, _ = unroll(params, carry, percept)
        return dist_params, value

    return Policy(init, initial_carry, act, evaluate, distribution, Parts(critic=("value",)), unroll)


def _layers(sizes: tuple[int, ...], activation: str) -> MLP | None:
    """Dense layers with an activation between them (the last one's is the caller's); None if there are none."""
    return MLP(tuple(sizes[:-1]), sizes[-1], activation) if sizes else None


def _generated_head(weights: Array, known: Array, action_size: int) -> Array:
    """``W(h) h + b(h)``: a linear head whose weights and bias are linear functions of its input."""
    generated = matmul(known, weights).reshape(*known.shape[:-1], known.shape[-1] + 1, action_size)
    return jnp.sum(known[..., None] * generated[..., :-1, :], axis=-2) + generated[..., -1, :]
