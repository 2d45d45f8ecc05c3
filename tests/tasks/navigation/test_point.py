"""What all navigation families share: what is done with actions, and the rewards for coming near a goal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.tasks.navigation.goals import navigation_corner, navigation_finn
from metarl_jax.tasks.navigation.momentum import navigation_momentum
from metarl_jax.tasks.navigation.point import CORNERS, NavigationTask, goal_reward, sample_corner, start_in_the_middle
from metarl_jax.tasks.navigation.walls import navigation_walls

KEY = jax.random.key(0)
NAN, INF = np.nan, np.inf
PUSHES = {navigation_finn: 0.1, navigation_corner: 0.2, navigation_momentum: 0.1, navigation_walls: 0.2}
FAMILIES = pytest.mark.parametrize("make", PUSHES)


def first_step(family, action):
    """``(state before, state after, reward, terminated)``."""
    task = family.sample(KEY)
    before, _ = family.reset(task, KEY)
    after, observation, reward, terminated = jax.jit(family.step)(task, before, jnp.array(action, float), KEY)
    np.testing.assert_array_equal(after, observation)
    return np.asarray(before), np.asarray(after), reward, terminated


@FAMILIES
@pytest.mark.parametrize("action", [(NAN, 1.0), (0.0, NAN), (NAN, NAN), (NAN, INF)])
def test_a_push_that_is_not_a_number_does_nothing_and_earns_nan(make, action):
    """As if the action were 0, but for the reward."""
    _, after, reward, terminated = first_step(make(), action)
    np.testing.assert_array_equal(after, first_step(make(), (0.0, 0.0))[1])
    assert np.isnan(reward)
    assert not terminated


@FAMILIES
def test_an_infinite_push_is_the_largest_one(make):
    _, after, reward, _ = first_step(make(action_scale=2.0), (INF, -INF))
    _, expected, expected_reward, _ = first_step(make(action_scale=2.0), (2.0, -2.0))
    np.testing.assert_array_equal(after, expected)
    assert reward == expected_reward


@FAMILIES
def test_the_largest_push_is_the_published_one(make):
    """Of the last two numbers of the state: the velocity with momentum, else the position."""
    before, after, *_ = first_step(make(action_scale=1.0), (1.0, -1.0))
    np.testing.assert_allclose((after - before)[-2:], np.multiply(PUSHES[make], (1, -1)), rtol=1e-5)


@FAMILIES
@pytest.mark.parametrize("settings", [{"horizon": 0}, {"horizon": -3}, {"action_scale": 0.0}, {"action_scale": -1.0}])
def test_impossible_settings_are_refused(make, settings):
    """The message names the setting and the value."""
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        make(**settings)


def test_corners_are_equally_likely_and_starts_fill_the_middle():
    keys = jax.random.split(KEY, 2000)
    goals, counts = np.unique(jax.vmap(sample_corner)(keys).goal, axis=0, return_counts=True)
    assert goals.tolist() == sorted(map(list, CORNERS))
    assert (abs(counts / 2000 - 0.25) < 0.04).all()
    starts = jax.vmap(start_in_the_middle)(keys)
    np.testing.assert_allclose([starts.min(0), starts.max(0)], [[-0.2, -0.2], [0.2, 0.2]], atol=0.01)
    assert (abs(starts) <= 0.2).all()


@pytest.mark.parametrize(("kind", "expected"), [("sparse", 7.0), ("dense", -5.0), ("squared", -25.0)])
def test_rewards_for_coming_near(kind, expected):
    """A goal 3 and 4 away; what follows the position in the state does not count."""
    reward_and_end = goal_reward(kind, lambda task, before, after: jnp.array(7.0))
    task = NavigationTask(jnp.array([2.0, 2.0]))
    reward, terminated = reward_and_end(task, jnp.zeros(4), jnp.array([-1.0, 6.0, 9.0, 9.0]))
    np.testing.assert_allclose(reward, expected, rtol=1e-6)
    assert not terminated
