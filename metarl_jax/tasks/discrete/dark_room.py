"""The dark room of in-context reinforcement learning (Laskin et al., 2022; Lee et al., 2023)."""

import numpy as np

from metarl_jax.checks import checked, require
from metarl_jax.tasks.discrete.grid import GridSize, cells, goal_family, search_on
from metarl_jax.tasks.discrete.search import steps_on_goal
from metarl_jax.types import NonNegativeInt, PositiveInt, Seed, TaskFamily


@checked
def dark_room(
    *,
    size: GridSize = 10,
    horizon: PositiveInt = 100,
    num_held_out: NonNegativeInt = 20,
    split_seed: Seed = 0,
) -> TaskFamily:
    """A hidden goal anywhere on a grid, 1 for each step that ends there (Laskin et al., 2022; Lee et al., 2023).

    Episodes start in ``(0, 0)`` and never terminate; actions are stay, up, right, down and left. Of the 100 goals 20
    are held out. ``bayes_optimum`` is that of one to whom all goals are equally likely, and who does not know that
    some are held out: 50.5 in the first episode, on average over all goals, then 91.99 as for one told the goal.

    Args:
      size: cells along each axis.
      horizon: steps per episode.
      num_held_out: goals that only meta-testing meets; with 0 it meets those of training.
      split_seed: decides which.

    Returns:
      The family; the observation is the cell ``(x, y)``, as numbers from 0 to ``size - 1``.

    Example:
      >>> dark_room().bayes_optimum(2).round(2).tolist()
      [50.5, 91.99]
    """
    goals = np.random.default_rng(split_seed).permutation(cells(size))
    require(num_held_out < len(goals), "num_held_out", num_held_out, f"leave one of {len(goals)} goals to train on")

    def on_goal(episodes: int) -> np.ndarray | None:
        """Of a horizon in which all cells can be visited, without a search.

        No walk finds more than ``t`` goals in ``t`` steps, and later episodes are at best those of one told the goal.
        A sweep, row after row, that stays for one step to find out about its first cell attains both.
        """
        if horizon < size**2:
            return steps_on_goal(search_on(size, cells(size), horizon), episodes)
        told = horizon + 1 - np.maximum(cells(size).sum(axis=-1), 1).mean()
        return np.array([horizon - (size**2 - 1) / 2, *[told] * (episodes - 1)])

    held_out = goals[:num_held_out] if num_held_out else None
    return goal_family(size, horizon, goals[num_held_out:], on_goal, held_out=held_out)
