"""Navigation tasks against their published definitions, by hand."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.tasks.navigation.goals import navigation_corner, navigation_finn
from metarl_jax.tasks.navigation.momentum import navigation_momentum
from metarl_jax.tasks.navigation.point import CORNERS, NavigationTask
from metarl_jax.tasks.navigation.walls import navigation_walls
from metarl_jax.tasks.wrappers.oracle import with_oracle

KEY = jax.random.key(0)


def step(family, goal, position, action):
    """``(position, observation, reward, terminated)`` as numpy."""
    task = NavigationTask(jnp.array(goal, float))
    return tuple(map(np.asarray, jax.jit(family.step)(task, jnp.array(position, float), jnp.array(action, float), KEY)))


@pytest.mark.parametrize(("reward", "expected"), [("distance", -np.hypot(0.25, 0.4)), ("squared_distance", -0.2225)])
def test_finn_reward_is_the_distance_after_the_move(reward, expected):
    """From the origin by (0.05, -0.1) to a goal at (0.3, 0.3)."""
    state, observation, value, terminated = step(navigation_finn(reward=reward), [0.3, 0.3], [0, 0], [0.5, -1.0])
    np.testing.assert_allclose(state, [0.05, -0.1], rtol=1e-6)
    np.testing.assert_allclose(observation, state)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert not terminated


@pytest.mark.parametrize(
    ("family", "action", "move"),
    [
        (navigation_finn(), [1.0, -0.2], [0.1, -0.02]),
        (navigation_finn(), [7.0, -3.0], [0.1, -0.1]),
        (navigation_finn(action_scale=10.0), [5.0, -20.0], [0.05, -0.1]),
        (navigation_finn(action_scale=0.1), [0.04, 1.0], [0.04, 0.1]),
        (navigation_corner(), [10.0, -1.0], [0.2, -0.02]),
        (navigation_corner(), [100.0, -11.0], [0.2, -0.2]),
        (navigation_corner(action_scale=1.0), [0.5, -2.0], [0.1, -0.2]),
    ],
)
def test_moves_are_scaled_and_clipped_per_axis(family, action, move):
    """An output of ``action_scale`` is a full move: 0.1 for finn, 0.2 for corner; beyond it is clipped."""
    state, *_ = step(family, [2, 2], [0.3, 0.1], action)
    np.testing.assert_allclose(state, np.array([0.3, 0.1]) + move, rtol=1e-5)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [((0.009, -0.009), True), ((0.0, 0.0), True), ((0.011, 0.0), False), ((0.0, -0.011), False)],
)
def test_finn_ends_when_both_coordinates_are_within_a_hundredth(offset, expected):
    """A square of half-width 0.01 around the goal, not a disc; judged after the move."""
    goal = np.array([0.1, -0.2])
    *_, terminated = step(navigation_finn(), goal, goal + offset - [0.1, 0.0], [1.0, 0.0])
    assert terminated == expected
    assert terminated.dtype == bool


def test_finn_tasks_and_start():
    """Goals fill [-0.5, 0.5]^2 for training and for testing; the start is the origin."""
    family = navigation_finn()
    for sample in (family.sample, family.sample_held_out):
        goals = jax.vmap(sample)(jax.random.split(KEY, 2000)).goal
        assert (abs(goals) <= 0.5).all()
        np.testing.assert_allclose(goals.min(0), -0.5, atol=0.01)
        np.testing.assert_allclose(goals.max(0), 0.5, atol=0.01)
        assert abs(np.corrcoef(goals.T)[0, 1]) < 0.1
    state, observation = family.reset(family.sample(KEY), KEY)
    assert state.tolist() == observation.tolist() == [0.0, 0.0]


def test_corner_tasks_and_starts():
    """Four goals, equally likely; starts fill [-0.2, 0.2]^2 and differ between keys."""
    family = navigation_corner()
    keys = jax.random.split(KEY, 2000)
    goals, counts = np.unique(jax.vmap(family.sample)(keys).goal, axis=0, return_counts=True)
    assert goals.tolist() == sorted(map(list, CORNERS))
    assert (abs(counts / 2000 - 0.25) < 0.04).all()
    starts, observations = jax.vmap(lambda key: family.reset(NavigationTask(jnp.ones(2)), key))(keys)
    assert (starts == observations).all()
    assert (abs(starts) <= 0.2).all()
    np.testing.assert_allclose(starts.min(0), -0.2, atol=0.01)
    np.testing.assert_allclose(starts.max(0), 0.2, atol=0.01)


def progress(goal, before, after):
    return np.linalg.norm(np.subtract(before, goal)) - np.linalg.norm(np.subtract(after, goal))


@pytest.mark.parametrize(
    ("goal", "before", "move", "is_paid"),
    [
        ((2, 2), (0.1, 0.1), (0.1, 0.1), False),  # |s'|_1 = 0.4: still in the middle
        ((2, 2), (0.2, 0.2), (0.1, 0.1), True),  # leaves it with this step: |s'|_1 = 0.6
        ((2, 2), (0.3, 0.3), (-0.1, -0.1), False),  # comes back: |s'|_1 = 0.4
        ((2, 2), (1.0, 1.0), (-0.2, 0.1), True),  # moving away costs
        ((2, 2), (-0.3, -0.3), (-0.1, -0.1), False),  # another corner is nearest
        ((2, -2), (0.5, 0.1), (0.0, -0.2), True),  # judged where it arrives, not where it was
        ((2, 2), (0.5, 0.1), (0.0, -0.2), False),
    ],
)
def test_corner_sparse_reward(goal, before, move, is_paid):
    """Progress towards the goal once outside the middle and while the goal is the nearest corner, else nothing."""
    *_, reward, terminated = step(navigation_corner(), goal, before, np.multiply(move, 50.0))
    expected = progress(goal, before, np.add(before, move)) if is_paid else 0.0
    np.testing.assert_allclose(reward, expected, rtol=1e-4, atol=1e-7)
    assert not terminated


def test_corner_dense_rewards():
    """-d and -d^2 after the move, everywhere."""
    before, after, goal = (0.0, 0.0), np.array([0.1, -0.1]), (-2, 2)
    distance = np.linalg.norm(after - goal)
    np.testing.assert_allclose(
        step(navigation_corner(reward="dense"), goal, before, after * 50)[2], -distance, rtol=1e-5
    )
    np.testing.assert_allclose(
        step(navigation_corner(reward="squared"), goal, before, after * 50)[2], -(distance**2), rtol=1e-5
    )


def test_corner_never_terminates_at_its_goal():
    """The published task runs to the horizon."""
    assert not step(navigation_corner(), (2, 2), (2, 2), (0, 0))[3]


@pytest.mark.parametrize("family", [navigation_finn(), navigation_corner(), navigation_momentum(), navigation_walls()])
def test_a_new_task_does_not_recompile(family):
    """A task is traced data."""
    run = jax.jit(
        chex.assert_max_traces(lambda task: family.step(task, family.reset(task, KEY)[0], jnp.ones(2), KEY), n=1)
    )
    rewards = {run(family.sample(jax.random.key(i)))[2].item() for i in range(5)}
    chex.clear_trace_counter()
    assert rewards


def test_defaults_are_the_published_ones():
    """Horizon 100 in both; outputs of 1 (finn) and 10 (corner) are full moves."""
    assert navigation_finn().horizon == navigation_corner().horizon == 100
    np.testing.assert_allclose(step(navigation_finn(), (2, 2), (0, 0), (1, 0))[0], [0.1, 0], rtol=1e-6)
    np.testing.assert_allclose(step(navigation_corner(), (2, 2), (0, 0), (10, 0))[0], [0.2, 0], rtol=1e-6)


@pytest.mark.parametrize("reward", ["distance", "squared_distance"])
@pytest.mark.parametrize("goal", [(0.25, -0.1), (0.105, 0.05), (0.0, 0.2)])
def test_the_optimum_of_finn_is_the_best_of_all_paths(goal, reward):
    """Every path of 4 steps with moves on a grid that the best one is on, played by ``step``.

    One goal ends the episode from 0.005 away; the first is out of reach until the third step.
    """
    horizon = 4
    family, task = navigation_finn(horizon=horizon, reward=reward), NavigationTask(jnp.array(goal))
    moves = jnp.array(list(itertools.product((-1.0, 0.0, 0.5, 1.0), (-1.0, 0.0, 0.5, 1.0))))
    paths = moves[jnp.array(list(itertools.product(range(len(moves)), repeat=horizon)))]

    def play(path):
        def step(carry, action):
            state, alive = carry
            state, _, paid, terminated = family.step(task, state, action, KEY)
            return (state, alive & ~terminated), jnp.where(alive, paid, 0.0)

        return jax.lax.scan(step, (jnp.zeros(2), jnp.array(True)), path)[1].sum()

    best = jax.jit(jax.vmap(play))(paths).max()
    np.testing.assert_allclose(family.optimum(task), best, rtol=1e-5, atol=1e-6)


def test_only_where_the_optimum_is_exact_is_there_one():
    assert navigation_corner(reward="dense").optimum is None
    assert with_oracle(navigation_finn()).optimum(NavigationTask(jnp.array([0.1, 0.0]))) == 0.0
