"""Policies with a memory of observation, previous action, previous reward and episode start."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import Traced, checked, passes_on
from metarl_jax.networks.heads import action_head
from metarl_jax.networks.memory import MEMORIES, Memory, MemoryName, Seen
from metarl_jax.networks.memory.associative import SLOT_SIZE, associative_memory
from metarl_jax.networks.memory.splagger import splagger
from metarl_jax.networks.memory_heads import HeadsName, Layers, Present, Sizes, heads_by_name
from metarl_jax.networks.memoryless import num_public
from metarl_jax.networks.mlp import ACTIVATIONS, MLP
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
      cell: what its memory carries: ``[B, hidden_size]`` for a GRU.
      table: of the associative memory beside it; ``()`` without one.
    """

    cell: PyTree
    table: PyTree


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
@passes_on(MEMORIES, chosen_by="memory")
def recurrent_policy(
    observation_shape: tuple[int, ...],
    action: ActionSpec,
    *,
    memory: MemoryName | Memory = "gru",
    hidden_size: PositiveInt = 128,
    aggregate: Literal["splagger"] | None = None,
    embedding_sizes: tuple[PositiveInt, ...] = (),
    activation: Literal["tanh", "relu", "elu", "swish"] = "tanh",
    init_std: Traced[PositiveFloat] = 1.0,
    min_std: Traced[PositiveFloat] = 1e-6,
    squash: bool = False,
    state_dependent_std: bool = False,
    heads: HeadsName = "plain",
    head_sizes: tuple[PositiveInt, ...] = (),
    state_sizes: tuple[PositiveInt, ...] = (),
    latent_size: PositiveInt | None = None,
    memory_slots: PositiveInt | None = None,
    slot_size: PositiveInt | None = None,
    privileged_size: NonNegativeInt = 0,
    **options: Any,
) -> Policy:
    """A memory of all that a policy may see, with a policy head and a value head.

    Gaussian, squashed by tanh or not, or categorical for discrete actions. Parameters are ``"cell"``, the memory's,
    ``"mean"`` and ``"log_std"`` (``"logits"`` when discrete), ``"value"`` and, if there are layers before the memory,
    ``"embedding"``. It starts blank.

    What to do with a memory depends on where one is: ``heads`` says how the heads, and the layers ``"shortcut"`` of
    ``head_sizes`` that both share, are shown the two. Weights that the memory makes are ordinary initial ones, at their
    usual paths, and what is added to them, ``"hypernetwork"``, which starts at zero (Bias-HyperInit of Beck et al.,
    2022): at first they are the same whatever is remembered.

    With ``memory_slots`` an :func:`associative_memory`, parameters ``"associative"``, gives the other memory and the
    layers of the heads what followed earlier observations like the present one. It is for trials that meet many states
    a few times each, in episodes that do not terminate.

    Args:
      observation_shape: shape of one observation; flattened.
      action: what the task takes.
      memory: ``gru`` (Cho et al., 2014) or ``lstm`` (Hochreiter and Schmidhuber, 1997), which see a step at a time;
        ``s5`` (Smith et al., 2023) or ``min_gru`` (Feng et al., 2024), which see all at once; ``transformer`` (Vaswani
        et al., 2017), which sees a window of steps; ``associative``, an associative memory alone. In Python also a
        :class:`Memory` of your own.
      hidden_size: numbers that it remembers; a memory of your own has its own ``size``.
      aggregate: ``splagger``: half of these numbers are the maximum so far (Beck et al., 2024).
      embedding_sizes: widths of dense layers between the input and the memory; none if empty.
      activation: the function after each of these layers, and of all others but the heads.
      init_std: initial standard deviation of the action, in units of the policy's output (before squashing).
      min_std: the standard deviation is clamped from below to this wherever it is used.
      squash: continuous actions pass a tanh and stay in (-1, 1). Tasks divide by their ``action_scale``, so 1 uses
        their whole range.
      state_dependent_std: the standard deviation is a function of what is remembered, ``init_std`` everywhere at
        first and at most 1000, instead of one number for each component of the action.
      heads: ``plain``: on what is remembered (Duan et al., 2016) or, with ``head_sizes``, on layers over that and the
        memory's input (Ni et al., 2022). ``state``: on layers over what is remembered and the observation, fed again
        (RNN+S of Beck et al., 2023). ``hypernetwork``: on layers over the observation alone; all weights of these and
        of both heads are emitted at every step, by a linear hypernetwork, from what is remembered (Beck et al., 2022;
        RNN+HN of 2023). ``generated``: as plain, with the weights of the policy's head alone a linear function of its
        own input.
      head_sizes: widths of dense layers that both heads share; none if empty.
      state_sizes: widths of dense layers, ``"state"``, that embed the observation for ``state`` and ``hypernetwork``,
        which does not emit their weights; none if empty.
      latent_size: width of a dense layer, ``"latent"``, that embeds what is remembered for ``state`` and
        ``hypernetwork``; none if left out.
      memory_slots: slots of an associative memory beside the other, or of the only one; none beside if left out.
        Training costs the square of a trial's steps, of ``bptt_length`` if that is shorter.
      slot_size: numbers in each of these slots; 32 if left out.
      privileged_size: how many of the last numbers of a flat observation are for the value head alone, which is linear
        in them; a family's own. They are not remembered.
      **options: of the memory that ``memory`` names.

    Raises:
      ValueError: if a size or a standard deviation is not positive, an option for continuous actions meets
        discrete ones, or an option is of no use beside the others.

    Example:
      >>> policy = recurrent_policy((1,), ActionSpec(5, discrete=True), hidden_size=8)
      >>> params, carry = policy.init(jax.random.key(0)), policy.initial_carry(3)
      >>> percept = Percept(jnp.zeros((3, 1)), jnp.zeros(3, int), jnp.zeros(3), jnp.ones(3))
      >>> chosen, _, _, carry = policy.act(params, carry, percept, jax.random.key(1))
      >>> chosen.shape, carry.cell.shape
      ((3,), (3, 8))
    """
    slots = {"memory_slots": memory_slots, "slot_size": slot_size}
    if memory == "associative":  # these are its own
        options, memory_slots = {**options, **{key: x for key, x in slots.items() if x is not None}}, None
    else:
        require(slot_size is None or memory_slots is not None, "slot_size", slot_size, "of no use without memory_slots")
    public_size = num_public(observation_shape, privileged_size)
    senses = _make_senses(public_size, action, embedding_sizes, activation, memory_slots, slot_size or SLOT_SIZE)
    remembers = memory if isinstance(memory, Memory) else MEMORIES[memory](hidden_size, **options)
    remembers = remembers if aggregate is None else splagger(remembers)
    head = action_head(
        action, init_std=init_std, min_std=min_std, squash=squash, state_dependent_std=state_dependent_std
    )
    sizes = Sizes(remembers.size, senses.size, public_size, privileged_size)
    layers = Layers(head_sizes, state_sizes, () if latent_size is None else (latent_size,), activation)
    decides = heads_by_name(heads, head, sizes, layers)
    distribution, split = head.distribution, partial(_split, observation_shape, public_size)

    def initial_carry(batch_size: int) -> RecurrentCarry:
        return RecurrentCarry(remembers.blank(batch_size), senses.blank(batch_size))

    def init(key: Key) -> Params:
        keys = jax.random.split(key, 6)
        params = {"cell": remembers.init(keys[1], senses.size, public_size)}
        return {**params, **senses.init(keys[0], keys[4]), **decides.init(keys[2], keys[3], keys[5])}

    def unroll(params: Params, carry: RecurrentCarry, percept: Percept) -> tuple[PyTree, Array, RecurrentCarry]:
        public, privileged = split(percept)
        table, seen = senses.perceive(params, carry.table, public)
        kept, remembered = remembers.read(params["cell"], carry.cell, seen)
        present = Present(seen.features, seen.observation, privileged)
        return *decides.decide(params, remembered, present), RecurrentCarry(kept, table)

    def act(params: Params, carry: Carry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, Carry]:
        dist_params, _, carry = unroll(params, carry, jax.tree.map(lambda x: x[None], percept))
        dist_params = jax.tree.map(lambda x: x[0], dist_params)
        chosen = distribution.sample(dist_params, key)
        return chosen, distribution.log_prob(dist_params, chosen), dist_params, carry

    def evaluate(params: Params, carry: RecurrentCarry, percept: Percept) -> tuple[PyTree, Array]:
        dist_params, value, _ = unroll(params, carry, percept)
        return dist_params, value

    parts = Parts(
        head=decides.policy,
        critic=decides.value,
        memory=("cell",) if memory_slots is None else ("cell", "associative"),
    )
    return Policy(init, initial_carry, act, evaluate, distribution, parts, unroll)


def _split(observation_shape: tuple[int, ...], public_size: int, percept: Percept) -> tuple[Percept, Array]:
    """What all may see, its observation flat, and what is for the value alone."""
    flat = percept.observation.reshape(*percept.done.shape, math.prod(observation_shape))
    return percept._replace(observation=flat[..., :public_size]), flat[..., public_size:]


class _Senses(NamedTuple):
    """From what a policy may see to what its memory is shown.

    Attributes:
      init: ``(key of the embedding, key of the associative memory) -> params``.
      blank: ``(batch_size) -> table`` of the associative memory; ``()`` without one.
      perceive: ``(params, table, percept [T, B, ...]) -> (table, seen)``.
      size: numbers in ``seen.features``.
    """

    init: Callable[[Key, Key], Params]
    blank: Callable[[int], PyTree]
    perceive: Callable[[Params, PyTree, Percept], tuple[PyTree, Seen]]
    size: int


def _make_senses(
    observation_size: int,
    action: ActionSpec,
    embedding_sizes: tuple[int, ...],
    activation: str,
    memory_slots: int | None,
    slot_size: int,
) -> _Senses:
    """An embedding, if it has layers, and an associative memory beside it, if it has slots."""
    input_size = observation_size + action.size + 2
    embedding = _layers(embedding_sizes, activation)
    size = embedding_sizes[-1] if embedding_sizes else input_size
    associative = None
    if memory_slots is not None:
        associative = associative_memory(slots=memory_slots, slot_size=slot_size)

    def init(key_embedding: Key, key_associative: Key) -> Params:
        params = {}
        if embedding is not None:
            params["embedding"] = embedding.init(key_embedding, jnp.zeros(input_size))["params"]
        if associative is not None:
            params["associative"] = associative.init(key_associative, size, observation_size)
        return params

    def perceive(params: Params, table: PyTree, percept: Percept) -> tuple[PyTree, Seen]:
        perceived = percept_features(percept, (observation_size,), action)
        features = perceived if embedding is None else _activated(embedding, params["embedding"], perceived)
        seen = Seen(features, perceived[..., :observation_size])
        if associative is None:
            return table, seen
        table, recalled = associative.read(params["associative"], table, seen)
        return table, seen._replace(features=jnp.concatenate([features, recalled], axis=-1))

    if associative is None:
        return _Senses(init, lambda batch_size: (), perceive, size)
    return _Senses(init, associative.blank, perceive, size + associative.size)


def _activated(net: MLP, params: Params, x: Array) -> Array:
    """Layers with their activation after the last one, too."""
    return ACTIVATIONS[net.activation](jnp.asarray(net.apply({"params": params}, x)))


def _layers(sizes: tuple[int, ...], activation: str) -> MLP | None:
    """Dense layers with an activation between them (the last one's is the caller's); None if there are none."""
    return MLP(tuple(sizes[:-1]), sizes[-1], activation) if sizes else None
