"""MuJoCo's C engine inside jitted code: the same numbers as MuJoCo stepped by hand, and close to mjx."""

import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from brax.envs.inverted_pendulum import InvertedPendulum

from metarl_jax.tasks.adapters.brax import load_env
from metarl_jax.tasks.adapters.mujoco import Engine, host_model, native
from metarl_jax.tasks.adapters.noise import quiet
from metarl_jax.tasks.adapters.physics import unchanged, with_physics

BODIES = ("halfcheetah", "ant", "walker2d", "hopper", "humanoid")


@pytest.fixture(scope="module", params=BODIES)
def env(request):
    return load_env(request.param, "mujoco")


def some_state(env, seed=0, lanes=3):
    """``[lanes, n]`` positions near the initial ones (quaternions not normalised), velocities and controls."""
    rng = np.random.default_rng(seed)
    q = np.asarray(env.sys.init_q) + 0.1 * rng.normal(size=(lanes, env.sys.q_size()))
    if env.sys.link_types.startswith("f"):
        q[:, 3:7] /= np.linalg.norm(q[:, 3:7], axis=1, keepdims=True)
    arrays = q, rng.normal(size=(lanes, env.sys.qd_size())), rng.uniform(-1, 1, size=(lanes, env.action_size))
    return tuple(jnp.array(a, jnp.float32) for a in arrays)


def step(env, q, qd, action):
    return jax.vmap(lambda q, qd, action: env.pipeline_step(env.pipeline_init(q, qd), action))(q, qd, action)


def test_a_step_is_that_of_mujoco_by_hand(env):
    """Positions and velocities after the frame skip, and every link's pose and velocity in the world's frame."""
    q, qd, action = some_state(env)
    after = jax.jit(lambda *state: step(env, *state))(q, qd, action)
    model = host_model(env.sys)
    for lane in range(3):
        data = mujoco.MjData(model)
        data.qpos, data.qvel, data.ctrl = q[lane], qd[lane], action[lane]
        mujoco.mj_step(model, data, nstep=env._n_frames)
        np.testing.assert_allclose(after.q[lane], data.qpos, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(after.qd[lane], data.qvel, rtol=1e-4, atol=1e-4)
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(after.x.pos[lane], data.xpos[1:], atol=1e-4)
        np.testing.assert_allclose(abs((after.x.rot[lane] * data.xquat[1:]).sum(-1)), 1.0, atol=1e-5)
        root = np.zeros(6)
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, 1, root, 0)
        np.testing.assert_allclose(after.xd.ang[lane, 0], root[:3], atol=1e-3)
        np.testing.assert_allclose(after.xd.vel[lane, 0], root[3:], atol=1e-3)


def test_nested_lanes_are_independent_whatever_one_of_them_does(tmp_path, monkeypatch, capfd):
    """A batch of batches gives each lane what it gets alone, bit for bit; a lane of NaNs disturbs nobody, silently."""
    monkeypatch.chdir(tmp_path)  # where MuJoCo would leave its log
    env = load_env("hopper", "mujoco")
    q, qd, action = some_state(env, lanes=6)
    alone = [env._engine.step(q[i], qd[i], action[i]) for i in range(6)]
    nested = [a.reshape(2, 3, -1) for a in (q, qd, action)]
    for poison in (0.0, jnp.nan, jnp.inf):
        nested[2] = nested[2].at[1, 1].add(poison)
        together = jax.jit(jax.vmap(jax.vmap(env._engine.step)))(*nested)
        for i in range(6):
            if i == 4 and poison != 0.0:
                continue
            for one, batch in zip(alone[i], together, strict=True):
                np.testing.assert_array_equal(one, batch[i // 3, i % 3])
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "of_place", "of_velocity"), [("halfcheetah", 1e-3, 0.05), ("swimmer", 1e-5, 1e-4)])
def test_agrees_with_mjx_once_its_solver_has_converged(name, of_place, of_velocity):
    """Ten steps, 40 or 50 of physics: half-cheetah within a millimetre and a milliradian, and 0.05 of each per second.

    As Brax sets it, mjx stops its solver after one iteration. The links' positions of mjx lag a physics step behind its
    joints, so only the joints are compared.
    """
    native, mjx = load_env(name, "mujoco"), load_env(name, "mjx")
    assert float(native.dt) == float(mjx.dt)
    mjx.sys = mjx.sys.tree_replace({"opt.iterations": 50, "opt.ls_iterations": 50})
    actions = jax.random.uniform(jax.random.key(1), (10, native.action_size), minval=-1, maxval=1)

    def path(env):
        def step(state, action):
            state = env.step(state, action)
            return state, (state.pipeline_state.q, state.pipeline_state.qd)

        return jax.lax.scan(step, env.reset(jax.random.key(0)), actions)[1]

    with quiet():  # mjx reads its own deprecated fields
        ours, theirs = jax.jit(lambda: path(native))(), jax.jit(lambda: path(mjx))()
    np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=of_place)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=of_velocity)


class Changed(InvertedPendulum):
    """On the moon, ten times as heavy, with a tenth of the strength, and more."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        system = self.sys
        self.sys = system.replace(
            body_mass=10.0 * system.body_mass,
            body_inertia=2.0 * system.body_inertia,
            dof_damping=system.dof_damping + 0.3,
            dof_armature=system.dof_armature + 0.2,
            jnt_stiffness=system.jnt_stiffness + 0.5,
            jnt_range=0.5 * system.jnt_range,
            geom_size=0.9 * system.geom_size,
            actuator_gear=0.1 * system.actuator_gear,
            actuator_ctrlrange=0.5 * system.actuator_ctrlrange,
        ).tree_replace({"opt.gravity": jnp.array([0.0, 0.0, -1.62]), "opt.timestep": 0.01 * jnp.ones(())})


def made_for(backend):
    with quiet():
        return native(Changed)() if backend == "mujoco" else Changed(backend=backend)


def test_physics_changed_by_an_environments_constructor_are_those_of_mjx():
    def last_place(env):
        def step(state, control):
            return env.pipeline_step(state, control), None

        return jax.lax.scan(step, env.pipeline_init(env.sys.init_q, jnp.zeros(2)), jnp.full((15, 1), 3.0))[0].q

    changed, mjx = made_for("mujoco"), made_for("mjx")
    with quiet():
        ours, theirs = jax.jit(lambda: last_place(changed))(), jax.jit(lambda: last_place(mjx))()
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert abs(ours - changed.sys.init_q).max() > 0.01


def test_every_number_of_a_changed_system_is_in_mujocos_model_and_no_other():
    env = made_for("mujoco")
    model, old = host_model(env.sys), env.sys.mj_model
    for name in ("body_mass", "dof_armature", "jnt_range", "geom_size", "actuator_ctrlrange"):
        np.testing.assert_allclose(getattr(model, name), getattr(env.sys, name), rtol=1e-6)
        assert (getattr(model, name) != getattr(old, name)).any()
    np.testing.assert_array_equal(model.geom_friction, old.geom_friction)
    assert model.opt.timestep == pytest.approx(0.01)


def test_a_tasks_own_physics_starts_from_what_the_constructor_made():
    env = made_for("mujoco")
    heavier = copy.copy(env)
    heavier.sys = with_physics(env.sys, unchanged(env)._replace(mass=jnp.full(2, 2.0)))
    q, qd, control = jnp.array([0.1, 0.2]), jnp.array([0.3, -0.4]), jnp.array([1.0])
    after = jax.jit(lambda: heavier.pipeline_step(heavier.pipeline_init(q, qd), control))()
    model = host_model(env.sys)
    model.body_mass[:] *= 2.0
    data = mujoco.MjData(model)
    data.qpos, data.qvel, data.ctrl = q, qd, control
    mujoco.mj_step(model, data, nstep=env._n_frames)
    np.testing.assert_allclose(after.q, data.qpos, rtol=1e-5)


def test_what_mujocos_engine_cannot_take_over_is_refused():
    class Another(InvertedPendulum):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.sys = self.sys.replace(nsensor=7)

    class Own(InvertedPendulum):
        def pipeline_step(self, pipeline_state, action):
            return pipeline_state

    with quiet(), pytest.raises(ValueError, match=r"sys\.nsensor = 7: the environment changed it from 0.*'mjx'"):
        native(Another)()
    with pytest.raises(ValueError, match="has a pipeline_step of its own"):
        native(Own)


def test_numbers_that_a_task_leaves_as_they_are_stay_so_to_the_last_bit():
    """Brax's are of single precision, MuJoCo's of double: a model whose physics are given, unchanged, is the same."""
    engine = load_env("ant", "mujoco")._engine
    fields = {name: getattr(engine._model, name) for name in ("body_mass", "geom_friction")}
    given = {name: field.astype(np.float32) for name, field in fields.items()}
    assert any((given[name] != field).any() for name, field in fields.items())
    (model,) = engine._models(given, num_lanes=1)
    for name, field in fields.items():
        np.testing.assert_array_equal(getattr(model, name), field)


def test_physics_that_diverge_show() -> None:
    """MuJoCo alone would put the body back where it began, and what earned the jump would be learned from."""
    env = load_env("hopper", "mujoco")
    state = env.reset(jax.random.key(0)).pipeline_state
    q, qd = jax.jit(env._engine.step)(state.q, jnp.full_like(state.qd, 1e30), jnp.zeros(env.action_size))
    assert not (jnp.isfinite(q).all() and jnp.isfinite(qd).all())


def test_an_engine_is_known_by_what_it_computes() -> None:
    """Its fingerprint is in the programs that the compilation cache keeps: the same in each process, for this alone."""
    model = load_env("hopper", "mujoco")._engine._model
    again = Engine(copy.deepcopy(model), num_substeps=4)
    other = copy.deepcopy(model)
    other.body_mass[1] *= 1.001
    engines = (Engine(model, num_substeps=4), Engine(model, num_substeps=5), Engine(other, num_substeps=4))
    assert len({engine._fingerprint for engine in engines}) == 3
    assert again._fingerprint == engines[0]._fingerprint
