"""The city of buses against its definition, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.tasks.discrete.bus_city import CityState, bus_city

LEFT, UP, RIGHT, DOWN, RIDE = range(5)
FAMILY = bus_city()
STEP = jax.jit(FAMILY.step)
KEY = jax.random.key(0)
TASK = jnp.array(
    [2, 0, 3, 1]
)  # from (4, 5) to (8, 1), from (5, 4) to (0, 1), from (3, 4) to (8, 7), from (4, 3) to (0, 7)


def play(actions, goal=0, start=(4, 4)):
    """``[[x, y], ...]``, rewards and whether it has ended."""
    state, places, rewards = CityState(jnp.array(9 * start[0] + start[1]), jnp.array(goal)), [], []
    for action in actions:
        state, _, reward, ended = STEP(TASK, state, jnp.array(action), KEY)
        places.append(divmod(int(state.cell), 9))
        rewards.append(round(float(reward), 3))
    return places, rewards, bool(ended)


def test_the_right_bus_is_three_steps_from_the_goal():
    """To (0, 0), by the bus from (5, 4) to (0, 1)."""
    places, rewards, ended = play([RIGHT, RIDE, DOWN])
    assert places == [(5, 4), (0, 1), (0, 0)]
    assert rewards == [-0.1, -0.1, 1.0]
    assert ended


def test_a_bus_goes_back_and_elsewhere_there_is_none():
    places, rewards, ended = play([RIDE, UP, RIDE, RIDE, LEFT, RIDE], goal=1)
    assert places == [(4, 4), (4, 5), (8, 1), (4, 5), (3, 5), (3, 5)]
    assert rewards == [-0.1] * 6
    assert not ended


def test_walls_stop_and_other_corners_are_no_goal():
    places, rewards, ended = play([LEFT, DOWN, DOWN], goal=1, start=(0, 1))
    assert places == [(0, 1), (0, 0), (0, 0)]
    assert rewards == [-0.1] * 3
    assert not ended


@pytest.mark.parametrize("goal", range(4))
def test_told_where_the_buses_go_each_corner_is_worth_0_8(goal):
    state, total = CityState(jnp.array(40), jnp.array(goal)), 0.0
    for time in range(3):
        action = FAMILY.optimal_action(TASK, state, jnp.array(time))
        state, _, reward, ended = STEP(TASK, state, action, KEY)
        total += float(reward)
    assert ended
    assert total == pytest.approx(0.8)
    assert FAMILY.optimum(TASK) == pytest.approx(0.8)


def test_without_time_for_the_bus_it_costs_what_the_steps_cost():
    assert bus_city(horizon=2).optimum(TASK) == pytest.approx(-0.2)


def test_what_is_seen():
    """Place and goal as one-hot, and that there is a bus, but not which; another episode has another goal."""

    def seen(x, y, is_stop, goal):
        return [*np.eye(9)[x], *np.eye(9)[y], is_stop, *np.eye(4)[goal]]

    firsts = np.stack([FAMILY.reset(TASK, key)[1] for key in jax.random.split(KEY, 40)])
    np.testing.assert_array_equal(firsts[:, :19], np.tile(seen(4, 4, 0.0, 0)[:19], (40, 1)))
    assert (firsts[:, 19:].sum(axis=0) > 3).all()
    state, at_end, *_ = STEP(TASK, CityState(jnp.array(41), jnp.array(2)), jnp.array(RIDE), KEY)
    np.testing.assert_array_equal(at_end, seen(8, 1, 1.0, 2))
    np.testing.assert_array_equal(STEP(TASK, state, jnp.array(LEFT), KEY)[1], seen(7, 1, 0.0, 2))


def test_tasks_are_all_permutations():
    tasks = jax.vmap(FAMILY.sample)(jax.random.split(KEY, 1000))
    assert len(np.unique(tasks, axis=0)) == FAMILY.num_tasks == 24
