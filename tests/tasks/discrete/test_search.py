"""What is best for one who looks for a goal, against every policy there is, on grids that are small enough to try."""

import functools

import numpy as np
import pytest

from metarl_jax.tasks.discrete import search
from metarl_jax.tasks.discrete.grid import cells, search_on
from metarl_jax.tasks.discrete.search import Search, steps_on_goal

CORRIDOR = np.array([[0, 0, 1], [1, 0, 2], [2, 1, 3], [3, 2, 4], [4, 3, 4]])
"""Where staying, left and right lead."""


def best_of_all_policies(problem: Search, episodes: int) -> float:
    """Over all that may be done after every observation: the state is the cell and which goals are still possible."""

    @functools.cache
    def value(time: int, cell: int, possible: frozenset[int]) -> float:
        """Expected steps on the goal from here on, times the number of possible goals."""
        if time == episodes * problem.horizon:
            return 0
        here = cell if time % problem.horizon else problem.start
        return max(outcome(time, int(to), possible) for to in problem.moves[here])

    def outcome(time: int, cell: int, possible: frozenset[int]) -> float:
        pays, others = possible & {cell}, possible - {cell}
        return sum(len(kind) * (kind is pays) + value(time + 1, cell, kind) for kind in (pays, others) if kind)

    goals = frozenset(problem.goals.tolist())
    return value(0, problem.start, goals) / len(goals)


@pytest.mark.parametrize("episodes", [1, 2, 3])
@pytest.mark.parametrize(
    "problem",
    [
        search_on(3, cells(3), horizon=3),  # too short to see all, or to reach the far corner
        search_on(3, cells(3)[4:], horizon=5),
        search_on(2, cells(2), horizon=4),
        Search(CORRIDOR, start=1, goals=np.array([0, 4]), horizon=3),  # one near, one just within reach
        Search(CORRIDOR, start=2, goals=np.array([0, 1, 2, 4]), horizon=5),  # on both sides
    ],
)
def test_no_policy_has_more_in_all(problem: Search, episodes: int) -> None:
    found = steps_on_goal(problem, episodes)
    assert found is not None
    assert found.shape == (episodes,)
    assert found.sum() == pytest.approx(best_of_all_policies(problem, episodes), abs=1e-12)


def test_of_equally_good_policies_the_one_with_early_steps_on_the_goal_is_told() -> None:
    """One step either way: which goal is looked for first does not matter, but to wait for an episode would."""
    either = Search(CORRIDOR, start=2, goals=np.array([1, 3]), horizon=1)
    np.testing.assert_allclose(steps_on_goal(either, 3), [0.5, 1.0, 1.0])


def test_a_beam_that_misses_the_best_walk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = search_on(4, cells(4)[1:], horizon=7)
    wide = steps_on_goal(problem, 2)
    monkeypatch.setattr(search, "_BEAM", 1)
    np.testing.assert_array_equal(steps_on_goal(problem, 2), wide)


def test_what_is_too_large_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps_on_goal(search_on(9, cells(9), horizon=5), 1) is None  # 81 goals
    monkeypatch.setattr(search, "_BEAM", 1)
    monkeypatch.setattr(search, "MOST_WALKS", 10)
    assert steps_on_goal(search_on(4, cells(4), horizon=7), 1) is None
