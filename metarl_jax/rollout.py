"""Collect episodes, or trials of several episodes: one task, ``B`` of them side by side, a scan over time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.ops import trees
from metarl_jax.types import Array, Carry, EnvState, Key, Params, Percept, Policy, Task, TaskFamily, Trajectory


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


def rollout(
    family: TaskFamily,
    policy: Policy,
    params: Params,
    task: Task,
    key: Key,
    num_episodes: int,
    *,
    carry: Carry | None = None,
    keep_states: bool = False,
) -> Trajectory:
    """Run ``num_episodes`` episodes of one task to the horizon.

    Every episode starts from its own fresh reset. One that terminates is frozen, and masked, for the rest of its
    horizon; the time limit itself is not a termination. Random numbers are addressed by time step, so the first
    steps of a longer horizon are the same.

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
      >>> from metarl_jax.tasks.navigation import navigation_finn
      >>> family = navigation_finn(horizon=5)
      >>> policy = mlp_policy(family.observation_shape, family.action)
      >>> task = family.sample(jax.random.key(0))
      >>> rollout(family, policy, policy.init(jax.random.key(1)), task, jax.random.key(2), 3).reward.shape
      (5, 3)
    """
    memory = _blank_memory(family, policy, task, key, num_episodes)
    if carry is not None:
        memory = memory._replace(carry=carry)
    last, outputs = _episodes(family, policy, params, task, key, memory, num_episodes, keep_states)
    return Trajectory._make([*outputs, last.percept])


def rollout_trial(
    family: TaskFamily,
    policy: Policy,
    params: Params,
    task: Task,
    key: Key,
    episodes_per_trial: int,
    num_trials: int,
) -> tuple[Trajectory, Carry]:
    """Run ``num_trials`` trials of ``n`` episodes each, through which the policy keeps its memory.

    The environment is reset with a fresh key at the start of every episode; the policy's carry is not. The first step
    of a trial shows action 0 and reward 0; that of a later episode shows the last action taken in the episode before
    and the reward that it earned. ``done`` is 1 on both. An episode that terminates early is frozen and masked until
    its horizon; the policy goes on looking at it, with reward 0, so that ``evaluate`` sees what ``act`` saw.

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
      >>> from metarl_jax.tasks.bandit import bandit_bernoulli
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

    blank = _blank_memory(family, policy, task, key, num_trials)
    memory, (outputs, last_percepts) = jax.lax.scan(episode, blank, jnp.arange(episodes_per_trial))
    in_a_row = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)
    return Trajectory._make([*in_a_row, jax.tree.map(lambda x: x[-1], last_percepts)]), memory.carry


def _blank_memory(family: TaskFamily, policy: Policy, task: Task, key: Key, num_lanes: int) -> _Memory:
    """Nothing seen or done yet: action 0, reward 0."""
    _, observation = jax.eval_shape(family.reset, task, key)
    action_shape = (num_lanes,) if family.action.discrete else (num_lanes, family.action.size)
    action_dtype = jnp.int32 if family.action.discrete else observation.dtype
    return _Memory(policy.initial_carry(num_lanes), jnp.zeros(action_shape, action_dtype), jnp.zeros(num_lanes))


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
    first = Percept(observation, memory.action, memory.reward, jnp.ones(num_lanes))
    start = _Loop(state, first, memory, jnp.ones(num_lanes, bool))
    step_batch = jax.vmap(family.step, in_axes=(None, 0, 0, 0))

    def step(loop: _Loop, t: Array) -> tuple[_Loop, tuple]:
        key_act, key_env = jax.random.split(jax.random.fold_in(key_steps, t))
        action, log_prob, dist_params, carry = policy.act(params, loop.memory.carry, loop.percept, key_act)
        state, observation, reward, terminated = step_batch(
            task, loop.state, action, jax.random.split(key_env, num_lanes)
        )
        reward = jnp.where(loop.alive, reward, 0.0)
        state, observation = trees.where(loop.alive, (state, observation), (loop.state, loop.percept.observation))
        discount = jnp.where(loop.alive & terminated, 0.0, 1.0)
        kept = state if keep_states else ()
        outputs = (loop.percept, action, reward, discount, loop.alive.astype(reward.dtype), log_prob, dist_params, kept)
        percept = Percept(observation, action, reward, jnp.zeros(num_lanes))
        earned = trees.where(loop.alive, (action, reward), (loop.memory.action, loop.memory.reward))
        return _Loop(state, percept, _Memory(carry, *earned), loop.alive & ~terminated), outputs

    return jax.lax.scan(step, start, jnp.arange(family.horizon))
