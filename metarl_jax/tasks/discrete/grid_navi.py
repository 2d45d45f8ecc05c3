"""The gridworld of VariBAD (Zintgraf et al., 2020): find the goal once, then go there directly."""

from functools import partial
from typing import Annotated

from annotated_types import Ge

from metarl_jax.checks import checked
from metarl_jax.tasks.discrete.grid import GridSize, cells, goal_family, search_on
from metarl_jax.tasks.discrete.search import steps_on_goal
from metarl_jax.types import PositiveInt, TaskFamily


@checked
def grid_navi(*, size: Annotated[GridSize, Ge(3)] = 5, horizon: PositiveInt = 15) -> TaskFamily:
    """A hidden goal on a grid, any cell but ``(0, 0)``, where episodes start, to ``(1, 1)`` (Zintgraf et al., 2020).

    The reward is 1 for a step that ends on the goal, else -0.1; episodes never terminate. Actions are stay, up, right,
    down and left. Published with four episodes a trial: 37.214 at best on average, and 44.286 for one told the goal.

    Args:
      size: cells along each axis; below 3 there is no goal away from the start. What is best without knowing the goal
        is computed up to 6.
      horizon: steps per episode.

    Returns:
      The family; the observation is the cell ``(x, y)``, as numbers from 0 to ``size - 1``.

    Example:
      >>> grid_navi().bayes_optimum(4).round(3).tolist()
      [4.0, 11.071, 11.071, 11.071]
    """
    goals = cells(size)
    goals = goals[(goals > 1).any(axis=-1)]
    best = partial(steps_on_goal, search_on(size, goals, horizon))
    return goal_family(size, horizon, goals, best, miss=-0.1)
