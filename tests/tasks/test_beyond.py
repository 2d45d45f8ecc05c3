"""Tasks out of the training distribution: outside of the range that training draws from, and of the same kind."""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from metarl_jax.tasks import FAMILIES
from metarl_jax.tasks.adapters.brax import load_env
from metarl_jax.tasks.adapters.physics import unchanged
from metarl_jax.tasks.beyond import above, around
from metarl_jax.tasks.wrappers.oracle import with_oracle

VELOCITIES = {
    "half_cheetah_velocity": (0, 2),
    "ant_velocity": (0, 3),
    "walker_velocity": (0, 10),
    "hopper_velocity": (0, 2),
    "swimmer_velocity": (0.1, 0.2),
}
KEYS = jax.random.split(jax.random.key(0), 2000)


def draw(family):
    assert family.sample_beyond is not None
    inside, beyond = (jax.jit(jax.vmap(sample))(KEYS) for sample in (family.sample, family.sample_beyond))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), inside) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), beyond
    )
    return inside, beyond


def assert_uniform(numbers, low, high):
    """In the range, and with the mean and the spread of a uniform distribution on it."""
    assert low <= np.min(numbers) <= np.max(numbers) <= high
    width = high - low
    np.testing.assert_allclose(np.mean(numbers), (low + high) / 2, atol=0.03 * width)
    np.testing.assert_allclose(np.std(numbers), width / np.sqrt(12), atol=0.02 * width)


@pytest.mark.parametrize("name", VELOCITIES)
def test_velocities_lie_above_the_fastest_of_training(name):
    low, high = VELOCITIES[name]
    family = FAMILIES[name](min_velocity=low, max_velocity=high)
    inside, beyond = draw(family)
    assert_uniform(inside, low, high)
    assert_uniform(beyond, high, high + (high - low) / 2)


def test_goals_lie_outside_the_square_and_the_disc():
    _, task = draw(FAMILIES["navigation_finn"]())
    assert_uniform(np.abs(task.goal).max(axis=-1), 0.5, 0.75)
    assert (np.sign(task.goal).mean(axis=0) ** 2 < 0.01).all()
    _, goal = draw(FAMILIES["ant_goal"](radius=2.0))
    assert_uniform(np.linalg.norm(goal, axis=-1), 2.0, 3.0)


def test_bodies_are_heavier_or_lighter_than_any_of_training():
    """Every factor is larger, or smaller, than any that training draws; what training leaves alone stays as it is."""
    inside, beyond = draw(FAMILIES["random_dynamics"](body="hopper", log_scale=2.0))
    normal = unchanged(load_env("hopper", "mujoco"))
    for name, base in (("mass", 1.5), ("inertia", 1.5), ("friction", 1.5), ("damping", 1.3)):
        has = np.asarray(getattr(normal, name)) > 0
        log_factors = np.log(np.asarray(getattr(beyond, name))[:, has] / np.asarray(getattr(normal, name))[has])
        assert_uniform(np.abs(log_factors) / np.log(base), 2.0 - 1e-4, 3.0 + 1e-4)
        np.testing.assert_allclose((log_factors > 0).mean(), 0.5, atol=0.05)
    np.testing.assert_array_equal(beyond.gear, inside.gear)


def test_slopes_are_steeper_and_gravity_never_pulls_upwards():
    _, task = draw(FAMILIES["sloped_ground"](max_slope=0.2, max_gravity_change=0.8))
    slope, strength = np.asarray(task).T
    assert_uniform(np.abs(slope), 0.2, 0.3)
    assert (np.abs(strength - 1.0) >= 0.8 - 1e-6).all()
    assert strength.min() == 0.0
    _, steep = draw(FAMILIES["sloped_ground"](max_slope=1.4))
    assert np.abs(steep[:, 0]).max() == 1.5  # less than a right angle


def test_one_velocity_for_all_has_none_beyond():
    assert FAMILIES["hopper_velocity"](min_velocity=1.0, max_velocity=1.0).sample_beyond is None


def test_an_oracle_sees_them_too():
    family = with_oracle(FAMILIES["navigation_finn"]())
    task = family.sample_beyond(jax.random.key(3))
    _, observation = family.reset(task, jax.random.key(4))
    np.testing.assert_array_equal(observation[2:], ravel_pytree(task)[0])


def test_numbers_outside_a_range():
    assert_uniform(jax.vmap(lambda key: above(key, -1.0, 3.0))(KEYS), 3.0, 5.0)
    drawn = np.asarray(jax.vmap(lambda key: around(key, (), 4.0))(KEYS))
    assert_uniform(np.abs(drawn), 4.0, 6.0)
    np.testing.assert_allclose((drawn > 0).mean(), 0.5, atol=0.05)
