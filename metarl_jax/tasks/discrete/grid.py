"""Grids of cells that an agent walks on, and families whose task is the cell that pays."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Le

from metarl_jax.tasks.choices import checked_choice
from metarl_jax.tasks.discrete.search import Search
from metarl_jax.types import ActionSpec, Array, Key, Paths, TaskFamily

GridSize = Annotated[int, Ge(1), Le(100)]
"""Cells along each axis, all of which are listed on the host."""
MOVES = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])
"""What stay, up, right, down and left add to ``(x, y)``."""


class GoalTask(NamedTuple):
    """``goal``: ``[2]`` the cell that pays, ``(x, y)``."""

    goal: Array


def cells(size: int) -> np.ndarray:
    """All cells ``(x, y)`` of a grid; ``[size^2, 2]``.

    Example:
      >>> cells(2).tolist()
      [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    return np.stack(np.divmod(np.arange(size**2), size), axis=-1)


def move(cell: Array, action: Array, size: int) -> tuple[Array, Array]:
    """The cell after a move, which the edges of the grid stop, and whether there is such an action.

    Example:
      >>> move(jnp.array([0, 1]), jnp.array(4), size=5)[0].tolist()
      [0, 1]
    """
    choice, is_valid = checked_choice(action, len(MOVES))
    return jnp.clip(cell + jnp.asarray(MOVES)[choice], 0, size - 1), is_valid


def towards(cell: Array, goal: Array) -> Array:
    """The action that goes to a goal, first along x, and stays there.

    Example:
      >>> towards(jnp.array([2, 2]), jnp.array([2, 0])).item()
      3
    """
    (x, y), stay = jnp.sign(goal - cell), 0
    return jnp.select([x > 0, x < 0, y > 0, y < 0], [2, 4, 1, 3], stay)


def steps_to(cell: Array, goal: Array) -> Array:
    """Steps after which one can first be seen to be on the goal: 1 where one is there already.

    Example:
      >>> steps_to(jnp.array([0, 0]), jnp.array([[0, 0], [3, 1]])).tolist()
      [1, 4]
    """
    return jnp.maximum(jnp.sum(jnp.abs(goal - cell), axis=-1), 1)


def search_on(size: int, goals: np.ndarray, horizon: int) -> Search:
    """The search for one of ``goals`` ``[G, 2]`` from the corner ``(0, 0)`` of a grid."""
    place = np.array([size, 1])
    moves = np.clip(cells(size)[:, None] + MOVES, 0, size - 1) @ place
    return Search(moves, 0, goals @ place, horizon)


def goal_family(
    size: int,
    horizon: int,
    goals: np.ndarray,
    on_goal: Callable[[int], np.ndarray | None],
    *,
    held_out: np.ndarray | None = None,
    miss: float = 0.0,
) -> TaskFamily:
    """Episodes from ``(0, 0)`` that never end by themselves: 1 for each step that ends on the goal, else ``miss``.

    Args:
      size: cells along each axis.
      horizon: steps per episode.
      goals: ``[G, 2]`` to train on, all as likely.
      on_goal: ``(episodes) -> [episodes]``, the most expected steps on the goal for one who does not know it.
      held_out: the goals of meta-testing; those of training if None.
      miss: reward of a step that does not end on the goal.

    Returns:
      The family; the observation is the cell ``(x, y)``.
    """

    def reset(task: GoalTask, key: Key) -> tuple[Array, Array]:
        return jnp.zeros(2, int), jnp.zeros(2)

    def step(task: GoalTask, cell: Array, action: Array, key: Key) -> tuple[Array, Array, Array, Array]:
        cell, is_valid = move(cell, action, size)
        reward = jnp.where(is_on_goal(task, cell), 1.0, miss)
        return cell, cell.astype(float), jnp.where(is_valid, reward, jnp.nan), jnp.array(False)

    def is_on_goal(task: GoalTask, cell: Array) -> Array:
        return jnp.all(cell == task.goal)

    def optimum(task: GoalTask) -> Array:
        steps = jnp.maximum(horizon + 1 - steps_to(jnp.zeros(2, int), task.goal), 0)
        return steps + miss * (horizon - steps)

    def bayes_optimum(episodes: int) -> np.ndarray | None:
        steps = on_goal(episodes)
        return None if steps is None else steps + miss * (horizon - steps)

    def optimal_action(task: GoalTask, cell: Array, time: Array) -> Array:
        return towards(cell, task.goal)

    action = ActionSpec(len(MOVES), discrete=True)
    sample = _drawn_from(goals)
    sample_held_out, num_tasks = (sample, len(goals)) if held_out is None else (_drawn_from(held_out), None)
    family = TaskFamily(sample, sample_held_out, reset, step, (2,), action, horizon, num_tasks=num_tasks)
    family = family._replace(optimum=optimum, bayes_optimum=bayes_optimum, optimal_action=optimal_action)
    return family._replace(success=is_on_goal, picture=Paths(goal=lambda task: task.goal))


def _drawn_from(goals: np.ndarray) -> Callable[[Key], GoalTask]:
    return lambda key: GoalTask(jnp.asarray(goals)[jax.random.randint(key, (), 0, len(goals))])
