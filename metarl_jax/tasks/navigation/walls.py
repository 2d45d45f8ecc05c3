"""2D navigation out of two round walls, through a gap in each that the point cannot see."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import checked
from metarl_jax.tasks.navigation.point import RewardKind, goal_reward, point_family, sample_corner, start_in_the_middle
from metarl_jax.types import Array, Key, PositiveFloat, PositiveInt, TaskFamily


class WallsTask(NamedTuple):
    """What differs between tasks, and stays hidden.

    Attributes:
      goal: ``[2]`` where the point should go.
      gaps: ``[walls, 2]`` the middle of the gap in each wall, a point on it.
    """

    goal: Array
    gaps: Array


WALLS = (1.0, 2.0)
"""Radii."""

CLEARANCE = 1e-3
"""How far from a wall the point comes to rest: float32 never takes it for being on the other side."""

SPARSE_RADIUS = 2.0


@checked
def navigation_walls(
    *,
    horizon: PositiveInt = 100,
    reward: RewardKind = "dense",
    action_scale: PositiveFloat = 10.0,
    gap_radius: PositiveFloat = 1.0,
) -> TaskFamily:
    """One of four corners, behind two round walls with one gap each (the code of Rothfuss et al., 2018).

    Walls of radius 1 and 2 surround the start, uniform in ``[-0.2, 0.2]^2``; the task is the goal, one of
    ``(+-2, +-2)``, and where on each wall the gap is, uniform and independent. Moves are at most 0.2 per axis;
    episodes never terminate. A move that changes sides arrives within ``gap_radius`` of the gap's middle or ends at the
    wall: the point slides to the nearest place of the side that it came from, 0.001 off the wall. The sparse reward is
    the progress ``|s - g| - |s' - g|`` within a distance of 2 from the goal, else 0.

    Our choice, unlike the published code: walls stop the point both ways, there only on the way out; the reward is that
    of the place where the point comes to rest, there of the one behind the wall that it never reached; and the sparse
    reward far from the goal is 0, there missing.

    Args:
      horizon: steps per episode.
      reward: ``sparse``, or ``dense`` for ``-|s' - g|``, or ``squared`` for ``-|s' - g|^2``.
      action_scale: the policy output that means a full move of 0.2; the published code uses 10.
      gap_radius: distance from the gap's middle that still passes. With 1 the gap is a third of the inner wall and a
        sixth of the outer one.

    Returns:
      The family; observations are positions ``[2]``, actions moves ``[2]``.

    Example:
      >>> family = navigation_walls(action_scale=0.2)
      >>> task = WallsTask(jnp.array([2.0, 2.0]), gaps=jnp.array([[-1.0, 0.0], [0.0, 2.0]]))
      >>> position, *_ = family.step(task, jnp.array([0.9, 0.0]), jnp.array([0.2, 0.0]), jax.random.key(0))
      >>> [round(x, 3) for x in position.tolist()]
      [0.999, 0.0]
    """

    def sample(key: Key) -> WallsTask:
        key_goal, key_gaps = jax.random.split(key)
        angle = jax.random.uniform(key_gaps, (len(WALLS),), maxval=2.0 * jnp.pi)
        on_the_unit_circle = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        return WallsTask(sample_corner(key_goal).goal, jnp.array(WALLS)[:, None] * on_the_unit_circle)

    def move(task: WallsTask, position: Array, push: Array) -> Array:
        moved = position + push
        for radius, gap in zip(WALLS, task.gaps, strict=True):  # they are further apart than any move is long
            moved = stop_at_wall(radius, gap, gap_radius, position, moved)
        return moved

    def sparse(task: WallsTask, position: Array, moved: Array) -> Array:
        distance = jnp.linalg.norm(moved - task.goal)
        progress = jnp.linalg.norm(position - task.goal) - distance
        return jnp.where(distance < SPARSE_RADIUS, progress, 0.0)

    return point_family(
        sample=sample,
        start=start_in_the_middle,
        move=move,
        reward_and_end=goal_reward(reward, sparse),
        max_push=0.2,
        action_scale=action_scale,
        horizon=horizon,
        walls=lambda task: wall_arcs(np.asarray(task.gaps), gap_radius),
    )


def stop_at_wall(radius: float, gap: Array, gap_radius: float, position: Array, moved: Array) -> Array:
    """Where a move ends if there is a round wall about the origin.

    Args:
      radius: of the wall.
      gap: ``[2]`` the middle of its gap.
      gap_radius: how near to it a move across the wall must arrive.
      position: ``[2]`` before the move.
      moved: ``[2]`` after it, were there no wall.

    Returns:
      ``[2]``: ``moved``, or the nearest place to it on the side of ``position``.

    Example:
      >>> gap = jnp.array([-1.0, 0.0])
      >>> stopped = stop_at_wall(1.0, gap, 0.5, position=jnp.array([0.0, 2.0]), moved=jnp.array([0.0, 0.5]))
      >>> [round(x, 3) for x in stopped.tolist()]
      [0.0, 1.001]
    """
    distance = jnp.linalg.norm(moved)
    was_inside, is_inside = jnp.linalg.norm(position) < radius, distance < radius
    is_open = jnp.linalg.norm(moved - gap) <= gap_radius
    rest = radius + jnp.where(was_inside, -CLEARANCE, CLEARANCE)
    stopped = moved * (rest / jnp.maximum(distance, CLEARANCE))  # the maximum is for the origin, which has no direction
    return jnp.where((was_inside != is_inside) & ~is_open, stopped, moved)


def wall_arcs(gaps: np.ndarray, gap_radius: float, num_points: int = 361) -> list[np.ndarray]:
    """The closed part of each round wall about the origin.

    Args:
      gaps: ``[walls, 2]`` the middle of each wall's gap, a point on it.
      gap_radius: distance from it that is open.
      num_points: of the whole circle; an arc has those of them that are closed.

    Returns:
      ``[points, 2]`` for each wall, from one edge of the gap round to the other.

    Example:
      >>> (arc,) = wall_arcs(np.array([[1.0, 0.0]]), gap_radius=1.0)  # 120 degrees are open
      >>> len(arc)
      239
    """
    arcs = []
    for gap in gaps:
        radius = np.linalg.norm(gap)
        angle = np.arctan2(gap[1], gap[0]) + np.linspace(0.0, 2.0 * np.pi, num_points)
        circle = radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        arcs.append(circle[np.linalg.norm(circle - gap, axis=-1) > gap_radius * (1.0 + 1e-6)])
    return arcs
