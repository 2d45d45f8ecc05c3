"""The searcher that knows where actions lead: what it finds out, and that nobody searches better."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.algorithms.incontext.planning import find_moves, planning
from metarl_jax.checks import Refusal
from metarl_jax.collect.rollout import rollout_trial
from metarl_jax.tasks import bus_city, dark_room, grid_navi, navigation_finn, tabular_mdp
from metarl_jax.tasks.discrete.grid import GoalTask, cells
from metarl_jax.tasks.wrappers.ends import with_ends

ROOM = dark_room(size=4, horizon=20, num_held_out=0)
SETTINGS = {"source_discount": 0.95, "initial_value": 0.1}


def play(family, tasks, episodes, **settings):
    """Trials ``[N, n T, 1]``, of one searcher each."""
    searcher, keys = planning(family, **settings), jax.random.split(jax.random.key(0), len(tasks.goal))
    return jax.jit(
        jax.vmap(lambda task, key: rollout_trial(with_ends(family), searcher, (), task, key, episodes, 1)[0])
    )(tasks, keys)


def test_the_moves_are_those_of_the_grid():
    """Cells in the order in which they are found, edges that stop, and the steps of a taxi between two cells."""
    moves = find_moves(ROOM, 16)
    place = moves.observation
    assert sorted(map(tuple, place)) == sorted(map(tuple, cells(4)))
    steps = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])
    np.testing.assert_array_equal(place[moves.following], np.clip(place[:, None] + steps, 0, 3))
    np.testing.assert_array_equal(moves.distance, np.abs(place[:, None] - place).sum(axis=-1))


def test_nobody_finds_the_goal_of_a_dark_room_sooner():
    """Over all its goals it earns what the best can, who does not know the goal, in both episodes."""
    played = play(ROOM, GoalTask(jnp.asarray(cells(4))), 2, **SETTINGS)
    earned = played.reward.reshape(16, 2, 20).sum(axis=-1).mean(axis=0)
    np.testing.assert_allclose(earned, ROOM.bayes_optimum(2), rtol=1e-6)


def test_by_hand():
    """A dictionary of what the steps into each cell have paid; of what promises most the nearest, the first action."""
    family = grid_navi(size=3, horizon=6)
    settings = {"source_discount": 0.8, "initial_value": 0.3, "epsilon": 0.4, "exploring_episodes": 2}
    goals = jnp.array([[2, 1], [1, 2], [2, 2]])
    played = play(family, GoalTask(goals), 3, **settings)
    steps = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])
    for b in range(3):
        paid: dict[tuple[int, ...], list[float]] = {}
        for t in range(18):
            cell = np.array(played.percept.observation[b, t, 0, :2])
            following = np.clip(cell + steps, 0, 2)
            expected = np.array([np.mean(paid.get(tuple(place), [0.3])) for place in cells(3)])
            distance = np.abs(following[:, None] - cells(3)).sum(axis=-1)
            exploring = 0.4 * max(0.0, 1 - (t // 6) / 2)
            wanted = np.full(5, exploring / 5)
            wanted[np.argmax((0.8**distance * expected).max(axis=-1))] += 1 - exploring
            np.testing.assert_allclose(np.exp(played.dist_params[b, t, 0]), wanted, atol=1e-5)
            paid.setdefault(tuple(following[played.action[b, t, 0]]), []).append(float(played.reward[b, t, 0]))
    assert played.reward[:, -6:].max() == 1.0


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        (ROOM, {"max_states": 15}, "max_states = 15: there are more"),
        (tabular_mdp(num_states=3, num_actions=2), {}, "moves that differ between tasks or by chance"),
        (bus_city(), {}, "set algorithm.source to q_learning"),
        (navigation_finn(), {}, "a table is of discrete actions"),
    ],
)
def test_other_worlds_are_refused(family, settings, message):
    with pytest.raises(Refusal, match=message):
        planning(family, **settings)
