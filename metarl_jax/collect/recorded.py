"""Episodes that somebody else recorded, on a robot say, as the trajectories that a rollout would have given."""

from functools import partial

import jax.numpy as jnp

from metarl_jax.types import Array, Episodes, Params, Percept, Policy, Trajectory


def recorded_percepts(episodes: Episodes, action: Array, reward: Array) -> Percept:
    """What the policy saw before each step; frozen after an episode's end, as a rollout is.

    Args:
      episodes: ``[T, B, ...]``.
      action: the last one before these episodes, ``[B, ...]``; zeros if there was none.
      reward: what it earned, ``[B]``.

    Returns:
      ``[T, B, ...]``.
    """
    until_end = partial(_until, episodes.length)
    no_reward = jnp.where(_counts(episodes), episodes.reward, 0.0)
    return Percept(
        observation=until_end(episodes.observation)[:-1],
        previous_action=jnp.concatenate([action[None], until_end(episodes.action, 1)[:-1]]),
        previous_reward=jnp.concatenate([reward[None], no_reward[:-1]]),
        done=jnp.zeros_like(no_reward).at[0].set(1.0),
    )


def recorded_trajectory(policy: Policy, params: Params, episodes: Episodes) -> Trajectory:
    """The trajectory of recorded episodes, as if these parameters had sampled them.

    Args:
      policy: a memoryless one.
      params: its parameters.
      episodes: ``[T, B, ...]``. One that is shorter than ``T`` ended by termination.

    Returns:
      ``[T, B, ...]``.

    Example:
      >>> import jax
      >>> from metarl_jax.networks.mlp import mlp_policy
      >>> from metarl_jax.types import ActionSpec
      >>> policy = mlp_policy((2,), ActionSpec(2))
      >>> episodes = Episodes(jnp.zeros((6, 3, 2)), jnp.zeros((5, 3, 2)), jnp.ones((5, 3)), jnp.array([5, 2, 1]),
      ...                     jnp.zeros(3))
      >>> recorded_trajectory(policy, policy.init(jax.random.key(0)), episodes).mask.sum(0).tolist()
      [5.0, 2.0, 1.0]
    """
    action = _until(episodes.length, episodes.action, 1)
    percept = recorded_percepts(episodes, jnp.zeros_like(action[0]), jnp.zeros_like(episodes.reward[0]))
    dist_params, _ = policy.evaluate(params, policy.initial_carry(action.shape[1]), percept)
    counts = _counts(episodes)
    reward, mask = jnp.where(counts, episodes.reward, 0.0), counts.astype(percept.done.dtype)
    num_steps = mask.shape[0]
    is_over = (episodes.terminated > 0) | (episodes.length < num_steps)
    is_last = jnp.arange(num_steps)[:, None] == episodes.length - 1
    final = Percept(
        _until(episodes.length, episodes.observation)[-1], action[-1], reward[-1], jnp.zeros_like(reward[-1])
    )
    return Trajectory(
        percept=percept,
        action=action,
        reward=reward,
        discount=jnp.where(is_last & is_over, 0.0, jnp.ones_like(mask)),
        mask=mask,
        taken=mask,
        log_prob=policy.distribution.log_prob(dist_params, action),
        dist_params=dist_params,
        state=(),
        success=None,
        final_percept=final,
    )


def last_taken(episodes: Episodes) -> tuple[Array, Array]:
    """The last action of each episode, ``[B, ...]``, and what it earned, ``[B]``.

    Args:
      episodes: ``[T, B, ...]``.
    """
    last = (jnp.maximum(episodes.length - 1, 0), jnp.arange(episodes.length.shape[0]))
    return episodes.action[last], episodes.reward[last]


def _counts(episodes: Episodes) -> Array:
    """Which steps were taken, ``[T, B]``."""
    return jnp.arange(episodes.reward.shape[0])[:, None] < episodes.length


def _until(length: Array, x: Array, before: int = 0) -> Array:
    """``[T, B, ...]`` with the entry at ``length - before`` in the place of all that follow it."""
    times = jnp.minimum(jnp.arange(x.shape[0])[:, None], jnp.maximum(length - before, 0))
    return x[times, jnp.arange(x.shape[1])]
