"""Navigation with momentum against its definition, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.tasks.navigation.momentum import navigation_momentum
from metarl_jax.tasks.navigation.point import CORNERS, NavigationTask

KEY = jax.random.key(0)
TASK = NavigationTask(jnp.array([2.0, -2.0]))


def play(family, state, actions):
    """``(observations [T, 4], rewards [T], terminated [T])``."""

    def step(state, action):
        state, *rest = family.step(TASK, state, action, KEY)
        return state, tuple(rest)

    outputs = jax.jit(lambda: jax.lax.scan(step, jnp.array(state, float), jnp.array(actions, float))[1])()
    return tuple(map(np.asarray, outputs))


def test_a_scripted_trajectory():
    """Accelerate, coast, brake on one axis, with an output of 10 for a full push, and clipped; reward by hand."""
    observations, rewards, terminated = play(
        navigation_momentum(),
        [1.0, -1.0, 0.05, 0.0],
        [(10.0, -5.0), (0.0, 0.0), (-99.0, -10.0)],
    )
    expected = [[1.15, -1.05, 0.15, -0.05], [1.3, -1.1, 0.15, -0.05], [1.35, -1.25, 0.05, -0.15]]
    np.testing.assert_allclose(observations, expected, rtol=1e-5)
    distances = [np.hypot(0.85, 0.95), np.hypot(0.7, 0.9), np.hypot(0.65, 0.75)]
    np.testing.assert_allclose(rewards, 2 - np.array(distances), rtol=1e-5)
    assert not terminated.any()


@pytest.mark.parametrize(
    ("position", "expected"),
    [((2.0, -2.0), 2.0), ((2.0, 0.5), 0.0), ((0.5, -2.0), 0.5), ((0.0, 0.0), 0.0), ((-2.0, 2.0), 0.0)],
)
def test_the_sparse_reward_is_a_cone_of_radius_2(position, expected):
    """At rest: at the goal, beyond the cone, within it, at the start, at another corner."""
    _, rewards, terminated = play(navigation_momentum(), [*position, 0.0, 0.0], [(0.0, 0.0)])
    np.testing.assert_allclose(rewards, expected, atol=1e-6)
    assert not terminated.any()


@pytest.mark.parametrize(("reward", "expected"), [("dense", -1.0), ("squared", -1.0), ("dense", -3.0), ("squared", -9)])
def test_dense_rewards_are_those_of_the_place_after_the_move(reward, expected):
    """With velocity 0.5 straight away from the goal."""
    x = 2.0 - np.sqrt(abs(expected)) + 0.5 if reward == "squared" else 2.0 + expected + 0.5
    _, rewards, _ = play(navigation_momentum(reward=reward), [x, -2.0, -0.5, 0.0], [(0.0, 0.0)])
    np.testing.assert_allclose(rewards, expected, rtol=1e-6)


def test_tasks_and_starts():
    """Corners, for testing as for training; positions within 0.2, velocities within 0.1, independent of each other."""
    family = navigation_momentum()
    keys = jax.random.split(KEY, 2000)
    for sample in (family.sample, family.sample_held_out):
        assert {tuple(goal) for goal in np.asarray(jax.vmap(sample)(keys[:50]).goal)} == set(CORNERS)
    states, observations = jax.vmap(lambda key: family.reset(TASK, key))(keys)
    np.testing.assert_array_equal(states, observations)
    np.testing.assert_allclose(states.max(0), [0.2, 0.2, 0.1, 0.1], rtol=0.02)
    np.testing.assert_allclose(states.min(0), [-0.2, -0.2, -0.1, -0.1], rtol=0.02)
    assert (abs(np.corrcoef(states.T) - np.eye(4)) < 0.1).all()
    assert family.observation_shape == (4,)
    assert family.horizon == 100
