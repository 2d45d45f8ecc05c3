"""Brax environments as task families: one physics, many tasks.

Only ``brax.envs`` is used, and only when a family is built: importing this module does not import Brax. Episodes are
ours, not Brax's: its auto-reset wrapper starts every episode from one cached state and hides the last observation.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, get_opaque_trace_state, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from metarl_jax.checks import checked, passes_on
from metarl_jax.ops import trees
from metarl_jax.tasks.adapters.control import ControlRange, control_range, scale_action
from metarl_jax.tasks.adapters.noise import quiet
from metarl_jax.tasks.adapters.observation import Names, choose_observations
from metarl_jax.tasks.adapters.physics import Physics, on_mujoco, with_physics
from metarl_jax.types import (
    ActionSpec,
    Array,
    Body,
    EnvState,
    Key,
    PositiveFloat,
    PositiveInt,
    PyTree,
    Task,
    TaskFamily,
    require,
)

if TYPE_CHECKING:
    from brax.envs import Env

Backend = Literal["spring", "generalized", "positional", "mjx", "mujoco"]
"""What steps the physics. ``spring`` is Brax's fastest engine, ``mjx`` is MuJoCo's own in JAX, and ``mujoco`` is the C
engine on this machine's cores, with the bodies and rewards of ``mjx``: for machines without an accelerator."""

PhysicsState = Any
"""Brax's pipeline state: ``q``, ``qd`` (generalised coordinates), ``x``, ``xd`` (links in the world frame), ..."""


class BraxState(NamedTuple):
    """What an episode carries from step to step: of Brax's state, what the next step may read.

    Attributes:
      physics: Brax's pipeline state.
      info: whatever the environment itself keeps in ``state.info``; ``{}`` for most.
      read: what its steps read of the last observation, metrics, reward and ``done``, by path; ``{}`` for most.
    """

    physics: PhysicsState
    info: PyTree
    read: dict[str, Array]


@checked
@passes_on(None)
def load_env(name: str, backend: Backend = "spring", **kwargs: Any) -> "Env":
    """Load a Brax environment silently, without episode or auto-reset wrappers.

    Args:
      name: Brax's name, e.g. ``"halfcheetah"``, ``"ant"``, ``"walker2d"``.
      backend: the physics engine.
      **kwargs: handed to the environment's constructor.

    Raises:
      ValueError: if Brax does not know ``name`` or ``backend``, or cannot step the one with the other.

    Example:
      >>> load_env("halfcheetah").action_size
      6
    """
    with quiet():
        from brax import envs

        from metarl_jax.tasks.adapters.swimmer import Swimmer

        classes = envs._envs | {"swimmer": Swimmer}
        known = sorted(classes)
        require(name in known, "name", name, f"choose one of {', '.join(known)}")
        try:
            env = _make(classes[name], backend, **kwargs)
        except (ValueError, TypeError) as refusal:
            others = ", ".join(other for other in get_args(Backend) if other != backend)
            require(False, "environment", name, f"cannot be on backend {backend!r} ({refusal}): choose one of {others}")
        return env


def _make(env_class: Any, backend: Backend, **kwargs: Any) -> "Env":
    if backend == "mujoco":
        from metarl_jax.tasks.adapters.mujoco import native

        return native(env_class)(**kwargs)
    env = env_class(backend=backend, **kwargs)
    if backend != "mjx" and getattr(getattr(env, "sys", None), "enable_fluid", False):
        # Brax's fluid forces need an argument of jnp.clip that JAX has dropped: better found out now than in training.
        jax.eval_shape(lambda key: env.step(env.reset(key), jnp.zeros(env.action_size)), jax.random.key(0))
    return env  # type: ignore[no-any-return]


@checked
def brax_family(
    env: "Env",
    *,
    sample: Callable[[Key], Task],
    reward: Callable[[Task, PhysicsState, Array, PhysicsState], Array],
    horizon: PositiveInt,
    sample_held_out: Callable[[Key], Task] | None = None,
    sample_beyond: Callable[[Key], Task] | None = None,
    terminated: Callable[[Task, PhysicsState], Array] | None = None,
    physics: Callable[[Task], Physics] | None = None,
    action_scale: PositiveFloat = 1.0,
    observation: Names = "state",
    critic_observation: Names | None = None,
) -> TaskFamily:
    """Build a task family on one environment, whose tasks differ in the reward, the physics, or both.

    The task is traced data for ``reward``, ``terminated`` and ``physics``. Reset draws fresh randomness from its key.
    The environment's own reward and termination are ignored (and compiled away).

    Args:
      env: an unwrapped Brax environment, see ``load_env``.
      sample: ``(key) -> task`` for training.
      reward: ``(task, previous, action, next) -> []``; ``previous`` and ``next`` are physics states, ``action``
        ``[action_size]`` is what the environment was given, after scaling and clipping.
      horizon: steps per episode.
      sample_held_out: ``(key) -> task`` for meta-testing; ``sample`` if None.
      sample_beyond: ``(key) -> task`` out of the training distribution, if there are such tasks.
      terminated: ``(task, next) -> []`` boolean; never if None.
      physics: ``(task) -> Physics``: the task's own masses, friction and so on; as built if None.
      action_scale: the policy output that maps to the end of the environment's range: of its actuators' controls, or
        [-1, 1] if it makes these of its actions itself or they have no limits.
      observation: where observations are a dict, the entry that the policy sees, or several of them.
      critic_observation: entries that a critic sees besides, but not the policy.

    Returns:
      The family; its state is a ``BraxState``.

    Raises:
      ValueError: if ``horizon`` or ``action_scale`` is not positive, or there is no such observation.

    Example:
      >>> from metarl_jax.tasks.adapters.brax import brax_family, load_env
      >>> family = brax_family(
      ...     load_env("halfcheetah"),
      ...     sample=lambda key: jax.random.uniform(key),  # a target height of the torso, in metres
      ...     reward=lambda task, previous, action, next: -abs(next.x.pos[0, 2] - task),
      ...     horizon=100,
      ... )
      >>> family.observation_shape
      (17,)
    """
    with quiet():
        blank = jax.eval_shape(env.reset, jax.random.key(0))  # env.observation_size would run a slow eager reset
        dry_step = _dry_step(env, blank)
        read, controls = _read_by_steps(dry_step), _control_range(env, dry_step)
    observe, privileged_size = choose_observations(blank.obs, observation, critic_observation)
    control = partial(scale_action, action_scale=action_scale, range=controls)
    filler = blank.replace(pipeline_state=None, info=None)

    def reset(task: Task, key: Key) -> tuple[EnvState, Array]:
        with quiet():
            state = trees.strong(_of_task(env, physics, task).reset(key))
        return BraxState(state.pipeline_state, state.info, _pick(state, read)), observe(state.obs)

    def step(task: Task, state: EnvState, action: Array, key: Key) -> tuple[EnvState, Array, Array, Array]:
        applied = control(action)
        unread = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), filler)
        before = trees.replace(unread, state.read).replace(pipeline_state=state.physics, info=dict(state.info))
        with quiet():  # tracing warns too: Brax reads deprecated fields of mjx
            after = trees.strong(_of_task(env, physics, task).step(before, applied))
        kept = after.info, trees.cast_like(_pick(after, read), state.read)
        done = jnp.array(False)
        if terminated is not None:
            done = terminated(task, after.pipeline_state)
            # The last observation may be NaN (0 / 0 at the goal), which is no failure. What is kept of it is never
            # read, but a state that is not finite tells of physics that failed.
            kept = trees.keep_finite(kept, (state.info, state.read), done)
        earned = reward(task, state.physics, applied, after.pipeline_state)
        return BraxState(after.pipeline_state, *kept), observe(after.obs), earned, done

    return TaskFamily(
        sample=sample,
        sample_held_out=sample if sample_held_out is None else sample_held_out,
        reset=reset,
        step=step,
        observation_shape=tuple(jax.eval_shape(observe, blank.obs).shape),
        action=ActionSpec(env.action_size),
        horizon=horizon,
        on_host=getattr(env, "on_host", False),
        sample_beyond=sample_beyond,
        privileged_size=privileged_size,
        picture=_picture(env),
        must_be_finite=_simulated,
        control=control,
    )


def _of_task(env: "Env", physics: Callable[[Task], Physics] | None, task: Task) -> Any:
    """The environment with the task's own physics."""
    if physics is None:
        return env
    changed: Any = copy.copy(env)
    changed.sys = with_physics(changed.sys, physics(task))
    return changed


def _picture(env: Any) -> Body | None:
    model = getattr(getattr(env, "sys", None), "mj_model", None)
    return (
        None if model is None else Body(model, lambda state: (state.physics.x.pos, state.physics.x.rot), float(env.dt))
    )


def _simulated(state: BraxState) -> PyTree:
    """Positions and velocities, of which the rest is made: to look at that too would keep XLA from dropping it."""
    return (state.physics.q, state.physics.qd) if hasattr(state.physics, "qd") else state


def _pick(state: Any, names: frozenset[str]) -> dict[str, Array]:
    """The parts of Brax's state at these paths."""
    return {name: leaf for name, leaf in trees.by_path(state).items() if name in names}


class _DryStep(NamedTuple):
    """``env.step`` traced with physics that stand still: what comes of what, and which controls they were given.

    Attributes:
      program: from the leaves of Brax's state and the action to those of the next state and the controls.
      inputs: paths of the leaves of the state.
      outputs: paths of the leaves of the next state.
      num_controls: how often physics were stepped.
    """

    program: ClosedJaxpr
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    num_controls: int


def _dry_step(env: Any, blank: Any) -> _DryStep:
    from brax.envs import PipelineEnv

    as_in_brax = getattr(type(env), "pipeline_step", None) is PipelineEnv.pipeline_step
    steps_its_own_physics = not as_in_brax and not getattr(env, "on_host", False)

    def step(state: Any, action: Array) -> tuple[Any, list[Array]]:
        controls, here = [], get_opaque_trace_state()

        def pipeline_step(physics: PhysicsState, control: Array) -> PhysicsState:
            if get_opaque_trace_state() == here:  # what a loop inside the step makes cannot leave it
                controls.append(control)
            return physics

        dry = copy.copy(env)
        if not steps_its_own_physics:  # which may make other controls of these
            dry.pipeline_step = pipeline_step
        return dry.step(state, action), controls

    action = jax.ShapeDtypeStruct((env.action_size,), jnp.zeros(()).dtype)
    program, (after, controls) = jax.make_jaxpr(step, return_shape=True)(blank, action)
    return _DryStep(program, tuple(trees.by_path(blank)), tuple(trees.by_path(after)), len(controls))


def _read_by_steps(dry: _DryStep) -> frozenset[str]:
    """Paths of what steps read of Brax's state, now or by way of a later step, besides its physics and info.

    A scan carries whatever it is given: most environments' observation, metrics and reward would travel for nothing.
    """
    carried = ("pipeline_state", "info")
    read: set[str] = set()
    while True:
        wanted = [name.startswith((*carried, "obs")) or name in read for name in dry.outputs]
        _, used = dce_jaxpr(dry.program.jaxpr, wanted + [True] * dry.num_controls)
        found = {name for name, is_used in zip(dry.inputs, used[:-1], strict=True) if is_used}
        found = {name for name in found if not name.startswith(carried)}
        if found <= read:
            return frozenset(read)
        read |= found


def _control_range(env: Any, dry: _DryStep) -> ControlRange | None:
    """The range of the environment's actions, if that is its actuators' and not [-1, 1]."""
    if not hasattr(env, "sys") or not dry.num_controls:
        return None
    wanted = [False] * len(dry.outputs) + [i == 0 for i in range(dry.num_controls)]
    program, used = dce_jaxpr(dry.program.jaxpr, wanted)
    if any(used[:-1]):  # it makes controls of its own, of the action and its state
        return None
    control = jaxpr_as_fun(ClosedJaxpr(program, dry.program.consts))
    if on_mujoco(env):
        bounds, limited = env.sys.actuator_ctrlrange, env.sys.actuator_ctrllimited
    else:
        bounds, limited = env.sys.actuator.ctrl_range, True
    return control_range(bounds, limited, lambda action: control(action)[0])


def torso_velocity(previous: PhysicsState, next: PhysicsState, dt: float) -> Array:
    """Mean velocity of the torso over one environment step, in m/s, in the world's frame.

    Args:
      previous: physics state before the step.
      next: physics state after it.
      dt: duration of the step in seconds (``env.dt``).

    Returns:
      ``[3]``.
    """
    return (next.x.pos[0] - previous.x.pos[0]) / dt
