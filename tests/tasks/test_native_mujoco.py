"""MuJoCo's C engine inside jitted code: the same numbers as MuJoCo stepped by hand, and close to mjx."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from metarl_jax.tasks.brax_adapter import load_env
from metarl_jax.tasks.native_mujoco import host_model
from metarl_jax.tasks.noise import quiet

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


def test_agrees_with_mjx_once_its_solver_has_converged():
    """Ten steps of half-cheetah, 50 of physics: within a millimetre and a milliradian, and 0.05 of each per second.

    As Brax sets it, mjx stops its solver after one iteration. The links' positions of mjx lag a physics step behind its
    joints, so only the joints are compared.
    """
    native, mjx = load_env("halfcheetah", "mujoco"), load_env("halfcheetah", "mjx")
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
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-3)
    np.testing.assert_allclose(ours[1], theirs[1], atol=0.05)
