"""A policy that is a transformer over the transitions that it has seen, as a set (Lee et al., 2023)."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import Traced, checked
from metarl_jax.networks.attention import Attend, Scheme, Transformer, attention
from metarl_jax.networks.heads import ActionHead, action_head
from metarl_jax.networks.mlp import MLP
from metarl_jax.networks.recurrent import percept_features
from metarl_jax.ops import trees
from metarl_jax.types import (
    ActionSpec,
    Array,
    Context,
    Key,
    Params,
    Parts,
    Percept,
    Policy,
    PositiveFloat,
    PositiveInt,
    PyTree,
    require,
)


class InContextCarry(NamedTuple):
    """What an in-context policy carries from step to step; all zeros at first.

    Attributes:
      observation: ``[B, n]`` the last one.
      kept: of each layer, keys and values ``[B, heads, context_length + 1, h]`` of what it is shown: first that the
        trial begins, then the newest transitions.
      steps: ``[B]`` taken in the trial so far.
    """

    observation: Array
    kept: tuple[tuple[Array, Array], ...]
    steps: Array


@checked
def in_context_policy(
    observation_shape: tuple[int, ...],
    action: ActionSpec,
    *,
    context_length: PositiveInt = 100,
    size: PositiveInt = 32,
    num_layers: PositiveInt = 4,
    num_heads: PositiveInt = 1,
    scheme: Scheme = "pre_norm",
    init_std: Traced[PositiveFloat] = 1.0,
    min_std: Traced[PositiveFloat] = 1e-6,
) -> Policy:
    """A transformer over the newest ``context_length`` transitions and the present observation, the *query*.

    A transition is an observation, the action, its reward, the observation that followed (none where the episode
    ended) and whether the episode ended. Neither transitions nor the query have positions. A transition attends to
    those that it was shown after and to itself, the query to all; transitions do not attend to the query, unlike in
    DPT's code, where it comes first. So keys and values of a transition are computed once, when it happens, and a step
    costs two tokens instead of the whole context.

    Parameters are ``"context"``, the transformer, and the head: ``"logits"``, or ``"mean"`` and ``"log_std"``. It has
    no critic: :func:`metarl_jax.algorithms.dpt` and :func:`metarl_jax.algorithms.ad` train it.

    Args:
      observation_shape: shape of one observation; flattened.
      action: what the task takes.
      context_length: transitions that are remembered, the newest.
      size: width of the transformer.
      num_layers: its blocks.
      num_heads: heads of each; they divide the width.
      scheme: ``pre_norm``, or ``t_fixup`` without normalisation.
      init_std: initial standard deviation of continuous actions.
      min_std: its floor.

    Raises:
      ValueError: if the heads do not divide the width, or a standard deviation is out of range.

    Example:
      >>> policy = in_context_policy((1,), ActionSpec(5, discrete=True), context_length=10, size=8)
      >>> params, carry = policy.init(jax.random.key(0)), policy.initial_carry(3)
      >>> percept = Percept(jnp.zeros((3, 1)), jnp.zeros(3, int), jnp.zeros(3), jnp.ones(3))
      >>> chosen, _, _, carry = policy.act(params, carry, percept, jax.random.key(1))
      >>> chosen.shape, carry.steps.tolist()
      ((3,), [1, 1, 1])
    """
    require(size % num_heads == 0, "num_heads", num_heads, f"must divide size = {size}")
    head = action_head(action, init_std=init_std, min_std=min_std)
    net = _Net(
        Transformer(size, num_layers, num_heads, scheme), head, MLP((), action.size), math.prod(observation_shape)
    )
    decide = partial(_decide, net, context_length)

    def act(params: Params, carry: InContextCarry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, PyTree]:
        carry, dist_params = decide(params, carry, percept)
        chosen = head.distribution.sample(dist_params, key)
        return chosen, head.distribution.log_prob(dist_params, chosen), dist_params, carry

    def unroll(params: Params, carry: InContextCarry, percept: Percept) -> tuple[PyTree, Array, InContextCarry]:
        carry, dist_params = jax.lax.scan(partial(decide, params), carry, percept)
        return dist_params, jnp.zeros_like(percept.previous_reward), carry

    def evaluate(params: Params, carry: InContextCarry, percept: Percept) -> tuple[PyTree, Array]:
        dist_params, value, _ = unroll(params, carry, percept)
        return dist_params, value

    return Policy(
        partial(_init, net),
        partial(_blank, net, context_length),
        act,
        evaluate,
        head.distribution,
        Parts(head=(f"{head.name}/Dense_0",), memory=("context",)),
        unroll,
        from_context=partial(_from_context, net, context_length),
    )


class _Net(NamedTuple):
    """What turns tokens into distributions of actions.

    Attributes:
      transformer: over transitions and queries.
      head: of the policy.
      linear: from a query to the head.
      num_seen: numbers in an observation.
    """

    transformer: Transformer
    head: ActionHead
    linear: MLP
    num_seen: int


def _init(net: _Net, key: Key) -> Params:
    key_transformer, key_head = jax.random.split(key)
    blank, hidden = jnp.zeros((1, 2 * net.num_seen + net.head.action.size + 4)), jnp.zeros(net.transformer.size)
    params = {"context": net.transformer.init(key_transformer, blank)["params"], **net.head.init(len(hidden))}
    return {**params, net.head.name: net.linear.init(key_head, hidden)["params"]}


def _blank(net: _Net, context_length: int, batch_size: int) -> InContextCarry:
    heads, size = net.transformer.num_heads, net.transformer.size
    layer = jnp.zeros((batch_size, heads, context_length + 1, size // heads))
    kept = ((layer, layer),) * net.transformer.num_layers
    return InContextCarry(jnp.zeros((batch_size, net.num_seen)), kept, jnp.zeros(batch_size, jnp.int32))


def _read(net: _Net, params: Params, tokens: Array, past: PyTree, attend: Attend) -> tuple[PyTree, PyTree]:
    """What to do at the queries, which are the second half of the tokens ``[..., 2 T, m]``, and what is past then."""
    hidden, past = net.transformer.apply({"params": params["context"]}, tokens, past, attend, method="read")
    hidden = hidden[..., tokens.shape[-2] // 2 :, :]
    output = jnp.asarray(net.linear.apply({"params": params[net.head.name]}, hidden))
    return net.head.distribute(params, output, hidden), past


def _decide(
    net: _Net, context_length: int, params: Params, carry: InContextCarry, percept: Percept
) -> tuple[InContextCarry, PyTree]:
    """One step, percept ``[B, ...]``: the newest transition takes the place of the oldest."""
    now = percept.observation.reshape(-1, net.num_seen).astype(carry.observation.dtype)
    has_begun = (carry.steps > 0).astype(now.dtype)
    transition = Context(carry.observation, percept._replace(observation=now), has_begun)
    slot = jnp.where(carry.steps > 0, 1 + (carry.steps - 1) % context_length, 0)[:, None]
    slots = jnp.arange(context_length + 1)
    attend = partial(_attend_to_kept, slots == slot, slots <= carry.steps[:, None])
    tokens = jnp.stack(_tokens(net.head.action, transition, now), axis=1)
    dist_params, kept = _read(net, params, tokens, carry.kept, attend)
    after = trees.cast_like(InContextCarry(now, kept, carry.steps + 1), carry)
    return after, jax.tree.map(lambda x: x[:, 0], dist_params)


def _from_context(net: _Net, context_length: int, params: Params, context: Context, observation: Array) -> PyTree:
    """All steps at once: place 0 is what is there when a trial begins, place ``t`` has transition ``t - 1``."""
    before, after, now = (
        x.reshape(*context.valid.shape, net.num_seen).astype(context.valid.dtype)
        for x in (context.observation, context.outcome.observation, observation)
    )
    flat = Context(before, context.outcome._replace(observation=after), context.valid)
    shown = jax.tree.map(lambda x: jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]), flat)
    place = jnp.arange(len(context.valid))
    age = place[:, None] - place
    in_reach = (age >= 0) & (age < context_length) & (shown.valid.T[:, None] > 0) | (place == 0)
    tokens = jnp.moveaxis(jnp.concatenate(_tokens(net.head.action, shown, now)), 0, 1)
    past = ((),) * net.transformer.num_layers
    dist_params, _ = _read(net, params, tokens, past, partial(_attend_to_shown, in_reach))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), dist_params)


def _tokens(action: ActionSpec, context: Context, query: Array) -> tuple[Array, Array]:
    """What the transformer is shown of transitions and of queries, ``[..., 2 n + action size + 4]`` each.

    The last two numbers say whether it is no transition, and what it is then: a query or nothing.
    """
    followed = context.outcome.observation * (1.0 - context.outcome.done[..., None])
    outcome = percept_features(context.outcome._replace(observation=followed), query.shape[-1:], action)
    transition = jnp.concatenate([context.observation.astype(query.dtype), outcome], axis=-1)
    counts = context.valid[..., None] > 0
    shown = jnp.where(counts, transition, 0.0)  # nothing of what does not count, NaN neither
    asked = jnp.pad(query, [(0, 0)] * (query.ndim - 1) + [(0, outcome.shape[-1])])
    is_query = jnp.ones_like(query[..., :1])
    return (
        jnp.concatenate([shown, jnp.where(counts, 0.0, is_query), 0.0 * is_query], axis=-1),
        jnp.concatenate([asked, is_query, is_query], axis=-1),
    )


def _attend_to_kept(
    is_slot: Array, is_filled: Array, past: tuple[Array, Array], query: Array, key: Array, value: Array
) -> tuple[Array, tuple[Array, Array]]:
    """Keep the first of two tokens ``[B, heads, 2, h]`` in its slot, and let both attend to what is kept."""
    keys, values = (
        jnp.where(is_slot[:, None, :, None], new[:, :, :1], old) for new, old in zip((key, value), past, strict=True)
    )
    return attention(query, keys, values, is_filled[:, None, None]), (keys, values)


def _attend_to_shown(in_reach: Array, past: PyTree, query: Array, key: Array, value: Array) -> tuple[Array, PyTree]:
    """``T`` transitions and ``T`` queries behind them attend to the transitions within reach ``[B, T, T]``."""
    half = key.shape[-2] // 2
    mask = jnp.concatenate([in_reach, in_reach], axis=-2)
    return attention(query, key[..., :half, :], value[..., :half, :], mask[:, None]), past
