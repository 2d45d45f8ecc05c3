"""Policies that act on what they believe of the task: a Gaussian over a latent, inferred step by step."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import Traced, checked, passes_on
from metarl_jax.networks.heads import ActionHead, action_head
from metarl_jax.networks.memory import MEMORIES, Memory, MemoryName, Seen
from metarl_jax.networks.memoryless import num_public
from metarl_jax.networks.mlp import ACTIVATIONS, MLP, dense
from metarl_jax.ops.distributions import GaussianParams
from metarl_jax.types import (
    ActionSpec,
    Array,
    Belief,
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
)

ENCODER = "encoder"
"""Where the parameters of the inference are: those of the ELBO, which no gradient of the return reaches."""


@checked
@passes_on(MEMORIES, chosen_by="memory")
def belief_policy(
    observation_shape: tuple[int, ...],
    action: ActionSpec,
    *,
    latent_size: PositiveInt = 5,
    memory: MemoryName | Memory = "gru",
    hidden_size: PositiveInt = 128,
    action_embedding: NonNegativeInt = 16,
    state_embedding: PositiveInt = 32,
    reward_embedding: PositiveInt = 16,
    policy_embeddings: tuple[PositiveInt, PositiveInt] = (64, 64),
    hidden_sizes: tuple[PositiveInt, ...] = (128,),
    activation: Literal["tanh", "relu", "elu", "swish"] = "tanh",
    init_std: Traced[PositiveFloat] = 1.0,
    min_std: Traced[PositiveFloat] = 1e-6,
    squash: bool = False,
    state_dependent_std: bool = False,
    privileged_size: NonNegativeInt = 0,
    **options: Any,
) -> Policy:
    """A policy of the state and of a belief about the task, as in VariBAD (Zintgraf et al., 2020).

    Embeddings of the previous action, the state and the reward go through a memory, and what is remembered becomes the
    mean and the log variance of a Gaussian latent at every step. Policy and value are networks of their own over
    embeddings, which they share, of the state and of both; to them the belief is data. Parameters are ``"encoder"``,
    all of the inference, ``"state"``, ``"belief"``, ``"mean"`` and ``"log_std"`` (``"logits"`` when discrete), and
    ``"value"``.

    The state is the observation and whether an episode begins. The first belief of a trial has seen the first state
    alone; its prior is the standard normal.

    Args:
      observation_shape: shape of one observation; flattened.
      action: what the task takes.
      latent_size: numbers of the latent.
      memory: what the embeddings go through, by its name; in Python also one of your own.
      hidden_size: numbers that the memory holds.
      action_embedding: width of the previous action's layer before the memory; it is not shown if 0.
      state_embedding: width of the state's.
      reward_embedding: width of the previous reward's.
      policy_embeddings: widths of the state's and of the belief's layer before policy and value.
      hidden_sizes: widths of the layers of the policy, and of the value.
      activation: the function after these layers and embeddings; the encoder's are relu.
      init_std: initial standard deviation of the action, in units of the policy's output (before squashing).
      min_std: the standard deviation is clamped from below to this wherever it is used.
      squash: continuous actions pass a tanh and stay in (-1, 1).
      state_dependent_std: the standard deviation is a function of the policy's last hidden layer.
      privileged_size: how many of the last numbers of a flat observation are for the value alone; a family's own.
      **options: of the memory that ``memory`` names.

    Raises:
      ValueError: if a size or a standard deviation is out of range, or an option for continuous actions meets discrete
        ones.

    Example:
      >>> policy = belief_policy((2,), ActionSpec(5, discrete=True), latent_size=3, hidden_size=8)
      >>> seen = Percept(jnp.zeros((7, 4, 2)), jnp.zeros((7, 4), int), jnp.zeros((7, 4)), jnp.ones((7, 4)))
      >>> policy.belief.infer(policy.init(jax.random.key(0)), seen).mean.shape
      (7, 4, 3)
    """
    public_size = num_public(observation_shape, privileged_size)
    widths = (action_embedding, state_embedding, reward_embedding)
    remembers = memory if isinstance(memory, Memory) else MEMORIES[memory](hidden_size, **options)
    encoder = _make_encoder(remembers, public_size, action, widths, latent_size)
    head = action_head(
        action, init_std=init_std, min_std=min_std, squash=squash, state_dependent_std=state_dependent_std
    )
    actor = _make_actor(head, public_size, privileged_size, latent_size, policy_embeddings, hidden_sizes, activation)
    see = partial(_see, observation_shape, public_size, action)

    def init(key: Key) -> Params:
        key_encoder, key_actor = jax.random.split(key)
        return {ENCODER: encoder.init(key_encoder), **actor.init(key_actor)}

    def decide(params: Params, percept: Percept, belief: PyTree) -> tuple[PyTree, Array]:
        return actor.decide(params, see(percept), belief)

    def infer(params: Params, percept: Percept) -> PyTree:
        return encoder.infer(params[ENCODER], encoder.blank(percept.done.shape[1]), see(percept))[1]

    def unroll(params: Params, carry: Carry, percept: Percept) -> tuple[PyTree, Array, Carry]:
        carry, belief = encoder.infer(params[ENCODER], carry, see(percept))
        return *decide(params, percept, belief), carry

    def act(params: Params, carry: Carry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, Carry]:
        dist_params, _, carry = unroll(params, carry, jax.tree.map(lambda x: x[None], percept))
        dist_params = jax.tree.map(lambda x: x[0], dist_params)
        chosen = head.distribution.sample(dist_params, key)
        return chosen, head.distribution.log_prob(dist_params, chosen), dist_params, carry

    def evaluate(params: Params, carry: Carry, percept: Percept) -> tuple[PyTree, Array]:
        dist_params, value, _ = unroll(params, carry, percept)
        return dist_params, value

    parts = Parts(head=(f"{head.name}/Dense_{len(hidden_sizes)}",), critic=("value",), memory=(ENCODER,))
    belief = Belief(infer, decide, latent_size)
    return Policy(init, encoder.blank, act, evaluate, head.distribution, parts, unroll, belief=belief)


class _Sight(NamedTuple):
    """A percept as networks take it: ``[..., n]`` each.

    Attributes:
      state: the observation, but for what is privileged, and whether an episode begins.
      action: the previous one; one-hot if discrete.
      reward: the previous one.
      privileged: what is for the value alone.
    """

    state: Array
    action: Array
    reward: Array
    privileged: Array


def _see(observation_shape: tuple[int, ...], public_size: int, action: ActionSpec, percept: Percept) -> _Sight:
    reward, previous = percept.previous_reward[..., None], percept.previous_action
    flat = percept.observation.reshape(*percept.done.shape, math.prod(observation_shape)).astype(reward.dtype)
    state = jnp.concatenate([flat[..., :public_size], percept.done[..., None]], axis=-1)
    encoded = jax.nn.one_hot(previous, action.size, dtype=reward.dtype) if action.discrete else previous
    return _Sight(state, encoded, reward, flat[..., public_size:])


class _Encoder(NamedTuple):
    """``infer``: ``(params, carry, sight [T, B, ...]) -> (carry, belief [T, B, latent])``."""

    init: Callable[[Key], Params]
    blank: Callable[[int], Carry]
    infer: Callable[[Params, Carry, _Sight], tuple[Carry, GaussianParams]]


def _make_encoder(
    memory: Memory, state_size: int, action: ActionSpec, widths: tuple[int, int, int], latent_size: int
) -> _Encoder:
    sizes = {"action": action.size, "state": state_size + 1, "reward": 1}
    shown = {name: width for name, width in zip(sizes, widths, strict=True) if width}
    outputs = ("mean", "log_variance")

    def init(key: Key) -> Params:
        key_memory, *keys = jax.random.split(key, 6)
        keyed = dict(zip((*sizes, *outputs), keys, strict=True))
        params = {name: _init_dense(keyed[name], sizes[name], width) for name, width in shown.items()}
        params["memory"] = memory.init(key_memory, sum(widths), state_size + 1)
        return params | {name: _init_dense(keyed[name], memory.size, latent_size) for name in outputs}

    def infer(params: Params, carry: Carry, sight: _Sight) -> tuple[Carry, GaussianParams]:
        embedded = [jax.nn.relu(_dense(params[name], getattr(sight, name))) for name in shown]
        carry, remembered = memory.read(params["memory"], carry, Seen(jnp.concatenate(embedded, axis=-1), sight.state))
        mean, log_variance = (_dense(params[name], remembered) for name in outputs)
        return carry, GaussianParams(mean, 0.5 * log_variance)

    return _Encoder(init, memory.blank, infer)


class _Actor(NamedTuple):
    """``decide``: ``(params, sight [..., n], belief) -> (dist_params, value [...])``."""

    init: Callable[[Key], Params]
    decide: Callable[[Params, _Sight, GaussianParams], tuple[PyTree, Array]]


def _make_actor(
    head: ActionHead,
    state_size: int,
    privileged_size: int,
    latent_size: int,
    embeddings: tuple[int, int],
    hidden_sizes: tuple[int, ...],
    activation: str,
) -> _Actor:
    network, critic = (MLP(tuple(hidden_sizes), size, activation) for size in (head.action.size, 1))
    known_size = sum(embeddings)

    def init(key: Key) -> Params:
        key_state, key_belief, key_policy, key_value = jax.random.split(key, 4)
        return {
            "state": _init_dense(key_state, state_size + 1, embeddings[0]),
            "belief": _init_dense(key_belief, 2 * latent_size, embeddings[1]),
            head.name: network.init(key_policy, jnp.zeros(known_size))["params"],
            "value": critic.init(key_value, jnp.zeros(known_size + privileged_size))["params"],
            **head.init(hidden_sizes[-1] if hidden_sizes else known_size),
        }

    def decide(params: Params, sight: _Sight, belief: GaussianParams) -> tuple[PyTree, Array]:
        believed = jax.lax.stop_gradient(jnp.concatenate([belief.mean, 2.0 * belief.log_std], axis=-1))
        embedded = [_dense(params["state"], sight.state), _dense(params["belief"], believed)]
        known = ACTIVATIONS[activation](jnp.concatenate(embedded, axis=-1))
        output, hidden = map(jnp.asarray, network.apply({"params": params[head.name]}, known, method="layers"))
        judged = jnp.concatenate([known, sight.privileged], axis=-1)
        value = jnp.asarray(critic.apply({"params": params["value"]}, judged))[..., 0]
        return head.distribute(params, output, hidden), value

    return _Actor(init, decide)


def _init_dense(key: Key, size: int, width: int) -> Params:
    return dense(width).init(key, jnp.zeros(size))["params"]


def _dense(params: Params, x: Array) -> Array:
    return jnp.asarray(dense(params["bias"].size).apply({"params": params}, x))
