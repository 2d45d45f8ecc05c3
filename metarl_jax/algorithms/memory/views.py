"""How a policy sees recorded trials: whole, or in chunks that go on from what was remembered."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.types import Array, Carry, Params, Percept, Policy, PositiveInt, PyTree, require

EvaluateTrials = Callable[[Params, Percept], tuple[PyTree, Array]]
Unroll = Callable[[Params, Carry, Percept], tuple[PyTree, Array, Carry]]


class Chunks(NamedTuple):
    """Trials cut into chunks, each of which goes on from what was remembered before it.

    Attributes:
      recall: ``(params, percept [T, N, ...]) -> (value [T, N], carry [C, N, ...])``, the carry before each of C chunks.
      evaluate: ``(params, carry [N, ...], percept [L, N, ...]) -> (dist_params [L, N, ...], value [L, N])``.
    """

    recall: Callable[[Params, Percept], tuple[Array, Carry]]
    evaluate: Callable[[Params, Carry, Percept], tuple[PyTree, Array]]


@checked
def make_evaluate(policy: Policy, bptt_length: PositiveInt | None = None) -> EvaluateTrials:
    """A recurrent policy's view of whole trials, from an empty memory on.

    Args:
      policy: with a memory.
      bptt_length: no gradient flows through the memory from one stretch of this many steps to the one before
        (truncated back-propagation through time); no limit if None. Values do not depend on it.

    Returns:
      ``(params, percept [T, N, ...]) -> (dist_params [T, N, ...], value [T, N])``.

    Raises:
      ValueError: if the policy has no memory.

    Example:
      >>> from metarl_jax.networks import recurrent_policy
      >>> from metarl_jax.types import ActionSpec
      >>> policy = recurrent_policy((1,), ActionSpec(2, discrete=True), hidden_size=4)
      >>> percept = Percept(jnp.zeros((5, 3, 1)), jnp.zeros((5, 3), int), jnp.zeros((5, 3)), jnp.ones((5, 3)))
      >>> make_evaluate(policy, bptt_length=2)(policy.init(jax.random.key(0)), percept)[1].shape
      (5, 3)
    """
    unroll = _unroll_of(policy)

    def evaluate(params: Params, percept: Percept) -> tuple[PyTree, Array]:
        return _read(unroll, bptt_length, params, policy.initial_carry(percept.done.shape[1]), percept)

    return evaluate


@checked
def make_chunks(policy: Policy, chunk_length: PositiveInt, bptt_length: PositiveInt | None = None) -> Chunks:
    """A recurrent policy's view of trials in chunks.

    Args:
      policy: with a memory.
      chunk_length: steps of a chunk, which divide those of a trial.
      bptt_length: of :func:`make_evaluate`, within a chunk.

    Raises:
      ValueError: if the policy has no memory; ``recall``, if the length does not divide the steps.

    Example:
      >>> from metarl_jax.networks import recurrent_policy
      >>> from metarl_jax.types import ActionSpec
      >>> policy = recurrent_policy((1,), ActionSpec(2, discrete=True), hidden_size=4)
      >>> percept = Percept(jnp.zeros((6, 3, 1)), jnp.zeros((6, 3), int), jnp.zeros((6, 3)), jnp.ones((6, 3)))
      >>> value, carry = make_chunks(policy, 2).recall(policy.init(jax.random.key(0)), percept)
      >>> value.shape, carry.cell.shape
      ((6, 3), (3, 3, 4))
    """
    unroll = _unroll_of(policy)

    def recall(params: Params, percept: Percept) -> tuple[Array, Carry]:
        num_steps, num_trials = percept.done.shape
        _require_whole_chunks(num_steps, chunk_length)
        start = policy.initial_carry(num_trials)
        _, (_, value, carries) = _stretches(unroll, params, start, percept, num_steps, chunk_length)
        return value.reshape(num_steps, num_trials), carries

    return Chunks(recall, partial(_read, unroll, bptt_length))


@checked
def memoryless_chunks(evaluate: EvaluateTrials, chunk_length: PositiveInt) -> Chunks:
    """The view of trials in chunks of what sees each step alone; a zero stands for the memory of a chunk.

    Args:
      evaluate: its view of whole trials.
      chunk_length: of :func:`make_chunks`.

    Raises:
      ValueError: ``recall``, if the length does not divide the steps.

    Example:
      >>> chunks = memoryless_chunks(lambda params, percept: (percept, params * percept), 3)
      >>> value, carry = chunks.recall(2.0, jnp.ones((6, 5)))
      >>> value.shape, carry.shape
      ((6, 5), (2, 5))
    """

    def recall(params: Params, percept: Percept) -> tuple[Array, Carry]:
        _, value = evaluate(params, percept)
        num_steps, num_trials = value.shape
        _require_whole_chunks(num_steps, chunk_length)
        return value, jnp.zeros((num_steps // chunk_length, num_trials))

    return Chunks(recall, lambda params, carry, percept: evaluate(params, percept))


def _require_whole_chunks(num_steps: int, chunk_length: int) -> None:
    remedy = f"must divide the {num_steps} steps of a trial (algorithm.episodes_per_trial times the tasks' horizon)"
    require(num_steps % chunk_length == 0, "chunk_length", chunk_length, remedy)


def _unroll_of(policy: Policy) -> Unroll:
    unroll = policy.unroll
    has_memory = unroll is not None and bool(jax.tree.leaves(policy.initial_carry(1)))
    require(has_memory, "policy", "without memory", "RL^2 adapts by remembering: set policy.name to recurrent")
    remedy = "only varibad trains what its belief is inferred with: set policy.name to recurrent"
    require(policy.belief is None, "policy", "with a belief", remedy)
    assert unroll is not None  # for the type checker
    return unroll


def _read(
    unroll: Unroll, bptt_length: int | None, params: Params, carry: Carry, percept: Percept
) -> tuple[PyTree, Array]:
    """All steps from a carry on, with no gradient from one stretch of ``bptt_length`` steps to the one before."""
    num_steps = percept.done.shape[0]
    length = num_steps if bptt_length is None else min(bptt_length, num_steps)
    whole = num_steps - num_steps % length
    carry, (dist_params, value, _) = _stretches(unroll, params, carry, percept, whole, length)
    seen = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), (dist_params, value))
    if whole == num_steps:
        return seen
    *rest, _ = unroll(params, carry, jax.tree.map(lambda x: x[whole:], percept))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), seen, tuple(rest))


def _stretches(
    unroll: Unroll, params: Params, carry: Carry, percept: Percept, num_steps: int, length: int
) -> tuple[Carry, tuple[PyTree, Array, Carry]]:
    """The first steps, stretch by stretch, without a gradient between them.

    Returns:
      The carry after them; of each stretch ``dist_params`` and ``value``, ``[C, length, N, ...]``, and the carry before
      it, ``[C, N, ...]``.
    """

    def stretch(carry: Carry, percept: Percept) -> tuple[Carry, tuple[PyTree, Array, Carry]]:
        dist_params, value, after = unroll(params, carry, percept)
        return jax.lax.stop_gradient(after), (dist_params, value, carry)

    cut = jax.tree.map(lambda x: x[:num_steps].reshape(-1, length, *x.shape[1:]), percept)
    return jax.lax.scan(stretch, carry, cut)
