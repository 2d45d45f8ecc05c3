"""Navigation with walls against its definition, by hand, and by many random walks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.tasks.navigation.point import CORNERS
from metarl_jax.tasks.navigation.walls import WALLS, WallsTask, navigation_walls, stop_at_wall

KEY = jax.random.key(0)
# The gap of the inner wall lies east, that of the outer one north.
TASK = WallsTask(jnp.array([2.0, 2.0]), jnp.array([[1.0, 0.0], [0.0, 2.0]]))


def step(position, move, **settings):
    """``(position, reward)`` after a move given in units of length."""
    family = navigation_walls(action_scale=0.2, **settings)
    action = jnp.array(move, float)
    moved, observation, reward, terminated = jax.jit(family.step)(TASK, jnp.array(position, float), action, KEY)
    np.testing.assert_array_equal(moved, observation)
    assert not terminated
    return np.asarray(moved), reward


@pytest.mark.parametrize(
    ("position", "move", "expected"),
    [
        ((0.1, 0.2), (0.2, -0.1), (0.3, 0.1)),  # no wall near
        ((0.9, 0.0), (0.2, 0.1), (1.1, 0.1)),  # out through the inner gap
        ((1.1, 0.1), (-0.2, -0.1), (0.9, 0.0)),  # and back in
        ((-0.9, 0.0), (-0.2, 0.1), (-0.994897, 0.0904452)),  # slides: (-1.1, 0.1) x 0.999 / 1.104536
        ((-1.1, 0.0), (0.2, 0.0), (-1.001, 0.0)),  # shut from outside, too
        ((0.0, 1.9), (0.2, 0.2), (0.2, 2.1)),  # out through the outer gap
        ((1.9, 0.0), (0.2, 0.0), (1.999, 0.0)),  # which is not where the inner one is
        ((1.9, 1.9), (0.0, 0.2), (1.9, 2.1)),  # outside, beside a wall
        ((0.0, -2.1), (0.0, 0.2), (0.0, -2.001)),
    ],
)
def test_where_moves_end(position, move, expected):
    np.testing.assert_allclose(step(position, move)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("degrees", "gap_radius", "passes"),
    [(50, 1.0, True), (-50, 1.0, True), (59, 1.0, False), (-59, 1.0, False), (10, 0.2, True), (12, 0.2, False)],
)
def test_how_wide_a_gap_is(degrees, gap_radius, passes):
    """Arrivals at radius 1.05, at 50, 59, 10 and 12 degrees from the middle: 0.868, 1.010, 0.185 and 0.220 away."""
    direction = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    moved, _ = step(0.95 * direction, 0.1 * direction, gap_radius=gap_radius)
    np.testing.assert_allclose(np.linalg.norm(moved), 1.05 if passes else 0.999, rtol=1e-5)


def test_a_scripted_trajectory():
    """Against the inner wall, along it, and out through its gap; rewards where it rests."""
    position, places, rewards = (0.0, 0.9), [], []
    for move in [(0.0, 0.2), (0.2, -0.2), (0.2, -0.2), (0.2, -0.1), (0.2, 0.2)]:
        position, reward = step(position, move)
        places.append(position)
        rewards.append(reward)
    expected = [(0.0, 0.999), (0.2, 0.799), (0.4, 0.599), (0.6, 0.499), (0.8, 0.699)]
    np.testing.assert_allclose(places, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rewards, [-np.hypot(2 - x, 2 - y) for x, y in expected], rtol=1e-5)


def test_rewards():
    """Of the place where the point rests, not of the one behind the wall; sparse: progress within 2 of the goal."""
    rest = 1.999 / np.sqrt(2)
    distance = 2 * np.sqrt(2) - 1.999
    before = (1.4, 1.4)
    assert np.linalg.norm(before) < 2
    for reward, expected in [
        ("dense", -distance),
        ("squared", -(distance**2)),
        ("sparse", np.hypot(0.6, 0.6) - distance),
    ]:
        moved, earned = step(before, (0.2, 0.2), reward=reward, gap_radius=0.5)
        np.testing.assert_allclose(moved, [rest, rest], rtol=1e-5)
        np.testing.assert_allclose(earned, expected, rtol=1e-4)
    assert step((0.1, 0.1), (0.1, 0.1), reward="sparse")[1] == 0.0
    assert step((-2.1, -2.1), (-0.1, 0.0), reward="sparse")[1] == 0.0


def test_tasks_and_starts():
    """Corners; gaps on their walls, uniform, independent of each other; for testing as for training."""
    family = navigation_walls()
    keys = jax.random.split(KEY, 4000)
    for sample in (family.sample, family.sample_held_out):
        tasks = jax.vmap(sample)(keys)
        assert {tuple(goal) for goal in np.asarray(tasks.goal)} == set(CORNERS)
        np.testing.assert_allclose(np.linalg.norm(tasks.gaps, axis=-1), np.broadcast_to(WALLS, (4000, 2)), rtol=1e-5)
        angle = np.arctan2(tasks.gaps[..., 1], tasks.gaps[..., 0])
        for one in (angle[:, 0], angle[:, 1], np.mod(angle[:, 0] - angle[:, 1], 2 * np.pi) - np.pi):
            np.testing.assert_allclose(np.quantile(one, [0.1, 0.5, 0.9]) / np.pi, [-0.8, 0.0, 0.8], atol=0.06)
    starts, _ = jax.vmap(lambda key: family.reset(TASK, key))(keys)
    np.testing.assert_allclose(abs(starts).max(0), 0.2, rtol=0.01)
    assert (family.observation_shape, family.horizon) == ((2,), 100)


def test_random_walks_change_sides_in_gaps_only():
    """60,000 steps of 200 walks, each with its own walls: whoever is on the other side came through the gap."""
    family = navigation_walls(action_scale=1.0)
    tasks = jax.vmap(family.sample)(jax.random.split(KEY, 200))
    starts, _ = jax.vmap(family.reset)(tasks, jax.random.split(jax.random.key(1), 200))

    def walk(positions, key):
        actions = 2.0 * jax.random.normal(key, (200, 2))
        moved, *_ = jax.vmap(family.step, in_axes=(0, 0, 0, None))(tasks, positions, actions, key)
        return moved, moved

    _, later = jax.jit(lambda: jax.lax.scan(walk, starts, jax.random.split(jax.random.key(2), 300)))()
    places = np.concatenate([starts[None], later])
    for i, radius in enumerate(WALLS):
        is_inside = np.linalg.norm(places, axis=-1) < radius
        crosses = is_inside[1:] != is_inside[:-1]
        to_gap = np.linalg.norm(places[1:] - np.asarray(tasks.gaps)[:, i], axis=-1)
        assert (to_gap[crosses] <= 1.0).all()
        assert (crosses & is_inside[1:]).sum() > 20  # they come back, too
        assert (~is_inside[-1]).sum() > 20


def test_the_origin_has_no_direction():
    """Nothing is divided by zero, whichever way the choice falls."""
    stopped = stop_at_wall(1.0, jnp.array([1.0, 0.0]), 0.5, jnp.array([0.0, 1.1]), jnp.zeros(2))
    assert np.isfinite(stopped).all()


def test_a_gap_has_a_width():
    with pytest.raises(ValueError, match=r"gap_radius = 0\.0"):
        navigation_walls(gap_radius=0.0)
