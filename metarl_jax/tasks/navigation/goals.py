"""2D navigation: a point must find a goal that it cannot see.

Two published forms: Finn et al. (2017), a goal anywhere in a square, and the corner task of Rothfuss et al. (2018).
With inertia: ``navigation_momentum``; with obstacles: ``navigation_walls``.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.tasks.beyond import above
from metarl_jax.tasks.navigation.point import (
    CORNERS,
    NavigationTask,
    RewardKind,
    goal_reward,
    nearest_positions,
    point_family,
    sample_corner,
    start_in_the_middle,
)
from metarl_jax.types import Array, Key, PositiveFloat, PositiveInt, TaskFamily


@checked
def navigation_finn(
    *,
    horizon: PositiveInt = 100,
    reward: Literal["distance", "squared_distance"] = "distance",
    action_scale: PositiveFloat = 1.0,
) -> TaskFamily:
    """A goal in the unit square around the start, dense reward (Finn et al., 2017).

    Goals are uniform in ``[-0.5, 0.5]^2``, the start is the origin, moves are at most 0.1 per axis. The reward is
    ``-|s' - g|`` (the authors' code; their text has the square). The episode terminates when both coordinates are
    within 0.01 of the goal's. Out of distribution, goals are on the borders of squares up to half as large again.

    Args:
      horizon: steps per episode.
      reward: ``distance`` for ``-|s' - g|``, ``squared_distance`` for ``-|s' - g|^2``.
      action_scale: the policy output that means a full move of 0.1.

    Returns:
      The family; observations are positions ``[2]``, actions moves ``[2]``.

    Example:
      >>> family = navigation_finn()
      >>> task = family.sample(jax.random.key(0))
      >>> state, observation = family.reset(task, jax.random.key(1))
      >>> observation.tolist()
      [0.0, 0.0]
    """

    def sample(key: Key) -> NavigationTask:
        return NavigationTask(jax.random.uniform(key, (2,), minval=-0.5, maxval=0.5))

    def sample_beyond(key: Key) -> NavigationTask:
        key_goal, key_size = jax.random.split(key)
        goal = sample(key_goal).goal
        return NavigationTask(above(key_size, 0.0, 0.5) * goal / jnp.max(jnp.abs(goal)))

    def reward_and_end(task: NavigationTask, position: Array, moved: Array) -> tuple[Array, Array]:
        offset = moved - task.goal
        squared = jnp.sum(offset**2)
        return -jnp.sqrt(squared) if reward == "distance" else -squared, jnp.all(jnp.abs(offset) < 0.01)

    def optimum(task: NavigationTask) -> Array:
        # No other path pays more at any step or terminates earlier.
        path = nearest_positions(task.goal, max_push, horizon)
        rewards, ends = jax.vmap(lambda moved: reward_and_end(task, moved, moved))(path)
        has_ended_before = jnp.cumsum(ends) > ends
        return jnp.sum(rewards, where=~has_ended_before)

    def optimal_action(task: NavigationTask, position: Array, time: Array) -> Array:
        return action_scale * jnp.clip((task.goal - position) / max_push, -1.0, 1.0)

    max_push = 0.1
    return point_family(
        sample=sample,
        start=lambda key: jnp.zeros(2),
        reward_and_end=reward_and_end,
        max_push=max_push,
        action_scale=action_scale,
        horizon=horizon,
    )._replace(sample_beyond=sample_beyond, success="termination", optimum=optimum, optimal_action=optimal_action)


@checked
def navigation_corner(
    *,
    horizon: PositiveInt = 100,
    reward: RewardKind = "sparse",
    action_scale: PositiveFloat = 10.0,
) -> TaskFamily:
    """One of four corners, sparse or dense reward (Rothfuss et al., 2018).

    The goal is one of ``(+-2, +-2)``, the start uniform in ``[-0.2, 0.2]^2``. Moves are at most 0.2 per axis; episodes
    never terminate. The sparse reward is the progress ``|s - g| - |s' - g|`` once ``|s'|_1 >= 0.5`` and while the goal
    is the corner nearest to ``s'``, else 0: a policy learns nothing about the task before it has left the middle.

    Args:
      horizon: steps per episode.
      reward: ``sparse``, or ``dense`` for ``-|s' - g|``, or ``squared`` for ``-|s' - g|^2``.
      action_scale: the policy output that means a full move of 0.2; the published code uses 10.

    Returns:
      The family; observations are positions ``[2]``, actions moves ``[2]``.

    Example:
      >>> family = navigation_corner(reward="dense")
      >>> task = NavigationTask(jnp.array([2.0, 2.0]))
      >>> _, position, reward, _ = family.step(task, jnp.zeros(2), jnp.array([10.0, 5.0]), jax.random.key(0))
      >>> position.round(3).tolist()
      [0.20000000298023224, 0.10000000149011612]
    """
    corners = jnp.array(CORNERS)

    def sparse(task: NavigationTask, position: Array, moved: Array) -> Array:
        distance = jnp.linalg.norm(moved - task.goal)
        progress = jnp.linalg.norm(position - task.goal) - distance
        is_nearest = distance <= jnp.min(jnp.linalg.norm(moved - corners, axis=-1))
        has_left = jnp.sum(jnp.abs(moved)) >= 0.5
        return jnp.where(has_left & is_nearest, progress, 0.0)

    return point_family(
        sample=sample_corner,
        start=start_in_the_middle,
        reward_and_end=goal_reward(reward, sparse),
        max_push=0.2,
        action_scale=action_scale,
        horizon=horizon,
    )._replace(num_tasks=len(CORNERS))
