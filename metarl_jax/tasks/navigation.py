"""2D navigation: a point must find a goal that it cannot see.

Two published forms: Finn et al. (2017), a goal anywhere in a square, and the corner task of Rothfuss et al. (2018).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.types import ActionSpec, Array, Key, PositiveFloat, PositiveInt, TaskFamily, require_number


class NavigationTask(NamedTuple):
    """``goal``: ``[2]`` where the point should go."""

    goal: Array


CORNERS = ((2.0, 2.0), (2.0, -2.0), (-2.0, 2.0), (-2.0, -2.0))


def navigation_finn(
    *,
    horizon: PositiveInt = 100,
    reward: Literal["distance", "squared_distance"] = "distance",
    action_scale: PositiveFloat = 1.0,
) -> TaskFamily:
    """A goal in the unit square around the start, dense reward (Finn et al., 2017).

    Goals are uniform in ``[-0.5, 0.5]^2``, the start is the origin, moves are at most 0.1 per axis. The reward is
    ``-|s' - g|`` (the authors' code; their text has the square). The episode terminates when both coordinates are
    within 0.01 of the goal's.

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

    def reward_and_end(task: NavigationTask, position: Array, moved: Array) -> tuple[Array, Array]:
        offset = moved - task.goal
        squared = jnp.sum(offset**2)
        return -jnp.sqrt(squared) if reward == "distance" else -squared, jnp.all(jnp.abs(offset) < 0.01)

    return _point_family(sample, lambda key: jnp.zeros(2), reward_and_end, 0.1, action_scale, horizon)


def navigation_corner(
    *,
    horizon: PositiveInt = 100,
    reward: Literal["sparse", "dense", "squared"] = "sparse",
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

    def sample(key: Key) -> NavigationTask:
        return NavigationTask(corners[jax.random.randint(key, (), 0, len(CORNERS))])

    def start(key: Key) -> Array:
        return jax.random.uniform(key, (2,), minval=-0.2, maxval=0.2)

    def reward_and_end(task: NavigationTask, position: Array, moved: Array) -> tuple[Array, Array]:
        distance = jnp.linalg.norm(moved - task.goal)
        if reward == "dense":
            return -distance, jnp.array(False)
        if reward == "squared":
            return -(distance**2), jnp.array(False)
        progress = jnp.linalg.norm(position - task.goal) - distance
        is_nearest = distance <= jnp.min(jnp.linalg.norm(moved - corners, axis=-1))
        has_left = jnp.sum(jnp.abs(moved)) >= 0.5
        return jnp.where(has_left & is_nearest, progress, 0.0), jnp.array(False)

    return _point_family(sample, start, reward_and_end, 0.2, action_scale, horizon)


def _point_family(
    sample: Callable[[Key], NavigationTask],
    start: Callable[[Key], Array],
    reward_and_end: Callable[[NavigationTask, Array, Array], tuple[Array, Array]],
    max_move: float,
    action_scale: float,
    horizon: int,
) -> TaskFamily:
    """A point that moves by the clipped, scaled action and sees its position."""
    require_number("horizon", horizon, at_least=1)
    require_number("action_scale", action_scale, above=0)

    def reset(task: NavigationTask, key: Key) -> tuple[Array, Array]:
        position = start(key)
        return position, position

    def step(task: NavigationTask, state: Array, action: Array, key: Key) -> tuple[Array, Array, Array, Array]:
        moved = state + max_move * jnp.clip(action / action_scale, -1.0, 1.0)
        reward, terminated = reward_and_end(task, state, moved)
        return moved, moved, reward, terminated

    # The held-out tasks are further draws: the host takes them from a random stream that training never uses.
    return TaskFamily(sample, sample, reset, step, (2,), ActionSpec(2), horizon)
