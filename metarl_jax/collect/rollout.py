"""Collect episodes, or trials of several episodes: one task, ``B`` of them side by side, a scan over time."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.ops import trees
from metarl_jax.ops.returns import episode_return, has_succeeded, has_terminated, is_dropped
from metarl_jax.types import (
    Array,
    Carry,
    EnvState,
    Info,
    Key,
    Params,
    Percept,
    Policy,
    PositiveInt,
    PyTree,
    Task,
    TaskFamily,
    Trajectory,
)

STEP_SCOPE = "environment_step"
"""What the operations of a step are named in a compiled program, so that a plan finds the loop over them."""


class _Memory(NamedTuple):
    """What outlives an episode within a trial: the policy's carry, the last action taken and the reward it earned."""

    carry: Carry
    action: Array
    reward: Array


class _Loop(NamedTuple):
    state: EnvState
    percept: Percept
    memory: _Memory
    alive: Array
    failed: Array


@checked
def rollout(
    family: TaskFamily,
    policy: Policy,
    params: Params,
    task: Task,
    key: Key,
    num_episodes: PositiveInt,
    *,
    carry: Carry | None = None,
    keep_states: bool = False,
) -> Trajectory:
    """Run ``num_episodes`` episodes of one task to the horizon.

    Every episode starts from its own fresh reset. One that terminates is frozen, and masked, for the rest of its
    horizon; the time limit itself is not a termination. Random numbers are addressed by time step, so the first
    steps of a longer horizon are the same.

    An episode *fails* when its environment does: after a finite action the reward is not finite, a number of the state
    turns infinite or NaN, or the observation that the policy would act on is not finite (that of a step that terminates
    is never looked at). It ends there, no step of it counts, and the policy goes on seeing its last finite observation.
    An action that is not finite is the policy's fault: its NaN stays, so that the update is not taken.

    Args:
      family: where the task comes from.
      policy: what acts.
      params: the policy's parameters.
      task: one task (no leading axis).
      key: one key for the whole rollout.
      num_episodes: ``B``.
      carry: what the policy remembers at the start, for ``B`` episodes; nothing if None.
      keep_states: put the environment's states into the trajectory, to draw them.

    Returns:
      ``[T, B, ...]`` trajectory.

    Example:
      >>> from metarl_jax.networks.mlp import mlp_policy
      >>> from metarl_jax.tasks.navigation.goals import navigation_finn
      >>> family = navigation_finn(horizon=5)
      >>> policy = mlp_policy(family.observation_shape, family.action)
      >>> task = family.sample(jax.random.key(0))
      >>> rollout(family, policy, policy.init(jax.random.key(1)), task, jax.random.key(2), 3).reward.shape
      (5, 3)
    """
    memory = _blank_memory(family, policy, num_episodes)
    if carry is not None:
        memory = memory._replace(carry=carry)
    last, outputs = _episodes(family, policy, params, task, key, memory, num_episodes, keep_states)
    return Trajectory._make([*outputs, last.percept])


@checked
def rollout_trial(
    family: TaskFamily,
    policy: Policy,
    params: Params,
    task: Task,
    key: Key,
    episodes_per_trial: PositiveInt,
    num_trials: PositiveInt,
) -> tuple[Trajectory, Carry]:
    """Run ``num_trials`` trials of ``n`` episodes each, through which the policy keeps its memory.

    The environment is reset with a fresh key at the start of every episode; the policy's carry is not. The first step
    of a trial shows action 0 and reward 0; that of a later episode shows the last action taken in the episode before
    and the reward that it earned. ``done`` is 1 on both. An episode that terminates early is frozen and masked until
    its horizon; the policy goes on looking at it, with reward 0, so that ``evaluate`` sees what ``act`` saw. Of one
    that fails (see :func:`rollout`) no step counts; the trial goes on.

    Args:
      family: where the task comes from.
      policy: what acts.
      params: the policy's parameters.
      task: one task (no leading axis).
      key: one key for the whole rollout; episode ``i`` is that of :func:`rollout` with ``fold_in(key, i)``, but for
        what the policy remembers.
      episodes_per_trial: ``n``.
      num_trials: ``B``.

    Returns:
      ``[n T, B, ...]`` trajectory, one trial in each column, and the policy's carry at its end. ``discount`` is 0
      where an episode terminated, which does not end the trial.

    Example:
      >>> from metarl_jax.networks.recurrent import recurrent_policy
      >>> from metarl_jax.tasks.discrete.bandit import bandit_bernoulli
      >>> family = bandit_bernoulli()
      >>> policy = recurrent_policy(family.observation_shape, family.action, hidden_size=4)
      >>> params, task = policy.init(jax.random.key(0)), family.sample(jax.random.key(1))
      >>> trajectory, carry = rollout_trial(family, policy, params, task, jax.random.key(2), 10, 3)
      >>> trajectory.reward.shape, carry.cell.shape
      ((10, 3), (3, 4))
    """

    def episode(memory: _Memory, i: Array) -> tuple[_Memory, tuple]:
        last, outputs = _episodes(family, policy, params, task, jax.random.fold_in(key, i), memory, num_trials)
        return last.memory, (outputs, last.percept)

    blank = _blank_memory(family, policy, num_trials)
    memory, (outputs, last_percepts) = jax.lax.scan(episode, blank, jnp.arange(episodes_per_trial))
    in_a_row = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)
    return Trajectory._make([*in_a_row, jax.tree.map(lambda x: x[-1], last_percepts)]), memory.carry


@checked
def rollout_tests(
    family: TaskFamily,
    policy: Policy,
    params: Params,
    task: Task,
    key: Key,
    episodes_per_trial: PositiveInt,
    num_trials: PositiveInt,
) -> Trajectory:
    """The trials of :func:`rollout_trial`, and beside each of their episodes one by the mode, which is forgotten.

    Args:
      family: see there, like the rest.
      policy: see there.
      params: see there.
      task: see there.
      key: of the trials.
      episodes_per_trial: ``n``.
      num_trials: ``B``.

    Returns:
      ``[n, T, B, ...]``: the episodes by the mode, each from the memory of those before it in the trial.
    """

    def episode(memory: _Memory, i: Array) -> tuple[_Memory, tuple]:
        key_episode = jax.random.fold_in(key, i)
        explored, _ = _episodes(family, policy, params, task, key_episode, memory, num_trials)
        by_mode_from = (by_mode(policy), params, task, key_beside(key_episode), memory, num_trials)
        last, outputs = _episodes(family, *by_mode_from)
        return explored.memory, (*outputs, last.percept)

    blank = _blank_memory(family, policy, num_trials)
    return Trajectory._make(jax.lax.scan(episode, blank, jnp.arange(episodes_per_trial))[1])


def by_mode(policy: Policy) -> Policy:
    """The policy that takes the most likely action.

    Example:
      >>> from metarl_jax.networks.mlp import mlp_policy
      >>> from metarl_jax.types import ActionSpec
      >>> policy = by_mode(mlp_policy((2,), ActionSpec(3)))
      >>> percept = Percept(jnp.ones((1, 2)), jnp.zeros((1, 3)), jnp.zeros(1), jnp.ones(1))
      >>> params = policy.init(jax.random.key(0))
      >>> first, second = (policy.act(params, (), percept, jax.random.key(i))[0] for i in (1, 2))
      >>> (first == second).all().item()
      True
    """

    def act(params: Params, carry: Carry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, Carry]:
        _, _, dist_params, carry = policy.act(params, carry, percept, key)
        action = policy.distribution.mode(dist_params)
        return action, policy.distribution.log_prob(dist_params, action), dist_params, carry

    return policy._replace(act=act)


def key_beside(key: Key) -> Key:
    """The key of the episodes by the mode beside those of a key, which splits in two."""
    return jax.random.fold_in(key, 2)


def episode_info(trajectory: Trajectory) -> Info:
    """What each of many episodes came to, as the ``info`` of :class:`metarl_jax.types.MetaAlgorithm` has it.

    Args:
      trajectory: ``[K + 1, T, B, ...]``.

    Returns:
      ``[K + 1, B]`` each: ``return``, ``terminated``, ``dropped`` and, where a function of the family measures it,
      ``success``.
    """
    info = {
        "return": jax.vmap(episode_return)(trajectory.reward, trajectory.mask),
        "terminated": jax.vmap(has_terminated)(trajectory.discount),
        "dropped": jax.vmap(is_dropped)(trajectory.mask),
    }
    if trajectory.success is not None:
        info["success"] = jax.vmap(has_succeeded)(trajectory.success)
    return info


def _blank_memory(family: TaskFamily, policy: Policy, num_lanes: int) -> _Memory:
    """Nothing seen or done yet: action 0, reward 0."""
    no_action = jnp.zeros(num_lanes, int) if family.action.discrete else jnp.zeros((num_lanes, family.action.size))
    return _Memory(policy.initial_carry(num_lanes), no_action, jnp.zeros(num_lanes))


def _episodes(
    family: TaskFamily,
    policy: Policy,
    params: Params,
    task: Task,
    key: Key,
    memory: _Memory,
    num_lanes: int,
    keep_states: bool = False,
) -> tuple[_Loop, tuple]:
    """One episode in every lane, from a fresh reset and a given memory to the horizon."""
    key_reset, key_steps = jax.random.split(key)
    state, observation = jax.vmap(family.reset, in_axes=(None, 0))(task, jax.random.split(key_reset, num_lanes))
    is_lost = _in_lane(_is_not_finite, observation) | _in_lane(jnp.isnan, family.must_be_finite(state))
    failed = jnp.broadcast_to(is_lost, num_lanes)
    observation = trees.where(failed, jnp.zeros_like(observation), observation)
    first = Percept(observation, memory.action, memory.reward, jnp.ones(num_lanes))
    start = _Loop(state, first, memory, ~failed, failed)
    step_batch = jax.vmap(family.step, in_axes=(None, 0, 0, 0))

    def step(loop: _Loop, t: Array) -> tuple[_Loop, tuple]:
        key_act, key_env = jax.random.split(jax.random.fold_in(key_steps, t))
        action, log_prob, dist_params, carry = policy.act(params, loop.memory.carry, loop.percept, key_act)
        action = trees.cast_like(action, loop.memory.action)
        state, observation, reward, terminated = step_batch(
            task, loop.state, action, jax.random.split(key_env, num_lanes)
        )
        is_sound = ~_in_lane(_is_not_finite, action)
        is_unseeable = is_sound & _in_lane(_is_not_finite, observation)
        has_diverged = _in_lane(_breaks, family.must_be_finite(loop.state), family.must_be_finite(state))
        is_broken = _is_not_finite(reward) | has_diverged | (is_unseeable & ~terminated)
        failed = loop.alive & is_sound & is_broken
        moved = loop.alive & ~failed
        reward = jnp.where(moved, jnp.asarray(reward, float), 0.0)
        state = trees.where(moved, state, loop.state)
        observation = trees.where(moved & ~is_unseeable, observation, loop.percept.observation)
        discount = jnp.where(moved & terminated, 0.0, 1.0)
        kept = state if keep_states else ()
        success = jax.vmap(family.success, in_axes=(None, 0))(task, state) if callable(family.success) else None
        taken = loop.alive.astype(reward.dtype)
        outputs = (loop.percept, action, reward, discount, taken, log_prob, dist_params, kept, success)
        percept = Percept(observation, action, reward, jnp.zeros(num_lanes))
        earned = trees.where(loop.alive, (action, reward), (loop.memory.action, loop.memory.reward))
        return _Loop(state, percept, _Memory(carry, *earned), moved & ~terminated, loop.failed | failed), outputs

    last, outputs = jax.lax.scan(jax.named_scope(STEP_SCOPE)(step), start, jnp.arange(family.horizon))
    percept, action, reward, discount, taken, *rest = outputs
    reward, mask = (jnp.where(last.failed, 0.0, x) for x in (reward, taken))
    return last, (percept, action, reward, discount, mask, taken, *rest)


def _in_lane(holds: Callable[..., Array], *trees_of_lanes: PyTree) -> Array:
    """Whether something holds of any floating-point number of each lane; ``[B]``, ``[]`` if there is no such number."""
    numbers = [x for x in zip(*map(jax.tree.leaves, trees_of_lanes), strict=True) if _is_inexact(x[0])]
    hits = [holds(*x).any(axis=tuple(range(1, x[0].ndim))) for x in numbers]
    return functools.reduce(jnp.logical_or, hits, jnp.array(False))


def _is_inexact(x: Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def _is_not_finite(x: Array) -> Array:
    return ~jnp.isfinite(x)


def _breaks(before: Array, after: Array) -> Array:
    """From finite to infinite, or to NaN; an infinity that stays one is some environments' way to say *not yet*."""
    return (jnp.isfinite(before) & ~jnp.isfinite(after)) | (~jnp.isnan(before) & jnp.isnan(after))
