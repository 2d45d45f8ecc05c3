"""Looking for a goal on a grid: the best that is possible in expectation, by exact dynamic programming on the host.

Until the goal is found, one who does not know it follows the same walk whatever it is; from then on it is known. Were a
cell of the walk the goal, one would stand on it at every later step ``t`` of an episode at which it is no farther than
``t`` steps from the start. So the number of such cells, over the number of goals, is the probability of being on the
goal at that step: the reward of a problem without chance, whose state is the cell, the cells found and the time.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MOST_GOALS = 64
"""As many fit a number of 64 bits."""
MOST_WALKS = 1_000_000
"""That may be followed side by side: about 5 s and 1 GB. Enough for 6 x 6 cells at any horizon, not for 7 x 7."""
_BEAM = 10_000


class Search(NamedTuple):
    """Episodes that start in the same cell, and a goal that stays where it is.

    Attributes:
      moves: ``[cells, actions]`` the cell that each action leads to; one of them stays.
      start: the cell.
      goals: ``[G]`` the cells of which each is the goal with the same probability.
      horizon: steps per episode.
    """

    moves: np.ndarray
    start: int
    goals: np.ndarray
    horizon: int


class _Walks(NamedTuple):
    """Of all walks to the same cell by which the same goals are found, the best."""

    cell: np.ndarray  # [N]
    found: np.ndarray  # [N] a bit for each goal
    hits: np.ndarray  # [episodes, N]


def steps_on_goal(search: Search, episodes: int) -> np.ndarray | None:
    """Expected steps on the goal in each episode of a trial, by the policy with most in all; of several, early ones.

    Walks are followed side by side, one for each cell and set of goals found. First the most promising alone, which
    gives a number that the best attains; then all that may come to as much.

    Args:
      search: where the goal may be.
      episodes: of the trial.

    Returns:
      ``[episodes]``; None if there are more than ``MOST_GOALS`` goals, or ``MOST_WALKS`` walks to follow.

    Example:
      >>> line = Search(np.array([[0, 0, 1], [1, 0, 2], [2, 1, 2]]), start=1, goals=np.array([0, 2]), horizon=3)
      >>> steps_on_goal(line, 2).tolist()  # at once to one end; then straight to the goal
      [2.0, 3.0]
    """
    if len(search.goals) > MOST_GOALS:
        return None
    attained = _best(search, episodes, lambda bound: np.argsort(bound)[-_BEAM:])
    assert attained is not None  # a beam is narrower than what may be followed
    best = _best(search, episodes, lambda bound: np.flatnonzero(bound >= attained.sum()))
    return None if best is None else best / len(search.goals)


def _best(search: Search, episodes: int, kept: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
    """Steps on the goal, summed over goals ``[episodes]``, of the best walk among those that their bounds keep."""
    bit = np.zeros(len(search.moves), np.uint64)
    bit[search.goals] = np.uint64(1) << np.arange(len(search.goals), dtype=np.uint64)
    near, most_to_come = _within_reach(search, bit), _most_to_come(search, bit, episodes)
    walks = _Walks(np.array([search.start]), np.zeros(1, np.uint64), np.zeros((episodes, 1), int))
    for time in range(episodes * search.horizon):
        episode, step = divmod(time, search.horizon)
        cell = search.moves[walks.cell if step else np.full_like(walks.cell, search.start)]
        found = (walks.found[:, None] | bit[cell]).ravel()
        hits = np.repeat(walks.hits, cell.shape[1], axis=1)
        hits[episode] += np.bitwise_count(found & near[step])
        walks = _best_of_each(_Walks(cell.ravel(), found, hits))
        chosen = kept(walks.hits.sum(axis=0) + most_to_come[time + 1, np.bitwise_count(walks.found)])
        walks = _Walks(*(column[..., chosen] for column in walks))
        if len(chosen) > MOST_WALKS:
            return None
    return walks.hits[:, np.lexsort((*walks.hits[::-1], walks.hits.sum(axis=0)))[-1]]


def _within_reach(search: Search, bit: np.ndarray) -> np.ndarray:
    """Goals on which one can be after 1..horizon steps of an episode, a bit for each; ``[horizon]``."""
    cells, near = np.array([search.start]), []
    for _ in range(search.horizon):
        cells = np.unique(search.moves[cells])
        near.append(np.bitwise_or.reduce(bit[cells]))
    return np.array(near)


def _most_to_come(search: Search, bit: np.ndarray, episodes: int) -> np.ndarray:
    """Bound on the hits after each step, by the number of goals found: no step finds more than one, wherever it is."""
    most = np.tile(np.bitwise_count(_within_reach(search, bit)).astype(int), episodes)
    more = np.minimum(np.arange(len(search.goals) + 1) + 1, len(search.goals))
    to_come = np.zeros((len(most) + 1, len(more)), int)
    for time in reversed(range(len(most))):
        to_come[time] = np.minimum(most[time], more) + to_come[time + 1, more]
    return to_come


def _best_of_each(walks: _Walks) -> _Walks:
    """One walk for each cell and set of goals found: most hits, of these most in the first episode, and so on."""
    order = np.lexsort((*walks.hits[::-1], walks.hits.sum(axis=0), walks.found, walks.cell))
    cell, found = walks.cell[order], walks.found[order]
    is_last = np.append((cell[1:] != cell[:-1]) | (found[1:] != found[:-1]), True)
    return _Walks(*(column[..., order[is_last]] for column in walks))
