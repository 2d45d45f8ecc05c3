"""Families on grids: their definitions, the published numbers, and what is earned by acting as they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.tasks.discrete.dark_key_door import KeyDoorTask, dark_key_door
from metarl_jax.tasks.discrete.dark_room import dark_room
from metarl_jax.tasks.discrete.grid import GoalTask, cells, search_on
from metarl_jax.tasks.discrete.grid_navi import grid_navi
from metarl_jax.tasks.discrete.search import steps_on_goal
from metarl_jax.types import Array, Task, TaskFamily

STAY, UP, RIGHT, DOWN, LEFT = range(5)
KEYS = jax.random.split(jax.random.key(0), 2000)


def goals(sample):
    return np.unique(jax.jit(jax.vmap(sample))(KEYS).goal, axis=0)


def play(family: TaskFamily, task: Task, actions: list[int]) -> tuple[list, list, list]:
    """``(observations, rewards, terminated)`` of an episode."""
    state, observation = family.reset(task, KEYS[0])
    seen = [(observation, 0.0, False)]
    for action in actions:
        state, *outcome = family.step(task, state, jnp.array(action), KEYS[0])
        seen.append(tuple(outcome))
    observations, rewards, ends = zip(*seen, strict=True)
    observations, rewards = np.array(observations, np.float64).round(3), np.array(rewards, np.float64).round(3)
    return observations.tolist(), rewards[1:].tolist(), list(map(bool, ends[1:]))


def told_returns(family: TaskFamily, tasks: Task) -> Array:
    """Of ``optimal_action`` in one episode of each task, up to where it ends."""

    def of_task(task):
        def step(carry, time):
            state, alive = carry
            action = family.optimal_action(task, state, time)
            state, _, reward, terminated = family.step(task, state, action, KEYS[0])
            return (state, alive & ~terminated), jnp.where(alive, reward, 0.0)

        start = family.reset(task, KEYS[0])[0], jnp.array(True)
        return jnp.sum(jax.lax.scan(step, start, jnp.arange(family.horizon))[1])

    return jax.jit(jax.vmap(of_task))(tasks)


def test_grid_navi_is_as_published():
    family, task = grid_navi(), GoalTask(jnp.array([2, 1]))
    actions = [UP, RIGHT, RIGHT, STAY, LEFT, LEFT, LEFT, DOWN, DOWN]
    observations, rewards, ends = play(family, task, actions)
    assert observations == [[0, 0], [0, 1], [1, 1], [2, 1], [2, 1], [1, 1], [0, 1], [0, 1], [0, 0], [0, 0]]
    assert rewards == [-0.1, -0.1, 1.0, 1.0, *[-0.1] * 5]
    assert not any(ends)
    assert play(family, task, [UP] * 9 + [RIGHT] * 9)[0][-1] == [4, 4]
    assert family.horizon == 15
    assert [family.success(task, jnp.array(cell)) for cell in ([2, 1], [1, 1])] == [True, False]
    near = {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert set(map(tuple, goals(family.sample).tolist())) == set(map(tuple, cells(5).tolist())) - near


@pytest.mark.parametrize(("episodes", "total"), [(1, 4.0), (2, 4.0 + 155 / 14), (4, 4.0 + 3 * 155 / 14)])
def test_bayes_optimal_totals_of_grid_navi_are_the_exact_ones(episodes, total):
    """4.000, 15.071 and 37.214; told the goal 11.071 = 155 / 14 in each episode."""
    returns = grid_navi().bayes_optimum(episodes)
    assert returns.shape == (episodes,)
    assert returns.sum() == pytest.approx(total, abs=1e-9)
    assert returns.sum() == pytest.approx({1: 4.0, 2: 15.071, 4: 37.214}[episodes], abs=5e-4)
    told = jax.vmap(lambda goal: grid_navi().optimum(GoalTask(goal)))(goals(grid_navi().sample))
    assert told.mean() == pytest.approx(155 / 14, abs=1e-5)


@pytest.mark.slow
def test_grid_navi_up_to_six_cells_and_not_beyond():
    assert grid_navi(size=6, horizon=20).bayes_optimum(4).sum() == pytest.approx(48.99375)
    assert grid_navi(size=9).bayes_optimum(1) is None


@pytest.mark.parametrize("make", [grid_navi, dark_room, dark_key_door])
def test_a_grid_has_at_most_so_many_cells_as_can_be_listed(make):
    least = 3 if make is grid_navi else 1
    for size in (least - 1, 1_000_000):
        with pytest.raises(Refusal, match=f"size = {size}: must be at least {least} and at most 100"):
            make(size=size)
    make(size=100)


def test_dark_room_is_as_published():
    family, task = dark_room(), GoalTask(jnp.array([0, 1]))
    observations, rewards, ends = play(family, task, [STAY, UP, STAY, UP])
    assert observations == [[0, 0], [0, 0], [0, 1], [0, 1], [0, 2]]
    assert rewards == [0.0, 1.0, 1.0, 0.0]
    assert not any(ends)
    assert play(family, GoalTask(jnp.array([0, 0])), [STAY, LEFT])[1] == [1.0, 1.0]
    assert family.horizon == 100


def test_dark_room_holds_goals_out():
    """80 and 20 of all 100, the same ones every time, others with another seed."""
    train, held_out = (goals(sample) for sample in (dark_room().sample, dark_room().sample_held_out))
    assert (len(train), len(held_out)) == (80, 20)
    np.testing.assert_array_equal(np.unique(np.concatenate([train, held_out]), axis=0), cells(10))
    np.testing.assert_array_equal(goals(dark_room().sample_held_out), held_out)
    assert (goals(dark_room(split_seed=1).sample_held_out) != held_out).any()
    everywhere = dark_room(num_held_out=0)
    assert everywhere.sample_held_out is everywhere.sample
    assert (everywhere.num_tasks, dark_room().num_tasks) == (100, None)
    with pytest.raises(ValueError, match="num_held_out = 100: leave one of 100 goals"):
        dark_room(num_held_out=100)


def test_the_optima_of_dark_room_are_the_published_ones():
    told = np.mean([dark_room().optimum(GoalTask(jnp.array(goal))) for goal in cells(10)])
    assert told == pytest.approx(91.99)
    np.testing.assert_allclose(dark_room().bayes_optimum(3), [50.5, 91.99, 91.99], rtol=1e-12)


@pytest.mark.parametrize(("size", "horizon"), [(2, 4), (3, 9), (3, 12), (4, 16)])
def test_a_sweep_of_the_dark_room_is_what_the_search_finds(size, horizon):
    searched = steps_on_goal(search_on(size, cells(size), horizon), 3)
    np.testing.assert_allclose(dark_room(size=size, horizon=horizon, num_held_out=1).bayes_optimum(3), searched)


def test_a_short_episode_in_the_dark_room_is_searched():
    np.testing.assert_allclose(dark_room(size=3, horizon=4, num_held_out=1).bayes_optimum(1), [(4 + 3 + 2 + 1) / 9])
    assert dark_room(horizon=20).bayes_optimum(2) is None


@pytest.mark.parametrize(
    "family", [grid_navi(), grid_navi(horizon=6), dark_room(), dark_key_door(size=4, horizon=5)], ids=range(4)
)
def test_optimal_actions_earn_the_optimum(family):
    """Of goals near and far, of which some are out of reach within a short horizon."""
    tasks = jax.vmap(family.sample)(KEYS[:300])
    told, optimum = told_returns(family, tasks), jax.jit(jax.vmap(family.optimum))(tasks)
    np.testing.assert_allclose(told, optimum, rtol=1e-5)
    assert len(np.unique(optimum)) > 2


def test_key_then_door():
    """The door pays nobody without the key, the key once; and the door ends the episode."""
    family = dark_key_door(size=4, horizon=8)
    task = KeyDoorTask(start=jnp.array([1, 1]), key=jnp.array([1, 3]), door=jnp.array([1, 2]))
    observations, rewards, ends = play(family, task, [UP, UP, STAY, DOWN])
    assert rewards == [0.0, 1.0, 0.0, 1.0]
    assert ends == [False, False, False, True]
    assert observations[0] == [0.25, 0.25, 0.0, 0.0]
    assert observations[2] == [0.25, 0.75, 1.0, 0.25]
    assert observations[4] == [0.25, 0.5, 1.0, 0.5]
    assert family.picture.position(np.array(observations[2])).tolist() == [1.0, 3.0]


def test_key_and_door_in_one_cell_take_two_steps():
    family = dark_key_door(size=4, horizon=8)
    task = KeyDoorTask(*jnp.array([[2, 2]] * 3))
    assert play(family, task, [STAY, STAY])[1:] == ([1.0, 1.0], [False, True])


def test_no_policy_earns_more_than_the_optimum_of_key_and_door():
    """All paths of four steps on 2 x 2 cells, for each of all tasks, by the family's own step."""
    family = dark_key_door(size=2, horizon=4)
    tasks = KeyDoorTask(*np.moveaxis(np.stack(np.meshgrid(*[range(2)] * 6), -1).reshape(-1, 3, 2), 1, 0))
    paths = jnp.stack(jnp.meshgrid(*[jnp.arange(5)] * 4), -1).reshape(-1, 4)

    def earned(task, path):
        def step(carry, action):
            state, alive = carry
            state, _, reward, terminated = family.step(task, state, action, KEYS[0])
            return (state, alive & ~terminated), alive * reward

        start = family.reset(task, KEYS[0])[0], jnp.array(True)
        return jnp.sum(jax.lax.scan(step, start, path)[1])

    best = jax.jit(jax.vmap(lambda task: jnp.max(jax.vmap(lambda path: earned(task, path))(paths))))(tasks)
    np.testing.assert_array_equal(best, jax.vmap(family.optimum)(tasks))
    assert set(np.unique(best)) == {2.0}
