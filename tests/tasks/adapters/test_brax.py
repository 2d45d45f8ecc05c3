"""The adapter, on the lightest Brax environment: it compiles in a few seconds."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.inverted_pendulum import InvertedPendulum

from metarl_jax.tasks.adapters.brax import brax_family, load_env, scale_action
from metarl_jax.tasks.adapters.mujoco import native
from metarl_jax.tasks.adapters.noise import quiet
from metarl_jax.types import TaskFamily

ROOT = Path(__file__).resolve().parents[3]
LIMIT = 0.5  # metres that the cart may leave the origin


def pendulum_family(env=None, **kwargs) -> TaskFamily:
    """Keep the cart at ``task`` metres; the reward also shows the action that the environment saw."""
    defaults = {
        "sample": jax.random.uniform,
        "reward": lambda task, previous, action, next: -jnp.abs(next.q[0] - task) - 100.0 * action[0],
        "terminated": lambda task, next: jnp.abs(next.q[0]) > LIMIT,
        "horizon": 5,
        "action_scale": 2.0,
    }
    return brax_family(env or load_env("inverted_pendulum", "generalized"), **(defaults | kwargs))


@pytest.fixture(scope="module")
def family() -> TaskFamily:
    return pendulum_family()


@pytest.fixture(scope="module")
def step(family):
    return jax.jit(jax.vmap(family.step))


@pytest.fixture(scope="module")
def reset(family):
    return jax.jit(jax.vmap(family.reset))


def keys(n: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), n)


def test_shapes_and_specs(family):
    assert family.observation_shape == (4,)
    assert family.action.size == 1
    assert not family.action.discrete
    assert family.horizon == 5


def test_held_out_tasks_come_from_sample_unless_given(family):
    assert family.sample_held_out is family.sample
    assert pendulum_family(sample_held_out=jax.random.normal).sample_held_out is jax.random.normal


@pytest.mark.parametrize(
    ("output", "applied"),
    [(0.0, 0.0), (1.0, 0.5), (2.0, 1.0), (7.0, 1.0), (-7.0, -1.0), (jnp.inf, 1.0), (-jnp.inf, -1.0)],
)
def test_actions_are_scaled_then_clipped(output, applied):
    assert scale_action(jnp.float32(output), 2.0) == applied


@pytest.mark.slow
def test_step_carries_the_state_on_and_gives_the_task_reward(reset, step):
    task = jnp.array([0.0, 0.3, 0.3])
    state, _ = reset(task, keys(3))
    next_state, observation, reward, terminated = step(task, state, jnp.array([[0.0], [1.0], [50.0]]), keys(3))
    position = next_state.physics.q[:, 0]
    np.testing.assert_array_equal(observation[:, 0], position)
    np.testing.assert_allclose(reward, -np.abs(position - task) - 100.0 * np.array([0.0, 0.5, 1.0]), rtol=1e-6)
    assert terminated.dtype == bool
    again, *_ = step(task, next_state, jnp.zeros((3, 1)), keys(3))
    assert (again.physics.q != next_state.physics.q).any()


def test_termination_is_that_of_the_family(reset, step):
    task = jnp.zeros(3)
    state, _ = reset(task, keys(3))
    far = state._replace(physics=state.physics.replace(q=state.physics.q.at[1, 0].set(2 * LIMIT)))
    _, _, _, terminated = step(task, far, jnp.zeros((3, 1)), keys(3))
    assert terminated.tolist() == [False, True, False]


def test_reset_draws_fresh_states_from_the_key(reset):
    _, first = reset(jnp.zeros(3), keys(3))
    _, same = reset(jnp.zeros(3), keys(3))
    assert (first[0] != first[1]).any()
    np.testing.assert_array_equal(first, same)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_a_bad_action_stays_in_its_lane(reset, step, bad):
    task = jnp.zeros(3)
    state, _ = reset(task, keys(3))
    clean = step(task, state, jnp.zeros((3, 1)), keys(3))
    spoilt = step(task, state, jnp.zeros((3, 1)).at[1].set(bad), keys(3))
    for left, right in zip(jax.tree.leaves(clean), jax.tree.leaves(spoilt), strict=True):
        np.testing.assert_array_equal(left[jnp.array([0, 2])], right[jnp.array([0, 2])])
    assert jnp.isnan(spoilt[2][1]) == jnp.isnan(bad)  # infinity is clipped; a NaN shows in its own reward


def test_the_carry_is_stable_and_lean(family):
    task, key = jnp.float32(0), jax.random.key(0)
    state, observation = jax.eval_shape(family.reset, task, key)
    after, next_observation, reward, _ = jax.eval_shape(family.step, task, state, jnp.zeros(1), key)
    assert jax.tree.structure(state) == jax.tree.structure(after)
    for left, right in zip(
        jax.tree.leaves((state, observation)), jax.tree.leaves((after, next_observation)), strict=True
    ):
        assert (left.shape, left.dtype, left.weak_type) == (right.shape, right.dtype, right.weak_type)
        assert not left.weak_type
    assert reward.shape == ()
    assert set(state.info) == {"time_out"}  # what this environment keeps for itself; no metrics, reward, observation


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: load_env("halfcheeta"), "'halfcheeta'.*halfcheetah"),
        (lambda: load_env("ant", "bullet"), "'bullet'.*spring"),
        (lambda: pendulum_family(horizon=0), "horizon = 0: must be greater than 0"),
        (lambda: pendulum_family(horizon=2.5), "horizon = 2.5: must be a whole number"),
        (lambda: pendulum_family(action_scale=0.0), "action_scale = 0.0.*greater than 0"),
    ],
)
def test_errors_name_value_and_remedy(call, named):
    with pytest.raises(ValueError, match=named):
        call()


class Historian(InvertedPendulum):
    """Keeps the last places of the cart in its observation, and counts in all else that Brax's state has room for."""

    def reset(self, rng):
        state = super().reset(rng)
        observation = {"state": jnp.full(3, state.pipeline_state.q[0]), "unused": jnp.zeros(2), "angle": state.obs[1:2]}
        return state.replace(obs=observation, metrics={"steps": 0, "idle": 0.0}, reward=jnp.ones(()))

    def step(self, state, action):
        after = self.pipeline_step(state.pipeline_state, action)
        steps, reward, done = state.metrics["steps"] + 1, 2.0 * state.reward, 1.0 - state.done
        places = jnp.roll(state.obs["state"], 1).at[0].set(jnp.where(after.q[0] > LIMIT, jnp.nan, after.q[0]))
        shown = {"state": places, "unused": jnp.stack([reward, done]), "angle": after.q[1:] * steps}
        metrics = {"steps": steps, "idle": 0.0}
        return state.replace(pipeline_state=after, obs=shown, metrics=metrics, reward=reward, done=done)


@pytest.fixture(scope="module")
def historian():
    with quiet():
        return native(Historian)()


def test_an_environment_reads_what_it_has_written(historian):
    """Three steps are those of Brax itself, whichever part of its state is read; what no step reads is not carried.

    The environment takes controls within +-3 as they are, so half of the policy's range is 1.5.
    """
    family = pendulum_family(historian, observation=("state", "unused"), critic_observation="angle")
    assert (family.observation_shape, family.privileged_size) == ((6,), 1)
    step, own_step, key = jax.jit(family.step), jax.jit(historian.step), jax.random.key(0)
    with quiet():
        own, (state, _) = jax.jit(historian.reset)(key), jax.jit(family.reset)(0.0, key)
    assert set(state.read) == {"obs/state", "metrics/steps", "reward", "done"}
    for _ in range(3):
        with quiet():
            own = own_step(own, jnp.array([1.5]))
        state, seen, reward, _ = step(0.0, state, jnp.array([1.0]), key)
        np.testing.assert_array_equal(seen, np.concatenate([own.obs[name] for name in ("state", "unused", "angle")]))
        np.testing.assert_allclose(reward, -abs(own.pipeline_state.q[0]) - 150.0, rtol=1e-6)


@pytest.mark.parametrize("ends", [True, False])
def test_a_last_observation_that_is_nan_leaves_a_finite_state(historian, ends):
    """It is shown. Where the episode goes on, it is carried, and tells of a failure."""
    family = pendulum_family(historian, terminated=lambda task, next: ends & (next.q[0] > LIMIT))
    state, _ = jax.jit(family.reset)(0.0, jax.random.key(0))
    far = state._replace(physics=state.physics.replace(q=jnp.array([2 * LIMIT, 0.0])))
    after, seen, _, ended = jax.jit(family.step)(0.0, far, jnp.zeros(1), jax.random.key(1))
    assert bool(ended) == ends
    assert np.isnan(seen[0])
    assert bool(np.isfinite(after.read["obs/state"]).all()) == ends


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"observation": "pixels"}, "observation = 'pixels': choose of angle, state, un"),
        (
            {"critic_observation": ("angle", "angel")},
            "critic_observation = .*'angel'.*: choose of angle, state, unused",
        ),
    ],
)
def test_a_missing_observation_is_refused_with_those_there_are(historian, settings, named):
    with pytest.raises(ValueError, match=named):
        pendulum_family(historian, **settings)


def test_a_choice_where_there_is_one_observation_is_refused():
    with pytest.raises(ValueError, match="critic_observation = 'x': this environment observes a single array"):
        pendulum_family(critic_observation="x")


@pytest.mark.parametrize(
    ("name", "backend", "why"),
    [
        ("fast", "mujoco", "no model for MuJoCo"),
        *[("swimmer", backend, "") for backend in ("spring", "positional", "generalized")],
    ],
)
def test_what_an_engine_cannot_step_is_refused(name, backend, why):
    message = rf"'{name}': cannot be on backend '{backend}' \(.*{why}.*\): choose one of"
    with pytest.raises(ValueError, match=message) as refusal:
        load_env(name, backend)
    assert backend not in str(refusal.value).rpartition("choose one of")[2]


@pytest.mark.slow
def test_loading_and_tracing_are_silent_and_leave_no_file(tmp_path):
    code = (
        "import jax, sys, metarl_jax\n"
        "assert 'brax' not in sys.modules, 'importing metarl_jax imports brax'\n"
        "from metarl_jax.tasks.locomotion.half_cheetah import half_cheetah_direction\n"
        "family = half_cheetah_direction()\n"
        "key = jax.random.key(0)\n"
        "state, _ = jax.eval_shape(family.reset, 1.0, key)\n"
        "jax.eval_shape(family.step, 1.0, state, jax.numpy.zeros(6), key)\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    folder = tmp_path / "cwd"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(folder.iterdir())


class Looping(InvertedPendulum):
    """Steps its physics in a loop of its own, with actuators of another range than [-1, 1]."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.sys = self.sys.tree_replace({"actuator.ctrl_range": jnp.array([[-50.0, 50.0]])})

    def step(self, state, action):
        def once(physics, _):
            return self.pipeline_step(physics, action * 0.5), None

        physics, _ = jax.lax.scan(once, state.pipeline_state, None, length=2)
        return super().step(state.replace(pipeline_state=physics), action)


def test_physics_in_a_loop_inside_the_step_can_be_looked_past():
    """What the loop gives to the actuators cannot be told from outside it, and must not get out."""
    family = brax_family(
        Looping(backend="generalized"), sample=jax.random.uniform, reward=lambda t, p, a, n: a[0], horizon=3
    )
    state, _ = jax.eval_shape(family.reset, 0.5, jax.random.key(0))
    assert jax.eval_shape(family.step, 0.5, state, jnp.ones(1), jax.random.key(0))[2].shape == ()
