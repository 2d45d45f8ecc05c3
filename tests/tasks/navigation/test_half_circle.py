"""The half-circle point robot against its definition, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.tasks.navigation.half_circle import navigation_half_circle
from metarl_jax.tasks.navigation.point import NavigationTask

KEY = jax.random.key(0)
GOAL = NavigationTask(jnp.array([0.6, 0.8]))


def angles(sample):
    goals = np.asarray(jax.vmap(sample)(jax.random.split(KEY, 4000)).goal)
    np.testing.assert_allclose(np.linalg.norm(goals, axis=1), 1.0, rtol=1e-5)
    return np.degrees(np.arctan2(goals[:, 1], goals[:, 0]))


def test_goals_are_uniform_on_the_upper_half_and_beyond_it_next_to_that():
    np.testing.assert_allclose(np.quantile(angles(navigation_half_circle().sample), [0, 0.5, 1]), [0, 90, 180], atol=4)
    beyond = angles(navigation_half_circle().sample_beyond) % 360
    assert ((beyond <= 225.01) & (beyond >= 179.99) | (beyond >= 314.99) | (beyond < 0.01)).all()
    assert 0.4 < np.mean(beyond > 270) < 0.6


@pytest.mark.parametrize(
    ("reward", "far", "near"),
    [("sparse", 0.0, 1.0 - np.hypot(0.1, 0.1)), ("dense", -0.5, -np.hypot(0.1, 0.1)), ("squared", -0.25, -0.02)],
)
def test_rewards_after_the_move(reward, far, near):
    """Half a move to (0.3, 0.4), and a whole one, clipped, to (0.5, 0.7)."""
    family = navigation_half_circle(reward=reward)
    moved, _, paid, ended = family.step(GOAL, jnp.array([0.25, 0.4]), jnp.array([0.5, 0.0]), KEY)
    np.testing.assert_allclose(moved, [0.3, 0.4], rtol=1e-6)
    assert paid == pytest.approx(far)
    assert not family.success(GOAL, moved)
    moved, _, paid, _ = family.step(GOAL, jnp.array([0.4, 0.6]), jnp.array([3.0, 1.0]), KEY)
    assert paid == pytest.approx(near, rel=1e-5)
    assert family.success(GOAL, moved)
    assert not ended


@pytest.mark.parametrize("reward", ["sparse", "dense", "squared"])
def test_the_optimum_is_earned_by_full_moves_along_each_axis_and_not_by_others(reward):
    family = navigation_half_circle(reward=reward, horizon=12)

    def episode(policy):
        def step(position, key):
            position, _, paid, _ = family.step(GOAL, position, policy(position, key), key)
            return position, paid

        return jax.lax.scan(step, jnp.zeros(2), jax.random.split(KEY, 12))[1].sum()

    best = episode(lambda position, key: 10.0 * (GOAL.goal - position))
    straight = episode(lambda position, key: 10.0 * (GOAL.goal - position) / 8.0)
    assert family.optimum(GOAL) == pytest.approx(float(best), rel=1e-5)
    assert straight < best
