"""Every locomotion family against its written definition, on scripted episodes of MuJoCo's own engine."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.tasks import FAMILIES
from metarl_jax.tasks.locomotion.bodies import direction_in_the_plane, outside, target_velocity

STEPS, LANES, SCALE = 12, 3, 2.0
UNIT = jnp.array([0.6, -0.8])
KEY = jax.random.key(0)

FACTORIES = {**FAMILIES, "ant_direction_finn": functools.partial(FAMILIES["ant_direction"], reward="finn")}
# name: (task, seconds of a step, reward from velocity [3], place [3] and squared norm of the action, limits of height,
# which joint leans, by how much)
DEFINITIONS = {
    "half_cheetah_direction": (-1.0, 0.05, lambda v, p, a: -v[0] - 0.05 * a, None, None),
    "half_cheetah_velocity": (1.5, 0.05, lambda v, p, a: -abs(v[0] - 1.5) - 0.05 * a, None, None),
    "ant_direction": (-1.0, 0.05, lambda v, p, a: -v[0] - 0.5 * a + 1, (0.2, 1.0), None),
    "ant_direction_finn": (-1.0, 0.05, lambda v, p, a: -v[0] - 0.005 * a + 0.05, (0.2, 1.0), None),
    "ant_direction_2d": (UNIT, 0.05, lambda v, p, a: 0.6 * v[0] - 0.8 * v[1] - 0.5 * a + 1, (0.2, 1.0), None),
    "ant_velocity": (2.0, 0.05, lambda v, p, a: 1 - abs(v[0] - 2) - 0.005 * a + 0.05, (0.2, 1.0), None),
    "ant_goal": (UNIT, 0.05, lambda v, p, a: -abs(p[0] - 0.6) - abs(p[1] + 0.8) - 0.1 * a, None, None),
    "walker_direction": (-1.0, 0.008, lambda v, p, a: -v[0] + 1 - 1e-3 * a, (0.8, 2.0), (2, 1.0)),
    "walker_velocity": (4.0, 0.008, lambda v, p, a: -abs(v[0] - 4) + 15 - 1e-3 * a, (0.8, 2.0), (2, 1.0)),
    "hopper_velocity": (1.0, 0.008, lambda v, p, a: 1 - abs(v[0] - 1) - 1e-3 * a, (0.7, np.inf), (2, 0.2)),
    "humanoid_direction": (-1.0, 0.015, lambda v, p, a: -1.25 * v[0] + 5 - 0.1 * 0.4**2 * a, (1.0, 2.0), None),
    "humanoid_direction_2d": (
        UNIT,
        0.015,
        lambda v, p, a: 1.25 * (0.6 * v[0] - 0.8 * v[1]) + 5 - 0.1 * 0.4**2 * a,
        (1.0, 2.0),
        None,
    ),
    "swimmer_velocity": (0.15, 0.04, lambda v, p, a: -abs(v[0] - 0.15) - 1e-4 * a, None, None),
}


def play(family, task, actions):
    """``[T, N, ...]`` physics before and after, observation, reward and termination of scripted episodes."""

    def episode(actions, key):
        state, _ = family.reset(task, key)

        def step(state, action):
            after, *outcome = family.step(task, state, action, key)
            return after, (state.physics, after.physics, *outcome)

        return jax.lax.scan(step, state, actions)[1]

    played = jax.jit(jax.vmap(episode, in_axes=(1, 0), out_axes=1))(actions, jax.random.split(KEY, LANES))
    return jax.device_get(played)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_rewards_and_terminations_are_those_of_the_definition(name):
    task, dt, reward_of, limits, lean = DEFINITIONS[name]
    family = FACTORIES[name](horizon=STEPS, backend="mujoco", action_scale=SCALE)
    actions = 3 * SCALE * jax.random.normal(KEY, (STEPS, LANES, family.action.size))  # many beyond the range
    before, after, observation, reward, ended = play(family, jnp.float32(task), actions)
    assert observation.shape == (STEPS, LANES, *family.observation_shape)
    squares = np.square(np.clip(actions / SCALE, -1, 1)).sum(-1)
    for t, lane in np.ndindex(STEPS, LANES):
        place, start = after.x.pos[t, lane, 0], before.x.pos[t, lane, 0]
        expected = reward_of((place - start) / dt, place, squares[t, lane])
        assert reward[t, lane] == pytest.approx(expected, rel=1e-3, abs=2e-3)
        fallen = limits is not None and not limits[0] < place[2] < limits[1]
        leaning = lean is not None and not abs(after.q[t, lane, lean[0]]) < lean[1]
        assert bool(ended[t, lane]) == (fallen or leaning)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_two_directions_are_all_the_tasks_there_are(name):
    assert FACTORIES[name]().num_tasks == (None if "2d" in name or "direction" not in name else 2)


@pytest.mark.parametrize(("name", "size"), [("half_cheetah_velocity", 20), ("ant_goal", 30)])
def test_the_torso_s_place_follows_the_rest_if_asked_for(name, size):
    """From the first observation on; 20 numbers of the half-cheetah are what VariBAD's and PEARL's observe."""
    usual = FAMILIES[name](horizon=2, backend="mujoco")
    family = FAMILIES[name](horizon=2, backend="mujoco", observe_position=True)
    assert family.observation_shape == (size,)
    task = family.sample(KEY)
    _, first = jax.jit(family.reset)(task, KEY)
    np.testing.assert_allclose(first[:-3], jax.jit(usual.reset)(task, KEY)[1], atol=1e-6)
    _, after, observation, *_ = play(family, task, jnp.ones((2, LANES, family.action.size)))
    np.testing.assert_array_equal(observation[..., -3:], after.x.pos[..., 0, :])
    np.testing.assert_allclose(first[-1], after.x.pos[0, 0, 0, 2], atol=0.1)  # the height


def test_an_unknown_reward_is_refused():
    with pytest.raises(ValueError, match="reward = 'rllab'"):
        FAMILIES["ant_direction"](reward="rllab")


@pytest.mark.parametrize("name", ["walker_direction", "humanoid_direction"])
@pytest.mark.slow
def test_a_body_at_rest_falls_and_the_episode_ends(name):
    family = FAMILIES[name](horizon=200, backend="mujoco")
    *_, ended = play(family, jnp.float32(1), jnp.zeros((200, LANES, family.action.size)))
    assert not ended[0].any()
    assert ended[-1].all()


def test_a_goal_is_on_the_disc_and_a_direction_on_the_circle():
    family = FAMILIES["ant_goal"](radius=2.0)
    goals = jax.vmap(family.sample)(jax.random.split(KEY, 4000))
    distance = np.linalg.norm(goals, axis=1)
    assert 1.95 < distance.max() <= 2.0
    assert np.mean(distance < 1.0) == pytest.approx(0.25, abs=0.03)  # uniform in area
    directions = jax.vmap(direction_in_the_plane)(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.mean(directions, axis=0), 0.0, atol=0.05)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("ant_velocity", 0, 3),
        ("walker_velocity", 0, 10),
        ("hopper_velocity", 0, 2),
        ("swimmer_velocity", 0.1, 0.2),
        ("half_cheetah_velocity", 0, 2),
    ],
)
def test_target_velocities_have_the_published_range(name, low, high):
    targets = jax.vmap(FAMILIES[name](backend="mujoco").sample)(jax.random.split(KEY, 2000))
    assert low <= targets.min() < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < targets.max() <= high


def test_what_is_not_a_number_is_outside():
    assert outside(jnp.array([0.2, 0.5, 1.0, jnp.nan]), 0.2, 1.0).tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ("limits", "remedy"),
    [
        ((2.0, 1.0), "max_velocity = 1.0: must be at least min_velocity = 2"),
        ((float("nan"), 1.0), "min_velocity = nan: must be a finite number"),
        ((0.0, float("inf")), "max_velocity = inf: must be a finite number"),
    ],
)
def test_impossible_velocities_are_refused(limits, remedy):
    with pytest.raises(ValueError, match=remedy):
        target_velocity(*limits)
