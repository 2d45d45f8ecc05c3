"""Brax's environments stepped by MuJoCo's own C engine, from inside jitted code: physics at native speed on CPUs.

``load_env(name, "mujoco")`` is Brax's environment for ``mjx``, with the same model, rewards and observations; only
what steps it differs. All lanes of a vmapped step go to the host in one callback and through MuJoCo's threads
together. Two things are more exact than in Brax's ``mjx``: the solver runs to convergence, not for one iteration, and
the positions of links belong to the same instant as those of joints, not to the physics step before.
"""

import copy
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import brax.base
import brax.kinematics
import jax
import mujoco
import mujoco.rollout
import numpy as np
from brax.envs.base import PipelineEnv
from brax.envs.swimmer import Swimmer

from metarl_jax.tasks.brax_adapter import mujoco_silenced
from metarl_jax.types import Array

_STACK_BYTES = 64 * 2**20  # MuJoCo overflows the stack of XLA's own callback threads
_SOLVER_ITERATIONS, _LINE_SEARCH_ITERATIONS = 100, 50  # MuJoCo's defaults: Newton's method stops when it has converged


def native(env_class: type[PipelineEnv]) -> type[PipelineEnv]:
    """A class of Brax environments whose physics is MuJoCo's C engine.

    Args:
      env_class: one of Brax's.

    Returns:
      Its subclass, to be constructed with the same arguments but ``backend``.

    Example:
      >>> from brax.envs.half_cheetah import Halfcheetah
      >>> native(Halfcheetah).__name__
      'NativeHalfcheetah'
    """
    return type(f"Native{env_class.__name__}", (_Native, env_class), {})


class _Native(PipelineEnv):
    """What differs from the class it is mixed into: ``pipeline_init`` and ``pipeline_step``."""

    def __init__(self, **kwargs: Any) -> None:
        made_for = "generalized" if isinstance(self, Swimmer) else "mjx"  # the swimmer refuses all others
        super().__init__(**{**kwargs, "backend": made_for})
        self._engine = Engine(host_model(self.sys), self._n_frames)

    def pipeline_init(self, q: Array, qd: Array, act: Any = None, ctrl: Any = None) -> brax.base.State:
        return _state(self.sys, q, qd)

    def pipeline_step(self, pipeline_state: brax.base.State, action: Array) -> brax.base.State:
        return _state(self.sys, *self._engine.step(pipeline_state.q, pipeline_state.qd, action))


def host_model(system: Any) -> mujoco.MjModel:
    """MuJoCo's model of a Brax system, with the options that Brax set on the system.

    Args:
      system: of an environment made for ``mjx``.

    Returns:
      A copy of its model.
    """
    model = copy.deepcopy(system.mj_model)
    model.opt.timestep = float(system.opt.timestep)
    model.opt.solver = int(system.opt.solver)
    model.opt.disableflags = int(system.opt.disableflags)
    model.opt.iterations, model.opt.ls_iterations = _SOLVER_ITERATIONS, _LINE_SEARCH_ITERATIONS
    if mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS) != 1 + model.nq + model.nv:
        raise ValueError("a model with activations or plugins: its state is more than positions and velocities")
    return model


class Engine:
    """Steps a batch of states of one model by ``num_substeps``, under the same controls.

    Args:
      model: the model; it is not changed.
      num_substeps: physics steps for each call.

    Example:
      >>> import jax.numpy as jnp
      >>> model = mujoco.MjModel.from_xml_string('''<mujoco><worldbody><body pos="0 0 1"><freejoint/>
      ...   <geom size="0.1"/></body></worldbody></mujoco>''')
      >>> engine = Engine(model, num_substeps=1)
      >>> q, qd = engine.step(jnp.array(model.qpos0, float), jnp.zeros(6), jnp.zeros(0))
      >>> round(float(qd[2]) / model.opt.timestep, 2)  # falls
      -9.81
    """

    def __init__(self, model: mujoco.MjModel, num_substeps: int) -> None:
        self._model, self._num_substeps = model, num_substeps
        threads = _num_threads()
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._rollout = mujoco.rollout.Rollout(nthread=threads)

    def step(self, q: Array, qd: Array, control: Array) -> tuple[Array, Array]:
        """Positions ``[..., nq]`` and velocities ``[..., nv]`` after all substeps; traced, and any lanes at once."""
        shapes = jax.ShapeDtypeStruct(q.shape, q.dtype), jax.ShapeDtypeStruct(qd.shape, qd.dtype)
        return jax.pure_callback(self._call, shapes, q, qd, control, vmap_method="broadcast_all")

    def _call(self, q: Array, qd: Array, control: Array) -> tuple[np.ndarray, np.ndarray]:
        return _on_large_stack(self._advance, np.asarray(q), np.asarray(qd), np.asarray(control))

    def _advance(self, q: np.ndarray, qd: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nq, nv, nu = self._model.nq, self._model.nv, self._model.nu
        q_lanes, qd_lanes = q.reshape(-1, nq), qd.reshape(-1, nv)
        before = np.concatenate([np.zeros((len(q_lanes), 1)), q_lanes, qd_lanes], axis=1, dtype=np.float64)
        held = control.reshape(len(q_lanes), 1, nu).astype(np.float64)
        controls = np.repeat(held, self._num_substeps, axis=1)
        with mujoco_silenced():
            states, _ = self._rollout.rollout(self._model, self._data, before, controls)
        after = states[:, -1, 1:]
        return after[:, :nq].reshape(q.shape).astype(q.dtype), after[:, nq:].reshape(qd.shape).astype(qd.dtype)


def _state(system: Any, q: Array, qd: Array) -> brax.base.State:
    """Brax's state; positions and velocities of links by forward kinematics."""
    x, xd = brax.kinematics.forward(system, q, qd)
    return brax.base.State(q=q, qd=qd, x=x, xd=xd, contact=None)


def _num_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_large_stack(function: Callable[..., Any], *arguments: Any) -> Any:
    return _executor().submit(function, *arguments).result()


@functools.cache
def _executor() -> ThreadPoolExecutor:
    """One thread with a large stack; MuJoCo's own threads do the work."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="mujoco")
    before = threading.stack_size(_STACK_BYTES)
    executor.submit(int).result()  # the thread is made now
    threading.stack_size(before)
    return executor
