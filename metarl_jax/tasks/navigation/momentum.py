"""2D navigation with inertia: the action accelerates the point, and nothing brakes it."""

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.tasks.navigation.point import (
    CORNERS,
    NavigationTask,
    RewardKind,
    goal_reward,
    point_family,
    sample_corner,
    start_in_the_middle,
)
from metarl_jax.types import Array, Key, PositiveFloat, PositiveInt, TaskFamily

SPARSE_RADIUS = 2.0


@checked
def navigation_momentum(
    *,
    horizon: PositiveInt = 100,
    reward: RewardKind = "sparse",
    action_scale: PositiveFloat = 10.0,
) -> TaskFamily:
    """One of four corners for a point with momentum (the code of Rothfuss et al., 2018).

    ``v' = v + clip(a, -0.1, 0.1)`` per axis, ``s' = s + v'``. The first velocity is uniform in ``[-0.1, 0.1]^2``. The
    sparse reward is ``max(2 - |s' - g|, 0)``: nothing beyond a distance of 2, and the start is 2.8 away. The task is
    the goal, one of ``(+-2, +-2)``; the start is uniform in ``[-0.2, 0.2]^2``. Episodes never terminate. Our choice:
    neither speed nor place is bounded, and an episode lasts 100 steps as in the corner task.

    Args:
      horizon: steps per episode.
      reward: ``sparse``, or ``dense`` for ``-|s' - g|``, or ``squared`` for ``-|s' - g|^2``.
      action_scale: the policy output that means a full push of 0.1; the published code uses 10.

    Returns:
      The family; observations are positions and velocities (per step) ``[4]``, actions changes of velocity ``[2]``.

    Example:
      >>> family = navigation_momentum(action_scale=1.0)
      >>> task = NavigationTask(jnp.array([2.0, 2.0]))
      >>> at_rest = jnp.array([2.0, 1.0, 0.0, 0.0])
      >>> _, observation, reward, _ = family.step(task, at_rest, jnp.array([0.0, 1.0]), jax.random.key(0))
      >>> [round(x, 3) for x in observation.tolist()], round(reward.item(), 3)
      ([2.0, 1.1, 0.0, 0.1], 1.1)
    """

    def start(key: Key) -> Array:
        key_position, key_velocity = jax.random.split(key)
        velocity = jax.random.uniform(key_velocity, (2,), minval=-0.1, maxval=0.1)
        return jnp.concatenate([start_in_the_middle(key_position), velocity])

    def move(task: NavigationTask, state: Array, push: Array) -> Array:
        velocity = state[2:] + push
        return jnp.concatenate([state[:2] + velocity, velocity])

    def sparse(task: NavigationTask, state: Array, moved: Array) -> Array:
        return jnp.maximum(SPARSE_RADIUS - jnp.linalg.norm(moved[:2] - task.goal), 0.0)

    return point_family(
        sample=sample_corner,
        start=start,
        move=move,
        reward_and_end=goal_reward(reward, sparse),
        max_push=0.1,
        action_scale=action_scale,
        horizon=horizon,
    )._replace(num_tasks=len(CORNERS))
