"""One physics per task: what a multiplier changes and what it does not, on the host's engine and on Brax's."""

import chex
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metarl_jax.tasks.adapters.brax import load_env
from metarl_jax.tasks.adapters.mujoco import host_model
from metarl_jax.tasks.adapters.physics import unchanged, with_physics
from metarl_jax.tasks.locomotion.new_physics import crippled_joint, random_dynamics, sloped_ground

KEY = jax.random.key(0)
LANES = 64


@pytest.fixture(scope="module", params=["mujoco", "generalized"])
def hoppers(request):
    """The as-built physics of a hopper, and ``(physics [64]) -> q [64, T, nq]``: one compiled program."""
    family = random_dynamics(body="hopper", backend=request.param)
    actions = jax.random.uniform(KEY, (5, 3), minval=-1, maxval=1)
    chex.clear_trace_counter()

    def path(physics):
        def step(state, action):
            state, *_ = family.step(physics, state, action, KEY)
            return state, state.physics.q

        return jax.lax.scan(step, family.reset(physics, KEY)[0], actions)[1]

    paths = jax.jit(jax.vmap(chex.assert_max_traces(path, n=1)))
    return unchanged(load_env("hopper", request.param)), paths


def several(physics):
    return jax.tree.map(lambda x: jnp.tile(x, (LANES,) + (1,) * x.ndim), physics)


@pytest.mark.parametrize("field", ["mass", "inertia", "friction", "damping", "gear", "gravity"])
@pytest.mark.slow
def test_twice_as_much_changes_the_path_of_its_lane_alone(hoppers, field):
    """64 bodies at once, of which one differs; all through one compilation (the trace counter allows one)."""
    normal, paths = hoppers
    if field == "damping" and not np.any(normal.damping):
        return
    all_normal = several(normal)
    changed = all_normal._replace(**{field: getattr(all_normal, field).at[7].multiply(2.0)})
    before, after = np.asarray(paths(all_normal)), np.asarray(paths(changed))
    others = np.arange(LANES) != 7
    np.testing.assert_array_equal(after[others], before[others])
    if field != "friction":  # may not matter: a hopper in the air touches nothing
        assert np.abs(after[7] - before[7]).max() > 1e-6
    assert (before == before[0]).all()


@pytest.mark.slow
def test_once_as_much_is_the_body_as_built_bit_for_bit():
    """Multipliers of one give the very path of the family whose physics nobody touched."""
    env = load_env("walker2d", "mujoco")
    q, qd = env.sys.init_q[None] + 0.01, jnp.ones((1, env.sys.qd_size()))
    action = jnp.full((1, env.action_size), 0.3)

    def step(q, qd, action, system):
        env.sys, kept = system, env.sys
        state = env.pipeline_step(env.pipeline_init(q, qd), action)
        env.sys = kept
        return state.q, state.qd

    as_built = jax.vmap(lambda *s: step(*s, env.sys))(q, qd, action)
    times_one = jax.vmap(lambda *s: step(*s, with_physics(env.sys, unchanged(env))))(q, qd, action)
    jax.tree.map(np.testing.assert_array_equal, times_one, as_built)


def test_a_heavier_lane_is_mujoco_with_heavier_bodies():
    """Against a model changed by hand and stepped by MuJoCo in Python."""
    env = load_env("walker2d", "mujoco")
    factors = jnp.linspace(0.5, 2.0, len(env.sys.link.inertia.mass))
    physics = unchanged(env)._replace(mass=factors, gear=unchanged(env).gear * 0.5)
    env.sys = with_physics(env.sys, physics)
    q, qd = env.sys.init_q + 0.01, jnp.ones(env.sys.qd_size())
    action = jnp.full(env.action_size, 0.3)
    after = env.pipeline_step(env.pipeline_init(q, qd), action)
    model = host_model(load_env("walker2d", "mujoco").sys)
    model.body_mass[1:] *= np.asarray(factors)
    model.actuator_gear[:] *= 0.5
    data = mujoco.MjData(model)
    data.qpos, data.qvel, data.ctrl = q, qd, action
    mujoco.mj_step(model, data, nstep=4)
    np.testing.assert_allclose(after.q, data.qpos, atol=1e-5)
    np.testing.assert_allclose(after.qd, data.qvel, atol=1e-3)


def test_random_factors_have_the_published_ranges():
    tasks = jax.vmap(random_dynamics(body="hopper").sample)(jax.random.split(KEY, 2000))
    for name, base in (("mass", 1.5), ("inertia", 1.5), ("friction", 1.5), ("damping", 1.3)):
        exponents = np.log(np.asarray(getattr(tasks, name))) / np.log(base)
        assert exponents.min() == pytest.approx(-3, abs=0.02)
        assert exponents.max() == pytest.approx(3, abs=0.02)
        assert exponents.mean() == pytest.approx(0, abs=0.15)
        flat = exponents.reshape(2000, -1)
        assert np.abs(np.corrcoef(flat.T) - np.eye(flat.shape[1])).max() < 0.12  # each has its own
    assert (tasks.gear == 1).all()


def test_crippled_joints_of_training_and_testing_are_disjoint():
    family = crippled_joint(body="ant", num_held_out=3)
    keys = jax.random.split(KEY, 300)
    assert set(np.asarray(jax.vmap(family.sample)(keys)).tolist()) == {0, 1, 2, 3, 4}
    assert set(np.asarray(jax.vmap(family.sample_held_out)(keys)).tolist()) == {5, 6, 7}


def test_a_crippled_joint_ignores_its_action():
    family = crippled_joint(body="half_cheetah")
    dead = jnp.int32(2)
    state, _ = family.reset(dead, KEY)
    one, other = (family.step(dead, state, jnp.zeros(6).at[2].set(a), KEY) for a in (-1.0, 1.0))
    np.testing.assert_array_equal(one[1], other[1])
    moved = family.step(dead, state, jnp.zeros(6).at[3].set(1.0), KEY)
    assert np.abs(moved[1] - one[1]).max() > 1e-3


def test_a_slope_pulls_backwards_and_a_gravity_of_one_on_flat_ground_is_the_ordinary_one():
    family = sloped_ground(body="half_cheetah", max_slope=0.3)
    rest = jnp.zeros(6)

    def drift(task):
        state, _ = family.reset(task, KEY)
        return jax.lax.scan(lambda s, _: (family.step(task, s, rest, KEY)[0], None), state, length=20)[0].physics.q[0]

    uphill, flat, downhill = jax.jit(jax.vmap(drift))(jnp.array([[0.3, 1.0], [0.0, 1.0], [-0.3, 1.0]]))
    assert uphill < flat - 0.01
    assert downhill > flat + 0.01


@pytest.mark.parametrize(
    ("factory", "arguments", "message"),
    [
        (crippled_joint, {"num_held_out": 8}, r"num_held_out = 8: must be between 1 and 7"),
        (sloped_ground, {"max_slope": 1.6}, r"max_slope = 1.6: .*less than 1.5"),
        (sloped_ground, {"max_gravity_change": 1.0}, r"max_gravity_change = 1.0: .*less than 1"),
        (random_dynamics, {"log_scale": 0.0}, r"log_scale = 0.0: must be greater than 0"),
    ],
)
def test_impossible_settings_are_refused(factory, arguments, message):
    with pytest.raises(ValueError, match=message):
        factory(**arguments)
