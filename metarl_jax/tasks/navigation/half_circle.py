"""2D navigation to a goal on a half circle around the start (the point robot of VariBAD's code)."""

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.tasks.beyond import around
from metarl_jax.tasks.navigation.point import (
    NavigationTask,
    RewardKind,
    goal_reward,
    nearest_positions,
    point_family,
)
from metarl_jax.types import Array, Key, PositiveFloat, PositiveInt, TaskFamily

GOAL_RADIUS = 0.2
MAX_PUSH = 0.1


@checked
def navigation_half_circle(
    *,
    horizon: PositiveInt = 100,
    reward: RewardKind = "sparse",
    action_scale: PositiveFloat = 1.0,
) -> TaskFamily:
    """A goal on the upper half of the unit circle (the code of Rakelly et al., 2019, and of Zintgraf et al., 2020).

    The task is the goal, at an angle uniform on [0, pi]; the start is the origin, moves are at most 0.1 per axis, and
    episodes never terminate. The sparse reward is ``1 - |s' - g|`` within 0.2 of the goal, else 0, and an episode
    succeeds that gets there. Out of distribution, goals lie on the adjoining eighths of the circle.

    Args:
      horizon: steps per episode.
      reward: ``sparse``, or ``dense`` for ``-|s' - g|``, or ``squared`` for ``-|s' - g|^2``.
      action_scale: the policy output that means a full move of 0.1.

    Returns:
      The family; observations are positions ``[2]``, actions moves ``[2]``.

    Example:
      >>> family = navigation_half_circle(reward="dense", horizon=1)
      >>> round(float(family.optimum(NavigationTask(jnp.array([0.0, 1.0])))), 3)
      -0.9
    """

    def sample(key: Key) -> NavigationTask:
        return at_angle(jax.random.uniform(key, maxval=jnp.pi))

    def sample_beyond(key: Key) -> NavigationTask:
        return at_angle(jnp.pi / 2.0 + around(key, (), jnp.pi / 2.0))

    def is_there(task: NavigationTask, position: Array) -> Array:
        return jnp.linalg.norm(position - task.goal) <= GOAL_RADIUS

    def sparse(task: NavigationTask, position: Array, moved: Array) -> Array:
        return jnp.where(is_there(task, moved), 1.0 - jnp.linalg.norm(moved - task.goal), 0.0)

    def optimum(task: NavigationTask) -> Array:
        path = nearest_positions(task.goal, MAX_PUSH, horizon)  # each reward falls with the distance
        return jnp.sum(jax.vmap(lambda moved: reward_and_end(task, moved, moved)[0])(path))

    reward_and_end = goal_reward(reward, sparse)
    return point_family(
        sample=sample,
        start=lambda key: jnp.zeros(2),
        reward_and_end=reward_and_end,
        max_push=MAX_PUSH,
        action_scale=action_scale,
        horizon=horizon,
    )._replace(sample_beyond=sample_beyond, success=is_there, optimum=optimum)


def at_angle(angle: Array) -> NavigationTask:
    """A goal on the unit circle, ``angle`` radians from the x axis."""
    return NavigationTask(jnp.stack([jnp.cos(angle), jnp.sin(angle)]))
