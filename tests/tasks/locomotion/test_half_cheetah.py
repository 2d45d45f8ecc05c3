"""Half-cheetah: everything that runs shares one compiled spring step."""

from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from metarl_jax.report.pictures.body import animate_body, body_capsules, capsule_ends
from metarl_jax.tasks.adapters.brax import Backend, BraxState, load_env, scale_action
from metarl_jax.tasks.locomotion import bodies
from metarl_jax.tasks.locomotion.half_cheetah import half_cheetah_direction, half_cheetah_velocity

BACKENDS = Backend.__args__
DT = 0.05
NUM_STEPS = 6
SCALE = 10.0


@pytest.fixture(scope="module")
def family():
    return half_cheetah_direction(action_scale=SCALE)


@pytest.fixture(scope="module")
def play(family):
    """``(direction, actions [N, T, 6], key) -> (first state, observation), (physics, observation, reward, end)``."""
    chex.clear_trace_counter()

    def episode(direction, actions, key):
        first = family.reset(direction, key)

        def step(state, action):
            state, *outcome = family.step(direction, state, action, key)
            return state, (state.physics, *outcome)

        return first, jax.lax.scan(step, first[0], actions)[1]

    def episodes(direction, actions, key):
        return jax.vmap(episode, in_axes=(None, 0, None))(direction, actions, key)

    return jax.jit(chex.assert_max_traces(episodes, n=1))


@pytest.fixture(scope="module")
def actions():
    """Four scripted episodes: random within the range, beyond it, the same plus 10 times the range, and at rest."""
    within = jax.random.uniform(jax.random.key(1), (NUM_STEPS, 6), minval=-SCALE, maxval=SCALE)
    beyond = jnp.where(within > 0, SCALE, -SCALE)
    return jnp.stack([within, beyond, 10 * beyond, jnp.zeros_like(within)])


KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def played(play, actions):
    return play(jnp.float32(1), actions, KEY)


def velocities(played) -> np.ndarray:
    """``[N, T]`` from the positions of the torso alone."""
    (first, _), (physics, *_) = played
    x = np.concatenate([np.asarray(first.physics.x.pos)[:, None, 0, 0], np.asarray(physics.x.pos)[:, :, 0, 0]], axis=1)
    return np.diff(x, axis=1) / DT


def control_cost(actions) -> np.ndarray:
    return 0.05 * (np.clip(np.asarray(actions) / SCALE, -1, 1) ** 2).sum(axis=-1)


def test_observation_is_17d_and_omits_the_x_position(family, played):
    (first, first_observation), (physics, observation, *_) = played
    assert family.observation_shape == (17,)
    assert observation.dtype == first_observation.dtype == jnp.float32
    np.testing.assert_array_equal(observation, np.concatenate([physics.q[..., 1:], physics.qd], axis=-1))
    np.testing.assert_array_equal(first_observation[0], np.concatenate([first.physics.q[0, 1:], first.physics.qd[0]]))
    assert np.isfinite(observation).all()


def test_direction_reward_equals_the_formula(played, actions):
    _, (_, _, reward, terminated) = played
    velocity = velocities(played)
    assert np.abs(velocity).max() > 0.1
    np.testing.assert_allclose(reward, velocity - control_cost(actions), rtol=1e-4, atol=1e-4)
    assert reward.dtype == jnp.float32
    assert not terminated.any()


def test_velocity_reward_equals_the_formula(played, actions, monkeypatch):
    """Its reward on the physics already played: a second environment would take as long again to compile."""
    monkeypatch.setattr(bodies, "brax_family", lambda env, *, reward, **_: SimpleNamespace(_replace=lambda **_: reward))
    reward_of = half_cheetah_velocity(action_scale=SCALE)
    (first, _), (physics, *_) = played
    previous = jax.tree.map(
        lambda start, path: jnp.concatenate([start[:, None], path[:, :-1]], 1), first.physics, physics
    )
    target = jnp.float32(0.3)
    reward = jax.vmap(jax.vmap(reward_of, (None, 0, 0, 0)), (None, 0, 0, 0))(
        target, previous, scale_action(actions, SCALE), physics
    )
    error = np.abs(velocities(played) - 0.3)
    assert (velocities(played) > 0.3).any()
    assert (velocities(played) < 0.3).any()
    np.testing.assert_allclose(reward, -error - control_cost(actions), rtol=1e-4, atol=1e-4)


def test_directions_differ_in_sign_but_for_the_control_cost_and_do_not_recompile(play, played, actions):
    forward = played[1][2]
    _, (physics, _, backward, _) = play(jnp.float32(-1), actions, KEY)
    np.testing.assert_array_equal(physics.q, played[1][0].q)  # a task changes the reward, not the physics
    np.testing.assert_allclose(forward + backward, -2 * control_cost(actions), atol=1e-5)


def test_actions_beyond_the_range_are_clipped(played):
    _, outputs = played
    for leaf in jax.tree.leaves(outputs):
        np.testing.assert_array_equal(leaf[1], leaf[2])
    np.testing.assert_allclose(control_cost(np.full(6, 99.0)), 0.3)


def test_resets_differ_by_key(play, played, actions):
    (_, observation), _ = play(jnp.float32(1), actions, jax.random.key(5))
    assert (observation[0] != played[0][1][0]).any()


def test_a_nan_action_stays_in_its_lane(play, played, actions):
    _, outputs = play(jnp.float32(1), actions.at[0, 2].set(jnp.nan), KEY)
    for spoilt, clean in zip(jax.tree.leaves(outputs), jax.tree.leaves(played[1]), strict=True):
        np.testing.assert_array_equal(spoilt[1:], clean[1:])
    assert np.isnan(outputs[2][0, 2:]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_traces(backend):
    family = half_cheetah_velocity(backend=backend)
    task, key = jnp.float32(1), jax.random.key(0)
    state, observation = jax.eval_shape(family.reset, task, key)
    after, next_observation, reward, terminated = jax.eval_shape(family.step, task, state, jnp.zeros(6), key)
    assert observation.shape == next_observation.shape == (17,)
    assert jax.tree.structure(state) == jax.tree.structure(after)
    assert (reward.shape, terminated.shape) == ((), ())
    assert reward.dtype == observation.dtype == jnp.float32
    assert float(load_env("halfcheetah", backend).dt) == pytest.approx(DT)


def test_tasks_have_the_stated_distribution():
    keys = jax.random.split(jax.random.key(2), 1000)
    direction = jax.vmap(half_cheetah_direction().sample)(keys)
    assert set(direction.tolist()) == {-1.0, 1.0}
    assert abs(float(direction.mean())) < 0.1
    velocity = jax.vmap(half_cheetah_velocity(min_velocity=1.0, max_velocity=3.0).sample_held_out)(keys)
    assert 1.0 <= float(velocity.min()) < 1.05
    assert 2.95 < float(velocity.max()) <= 3.0
    assert direction.dtype == velocity.dtype == jnp.float32


@pytest.mark.parametrize(
    ("factory", "arguments", "named"),
    [
        (half_cheetah_direction, {"backend": "bullet"}, "backend = 'bullet'.*spring"),
        (half_cheetah_direction, {"horizon": 0}, "horizon = 0: must be greater than 0"),
        (half_cheetah_direction, {"action_scale": -1.0}, "action_scale = -1.0.*greater than 0"),
        (half_cheetah_direction, {"control_cost": -0.1}, "control_cost = -0.1.*at least 0"),
        (half_cheetah_velocity, {"min_velocity": 3.0}, "max_velocity = 2.0.*at least min_velocity = 3"),
        (half_cheetah_velocity, {"max_velocity": float("inf")}, "max_velocity = inf.*finite"),
        (half_cheetah_velocity, {"min_velocity": float("nan")}, "min_velocity = nan.*finite"),
    ],
)
def test_errors_name_value_and_remedy(factory, arguments, named):
    with pytest.raises(ValueError, match=named):
        factory(**arguments)


def test_drawn_capsules_are_joined_and_above_the_ground(played):
    x = jax.tree.map(lambda leaf: np.asarray(leaf[3]), played[1][0].x)
    capsules = body_capsules(load_env("halfcheetah").sys.mj_model)
    ends = capsule_ends(capsules, x.pos, x.rot)
    assert ends.shape == (NUM_STEPS, 8, 2, 2)
    length = np.linalg.norm(capsules.ends[:, 0] - capsules.ends[:, 1], axis=-1)
    drawn = np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=-1)
    np.testing.assert_allclose(
        drawn, np.broadcast_to(length, drawn.shape), rtol=1e-3
    )  # planar: nothing is foreshortened
    assert ends[..., 1].min() > -0.1


def test_animation_is_a_small_gif_of_both_episodes(played, tmp_path):
    episodes = [BraxState(jax.tree.map(lambda leaf, lane=lane: leaf[lane], played[1][0]), {}, {}) for lane in (0, 3)]
    path = tmp_path / "cheetah.gif"
    animate_body(half_cheetah_direction().picture, *episodes, path, every=2)
    with Image.open(path) as picture:
        assert picture.n_frames == NUM_STEPS // 2
        assert picture.info["duration"] == 100  # ms: two steps of 0.05 s
    assert path.stat().st_size < 100_000


def test_animation_refuses_another_format(played, tmp_path):
    with pytest.raises(ValueError, match=r"path = .*\.gif"):
        animate_body(half_cheetah_direction().picture, played[1][0], played[1][0], tmp_path / "cheetah.mp4")
