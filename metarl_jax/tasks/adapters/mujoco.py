"""Brax's environments stepped by MuJoCo's own C engine, from inside jitted code: physics at native speed on CPUs.

``load_env(name, "mujoco")`` is Brax's environment for ``mjx``, with the same model, rewards and observations; only
what steps it differs. All lanes of a vmapped step go to the host in one callback and through MuJoCo's threads
together. Two things are more exact than in Brax's ``mjx``: the solver runs to convergence, not for one iteration, and
the positions of links belong to the same instant as those of joints, not to the physics step before.
"""

import copy
import dataclasses
import functools
import hashlib
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

from metarl_jax.cores import usable_cores
from metarl_jax.tasks.adapters.host import call_host
from metarl_jax.tasks.adapters.noise import mujoco_silenced
from metarl_jax.types import Array, require

_STACK_BYTES = 64 * 2**20  # MuJoCo overflows the stack of XLA's own callback threads
_SOLVER_ITERATIONS, _LINE_SEARCH_ITERATIONS = 100, 50  # MuJoCo's defaults: Newton's method stops when it has converged
_NUMBERS = (int, float, np.ndarray)
_OURS = {"iterations": _SOLVER_ITERATIONS, "ls_iterations": _LINE_SEARCH_ITERATIONS}
_MODELS_KEPT = 1024
_REMEDY = "MuJoCo's engine cannot step that, use backend 'mjx'"
Changes = dict[str, Array]
"""Fields of a MuJoCo model and its options, by name, in place of its own."""


def native(env_class: type[PipelineEnv]) -> type[PipelineEnv]:
    """A class of Brax environments whose physics is MuJoCo's C engine.

    Returns:
      Its subclass, to be constructed with the same arguments but ``backend``.

    Raises:
      ValueError: if the class itself says how physics are stepped, which this engine would pass over.

    Example:
      >>> from brax.envs.half_cheetah import Halfcheetah
      >>> native(Halfcheetah).__name__
      'NativeHalfcheetah'
    """
    for name in ("pipeline_init", "pipeline_step"):
        is_ours = getattr(env_class, name, None) is getattr(PipelineEnv, name)
        require(is_ours, "environment", env_class.__name__, f"has a {name} of its own: {_REMEDY}")
    return type(f"Native{env_class.__name__}", (_Native, env_class), {})


class _Native(PipelineEnv):
    """What differs from the class it is mixed into: ``pipeline_init`` and ``pipeline_step``."""

    on_host = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "backend": "mjx"})
        has_model = getattr(getattr(self, "sys", None), "mj_model", None) is not None
        require(has_model, "environment", type(self).__name__, f"has no model for MuJoCo: {_REMEDY}")
        self._engine = Engine(host_model(self.sys), self._n_frames)
        self._as_built = self.sys
        self._built_state = jax.jit(functools.partial(_state, self.sys))  # traced once for resets and steps

    def pipeline_init(self, q: Array, qd: Array, act: Any = None, ctrl: Any = None) -> brax.base.State:
        return self._state(q, qd)

    def pipeline_step(self, pipeline_state: brax.base.State, action: Array) -> brax.base.State:
        changes = _changes(self._as_built, self.sys)
        return self._state(*self._engine.step(pipeline_state.q, pipeline_state.qd, action, changes))

    def _state(self, q: Array, qd: Array) -> brax.base.State:
        return self._built_state(q, qd) if self.sys is self._as_built else _state(self.sys, q, qd)


def host_model(system: Any) -> mujoco.MjModel:
    """MuJoCo's model of a Brax system, with all that its environment changed when it was made.

    Args:
      system: of an environment made for ``mjx``.

    Returns:
      A copy of its model: every field that both have, masses, gears, options, is the system's.

    Raises:
      ValueError: if a field differs that MuJoCo cannot change, or the state is more than positions and velocities.

    Example:
      >>> from metarl_jax.tasks.adapters.brax import load_env
      >>> system = load_env("hopper", "mujoco").sys.tree_replace({"opt.gravity": np.array([0.0, 0.0, -1.62])})
      >>> host_model(system).opt.gravity[2].item()
      -1.62
    """
    model = copy.deepcopy(system.mj_model)
    for name, value in _fields(system).items():
        if not _same(value, _get(model, name)):
            _put(model, name, value)
    model.opt.timestep = float(system.opt.timestep)  # in single precision, as ``env.dt``
    for name, value in _OURS.items():
        setattr(model.opt, name, value)
    # A body whose physics diverge would be put back where it began, in the middle of an episode and without a word.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    remedy = f"with activations or plugins its state is more than positions and velocities: {_REMEDY}"
    require(size == 1 + model.nq + model.nv, "model", f"{size} numbers", remedy)
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
        self._fingerprint = _fingerprint(model, num_substeps)
        self._of_thread = threading.local()
        self._changed_model = functools.lru_cache(maxsize=_MODELS_KEPT)(self._make_changed_model)

    def step(self, q: Array, qd: Array, control: Array, changes: Changes | None = None) -> tuple[Array, Array]:
        """One call of the engine for any lanes at once; to be traced.

        Args:
          q: ``[..., nq]`` positions.
          qd: ``[..., nv]`` velocities.
          control: ``[..., nu]``.
          changes: fields of the model, ``[..., *shape]``, that are these lanes' own.

        Returns:
          Positions and velocities after all substeps.
        """
        names, values = zip(*sorted(changes.items()), strict=True) if changes else ((), ())
        call = functools.partial(_on_large_stack, self._advance, names)
        shapes = jax.ShapeDtypeStruct(q.shape, q.dtype), jax.ShapeDtypeStruct(qd.shape, qd.dtype)
        q, qd = call_host(":".join((self._fingerprint, *names)), call, shapes, q, qd, control, *values)
        return q, qd

    def _advance(
        self, names: tuple[str, ...], q: np.ndarray, qd: np.ndarray, control: np.ndarray, *values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        nq, nv, nu = self._model.nq, self._model.nv, self._model.nu
        q_lanes, qd_lanes = q.reshape(-1, nq), qd.reshape(-1, nv)
        before = np.concatenate([np.zeros((len(q_lanes), 1)), q_lanes, qd_lanes], axis=1, dtype=np.float64)
        held = control.reshape(len(q_lanes), 1, nu).astype(np.float64)
        controls = np.repeat(held, self._num_substeps, axis=1)
        changes = dict(zip(names, values, strict=True))
        with mujoco_silenced():
            rollout, data = self._simulator()
            states, _ = rollout.rollout(self._models(changes, len(before)), data, before, controls)
        after = states[:, -1, 1:]
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges becomes infinite
            return after[:, :nq].reshape(q.shape).astype(q.dtype), after[:, nq:].reshape(qd.shape).astype(qd.dtype)

    def _simulator(self) -> tuple[Any, list[mujoco.MjData]]:
        """What this thread steps with; the threads of all devices together are as many as there are cores."""
        if not hasattr(self._of_thread, "simulator"):
            threads = max(1, usable_cores() // _num_callers())
            data = [mujoco.MjData(self._model) for _ in range(threads)]
            self._of_thread.simulator = mujoco.rollout.Rollout(nthread=threads), data
        return self._of_thread.simulator

    def _models(self, changes: dict[str, np.ndarray], num_lanes: int) -> Any:
        """The model of each lane; lanes of one task lie side by side and share theirs."""
        if not changes:
            return self._model
        names = tuple(sorted(changes))
        rows = np.concatenate([changes[name].reshape(num_lanes, -1) for name in names], axis=1)
        starts = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(axis=1)))
        models = [self._changed_model(names, rows.dtype.char, rows[start].tobytes()) for start in starts]
        counts = np.diff(np.append(starts, num_lanes))
        return [model for model, count in zip(models, counts, strict=True) for _ in range(count)]

    def _make_changed_model(self, names: tuple[str, ...], dtype: str, row: bytes) -> mujoco.MjModel:
        model, values, start = copy.deepcopy(self._model), np.frombuffer(row, dtype), 0
        for name in names:
            size = np.size(_get(model, name))
            _put(model, name, values[start : start + size])
            start += size
        return model


def _fingerprint(model: mujoco.MjModel, num_substeps: int) -> str:
    """What tells engines apart, in whichever process: programs in the compilation cache know theirs by it."""
    content = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    return f"mujoco:{hashlib.sha256(content.tobytes()).hexdigest()}:{num_substeps}"


def _fields(system: Any) -> dict[str, Any]:
    """All numbers that a system and MuJoCo's model both have, by name; but for the solver's iterations, ours to set."""
    own = {field.name: getattr(system, field.name) for field in dataclasses.fields(system)}
    options = {field.name: getattr(system.opt, field.name) for field in dataclasses.fields(system.opt)}
    named = {name: value for name, value in (own | options).items() if name not in _OURS}
    return {name: value for name, value in named.items() if _alike(value, _get(system.mj_model, name))}


def _alike(value: Any, old: Any) -> bool:
    """Whether both hold as many numbers: in mjx some fields of the same name are something else."""
    return not dataclasses.is_dataclass(value) and isinstance(old, _NUMBERS) and np.size(value) == np.size(old)


def _owner(model: mujoco.MjModel, name: str) -> Any:
    return model if hasattr(model, name) else model.opt


def _get(model: mujoco.MjModel, name: str) -> Any:
    return getattr(_owner(model, name), name, None)


def _put(model: mujoco.MjModel, name: str, value: Any) -> None:
    old = _get(model, name)
    new = np.reshape(value, np.shape(old))
    if isinstance(old, np.ndarray):
        old[...] = np.where(new == old.astype(new.dtype), old, new)  # what is unchanged, to the last bit
        return
    try:
        setattr(_owner(model, name), name, type(old)(new))
    except AttributeError:  # how many there are of something
        remedy = f"the environment changed it from {old!r}, which MuJoCo's engine cannot take over: use backend 'mjx'"
        require(False, f"sys.{name}", value, remedy)


def _same(new: Any, old: Any) -> bool:
    """Whether a field is as it was; Brax's are of single precision and may have another shape."""
    return np.array_equal(np.ravel(new), np.ravel(old).astype(np.asarray(new).dtype))


def _changes(as_built: Any, system: Any) -> Changes:
    """The fields in which a system is not the one that was built."""
    before = _fields(as_built)
    return {name: new for name, new in _fields(system).items() if new is not before[name]}


def _state(system: Any, q: Array, qd: Array) -> brax.base.State:
    """Brax's state; positions and velocities of links by forward kinematics."""
    x, xd = brax.kinematics.forward(system, q, qd)
    return brax.base.State(q=q, qd=qd, x=x, xd=xd, contact=None)


def _on_large_stack(function: Callable[..., Any], *arguments: Any) -> Any:
    return _executor().submit(function, *arguments).result()


@functools.cache
def _executor() -> ThreadPoolExecutor:
    """A thread with a large stack for each device, so that devices do not wait for each other."""
    number = _num_callers()
    executor = ThreadPoolExecutor(number, thread_name_prefix="mujoco")
    all_made = threading.Barrier(number)
    before = threading.stack_size(_STACK_BYTES)
    list(executor.map(lambda _: all_made.wait(), range(number)))  # the threads are made now
    threading.stack_size(before)
    return executor


def _num_callers() -> int:
    return len(jax.local_devices(backend="cpu"))
