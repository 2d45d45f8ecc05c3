"""The searcher that knows where actions lead: what it finds out, and that nobody searches better."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.algorithms.incontext.ad import make_play
from metarl_jax.algorithms.incontext.optimistic_search import find_moves, optimistic_search
from metarl_jax.checks import Refusal
from metarl_jax.collect.rollout import rollout_trial
from metarl_jax.tasks import dark_room, grid_navi, navigation_finn, tabular_mdp
from metarl_jax.tasks.discrete.grid import GoalTask, cells
from metarl_jax.tasks.wrappers.ends import with_ends

ROOM = dark_room(size=4, horizon=20, num_held_out=0)
SETTINGS = {"source_discount": 0.95, "initial_value": 0.1}


def play(family, tasks, episodes, **settings):
    """Trials ``[N, n T, 1]``, of one searcher each."""
    searcher, keys = optimistic_search(family, **settings), jax.random.split(jax.random.key(0), len(tasks.goal))
    return jax.jit(
        jax.vmap(lambda task, key: rollout_trial(with_ends(family), searcher, (), task, key, episodes, 1)[0])
    )(tasks, keys)


def test_the_moves_are_those_of_the_grid():
    """From the corner all cells, edges that stop, and the steps of a taxi between two cells."""
    moves = find_moves(ROOM, 16)
    place = moves.observation
    assert place[0].tolist() == [0, 0]
    assert sorted(map(tuple, place)) == sorted(map(tuple, cells(4)))
    steps = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])
    np.testing.assert_array_equal(place[moves.following], np.clip(place[:, None] + steps, 0, 3))
    np.testing.assert_array_equal(moves.distance, np.abs(place[:, None] - place).sum(axis=-1))


def test_whole_numbers_may_be_observed():
    """At the start as after a step they are the same state."""

    def whole(after):
        return after[0], after[1].astype(int), *after[2:]

    family = ROOM._replace(
        reset=lambda task, key: whole(ROOM.reset(task, key)), step=lambda *given: whole(ROOM.step(*given))
    )
    np.testing.assert_array_equal(find_moves(family, 16).following, find_moves(ROOM, 16).following)


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
        assert played.reward[b, -6:].max() == 1.0


def test_settings_may_be_those_of_lanes():
    """Traced, they are what they would be as numbers."""
    task = GoalTask(jnp.array([2, 1]))

    def lane(value):
        options = {"source_discount": value, "initial_value": value / 2, "epsilon": value / 4}
        return make_play(ROOM, "optimistic_search", options, 2, 1)(task, jax.random.key(0)).dist_params

    values = jnp.array([0.5, 0.9])
    lanes = jax.jit(jax.vmap(lane))(values)
    assert lanes.shape == (2, 40, 1, 5)
    for value, alone in zip(values.tolist(), lanes, strict=True):
        np.testing.assert_allclose(alone, jax.jit(lambda value=value: lane(value))(), rtol=1e-5)


def test_where_it_never_was_it_expects_something_by_default():
    """It does not stand still, and finds the goal of a small room in one episode."""
    played = play(ROOM, GoalTask(jnp.array([[3, 3], [0, 3]])), 1)
    assert (played.reward.sum(axis=1) > 0).all()


def changed(*, start=None, step=None):
    """The room, where something else is done at the start or after a step."""

    def reset(task, key):
        return ROOM.reset(task, key) if start is None else start(*ROOM.reset(task, key), key)

    def stepped(task, cell, action, key):
        after = ROOM.step(task, cell, action, key)
        return after if step is None else step(*after, cell, key)

    return ROOM._replace(reset=reset, step=stepped)


def somewhere(cell, observation, key):
    cell = jnp.where(jax.random.bernoulli(key, 0.3), 1, cell)
    return cell, cell.astype(float)


def with_a_key(cell, observation, key):
    return (cell, key), observation


def slips(cell, observation, reward, ended, before, key):
    cell = jnp.where(jax.random.bernoulli(key, 0.1), before, cell)
    return cell, cell.astype(float), reward, ended


def shows_a_row(cell, observation, reward, ended, before, key):
    return cell, observation.at[1].set(0.0), reward, ended


def pays_for_moving(cell, observation, reward, ended, before, key):
    return cell, observation, reward + jnp.any(cell != before), ended


def ends(cell, observation, reward, ended, before, key):
    return cell, observation, reward, jnp.all(cell == 3)


def holds_at_the_goal(task, cell, action, key):
    return ROOM.step(task, cell, jnp.where(jnp.all(cell == task.goal), 0, action), key)


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        (ROOM, {"max_states": 15}, "max_states = 15: there are more states: raise it"),
        (tabular_mdp(num_states=3, num_actions=2), {}, "a reward depends on more than where a step leads"),
        (ROOM._replace(step=holds_at_the_goal), {}, "moves differ between tasks"),
        (changed(start=somewhere), {}, "episodes do not all begin in one state"),
        (changed(start=with_a_key), {}, "its states hold random keys"),
        (changed(step=slips), {}, "an action leads to one state or another"),
        (changed(step=shows_a_row), {}, "observations do not tell the state"),
        (changed(step=pays_for_moving), {}, "a reward depends on more than where a step leads"),
        (changed(step=ends), {}, "a step terminates; .*: set algorithm.source to q_learning"),
        (ROOM._replace(valid_actions=lambda seen: jnp.ones(5, bool)), {}, "not all actions are valid everywhere"),
        (ROOM, {"initial_value": 0.0}, "initial_value = 0.0: must be greater than 0"),
        (ROOM, {"source_discount": 1.0}, "source_discount = 1.0: must be"),
        (navigation_finn(), {}, "these learners take discrete actions"),
    ],
)
def test_other_worlds_are_refused(family, settings, message):
    with pytest.raises(Refusal, match=message):
        optimistic_search(family, **settings)
