"""The mountain and the treasure against their definition, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.tasks.navigation.half_circle import at_angle
from metarl_jax.tasks.navigation.mountain_treasure import FARTHEST, mountain_treasure, steps_to_treasure
from metarl_jax.tasks.navigation.point import NavigationTask

KEY = jax.random.key(0)
FAMILY = mountain_treasure()
TREASURE = NavigationTask(jnp.array([0.6, 0.8]))


@pytest.mark.parametrize(
    ("place", "reward"),
    [
        ((0.6, 0.8), 1.0),
        ((0.6, 0.71), 1.0),
        ((0.6, 0.69), -1.0),
        ((0.66, 0.87), 1.0),  # outside of the circle, but at the treasure
        ((0.0, -1.0), -1.0),
        ((0.0, 0.51), -1.0),
        ((0.0, 0.4), -1.1),  # on the mountain, the dearer the higher
        ((0.0, 0.0), -1.5),
        ((0.9, -1.2), -1.5),  # outside of the circle
    ],
)
def test_what_a_place_earns(place, reward):
    moved, observation, paid, ended = FAMILY.step(TREASURE, jnp.array(place), jnp.zeros(2), KEY)
    np.testing.assert_array_equal(moved, jnp.array(place))
    np.testing.assert_array_equal(observation, [*moved, *(TREASURE.goal if place == (0.0, 0.0) else (0.0, 0.0))])
    assert paid == pytest.approx(reward, rel=1e-5)
    assert not ended
    assert FAMILY.success(TREASURE, moved) == (reward == 1.0)


def test_moves_are_at_most_a_tenth_and_end_at_the_border():
    def moved(place, action):
        return np.asarray(FAMILY.step(TREASURE, jnp.array(place), jnp.array(action), KEY)[0])

    np.testing.assert_allclose(moved((0.0, -1.0), (0.5, 7.0)), [0.05, -0.9], rtol=1e-6)
    np.testing.assert_allclose(moved((1.45, -1.5), (1.0, -1.0)), [1.5, -1.5], rtol=1e-6)


def test_treasures_are_all_around_and_the_start_is_below():
    goals = np.asarray(jax.vmap(FAMILY.sample)(jax.random.split(KEY, 2000)).goal)
    np.testing.assert_allclose(np.linalg.norm(goals, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(goals.mean(axis=0), 0.0, atol=0.05)
    state, observation = FAMILY.reset(TREASURE, KEY)
    assert observation.tolist() == [0.0, -1.0, 0.0, 0.0]
    assert state.tolist() == [0.0, -1.0]


def around_the_mountain(goal, steps):
    """Actions of a way that arrives with the last of so many steps: beside the mountain as long as that allows."""
    place, actions = np.array([0.0, -1.0]), []
    arrival = place + np.clip(goal - place, -0.1 * steps, 0.1 * steps)
    for left in range(steps - 1, -1, -1):
        wanted = np.array([np.copysign(0.53, goal[0]) if goal[1] > 0 else arrival[0], arrival[1]])
        following = np.clip(np.clip(wanted, arrival - 0.1 * left, arrival + 0.1 * left), place - 0.1, place + 0.1)
        actions.append(10.0 * (following - place))
        place = following
    return actions


def test_the_optimum_is_earned_by_going_around_the_mountain():
    """Whatever the angle: no step earlier is near enough, and every step before it costs 1."""

    @jax.jit
    def episode(task, actions):
        def step(place, action):
            moved, _, reward, _ = FAMILY.step(task, place, action, KEY)
            return moved, reward

        return jax.lax.scan(step, jnp.array([0.0, -1.0]), actions)[1]

    for degrees in np.arange(1.0, 360.0, 5.0):
        goal = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
        task = NavigationTask(jnp.asarray(goal, jnp.float32))
        steps = int(steps_to_treasure(task))
        actions = np.zeros((100, 2), np.float32)
        actions[:steps] = around_the_mountain(goal, steps)
        rewards = np.asarray(episode(task, actions))
        np.testing.assert_allclose(
            rewards, [-1.0] * (steps - 1) + [1.0] * (101 - steps), atol=1e-5, err_msg=f"{degrees}"
        )
        assert FAMILY.optimum(task) == rewards.sum().round()


def test_a_treasure_right_across_the_mountain_is_reached_at_full_speed():
    """19 moves of 0.1 end exactly on the rim of the treasure, 1.9 + 0.1 from the start, but for rounding."""
    task, place, rewards = NavigationTask(jnp.array([0.0, 1.0])), jnp.array([0.0, -1.0]), []
    for action in around_the_mountain(np.array([0.0, 1.0]), 19):
        place, _, reward, _ = FAMILY.step(task, place, jnp.array(action, jnp.float32), KEY)
        rewards.append(float(reward))
    assert rewards == pytest.approx([-1.0] * 18 + [1.0])
    assert steps_to_treasure(task) == FARTHEST
    assert FAMILY.optimum(task) == 64.0
    angles = jnp.pi / 2 + jnp.linspace(-1e-3, 1e-3, 2001)
    assert jnp.max(jax.vmap(lambda angle: steps_to_treasure(at_angle(angle)))(angles)) == FARTHEST


def test_a_short_episode_never_gets_there():
    assert mountain_treasure(horizon=5).optimum(NavigationTask(jnp.array([0.0, 1.0]))) == -5.0
    assert steps_to_treasure(NavigationTask(jnp.array([0.0, 0.999]))) == 19
