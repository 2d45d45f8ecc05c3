"""Collect episodes: one task, ``B`` episodes side by side, a scan over time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.ops import trees
from metarl_jax.types import Array, Carry, EnvState, Key, Params, Percept, Policy, Task, TaskFamily, Trajectory


class _Loop(NamedTuple):
    state: EnvState
    percept: Percept
    carry: Carry
    alive: Array


def rollout(family: TaskFamily, policy: Policy, params: Params, task: Task, key: Key, num_episodes: int) -> Trajectory:
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
    key_reset, key_steps = jax.random.split(key)
    state, observation = jax.vmap(family.reset, in_axes=(None, 0))(task, jax.random.split(key_reset, num_episodes))
    zeros = jnp.zeros(num_episodes)
    action_shape = (num_episodes,) if family.action.discrete else (num_episodes, family.action.size)
    action_dtype = jnp.int32 if family.action.discrete else observation.dtype
    first = Percept(observation, jnp.zeros(action_shape, action_dtype), zeros, jnp.ones(num_episodes))
    start = _Loop(state, first, policy.initial_carry(num_episodes), jnp.ones(num_episodes, bool))
    step_batch = jax.vmap(family.step, in_axes=(None, 0, 0, 0))

    def step(loop: _Loop, t: Array) -> tuple[_Loop, tuple]:
        key_act, key_env = jax.random.split(jax.random.fold_in(key_steps, t))
        action, log_prob, dist_params, carry = policy.act(params, loop.carry, loop.percept, key_act)
        state, observation, reward, terminated = step_batch(
            task, loop.state, action, jax.random.split(key_env, num_episodes)
        )
        reward = jnp.where(loop.alive, reward, 0.0)
        state, observation = trees.where(loop.alive, (state, observation), (loop.state, loop.percept.observation))
        discount = jnp.where(loop.alive & terminated, 0.0, 1.0)
        outputs = (loop.percept, action, reward, discount, loop.alive.astype(reward.dtype), log_prob, dist_params)
        percept = Percept(observation, action, reward, zeros)
        return _Loop(state, percept, carry, loop.alive & ~terminated), outputs

    last, outputs = jax.lax.scan(step, start, jnp.arange(family.horizon))
    percept, action, reward, discount, mask, log_prob, dist_params = outputs
    return Trajectory(percept, action, reward, discount, mask, log_prob, dist_params, last.percept)
