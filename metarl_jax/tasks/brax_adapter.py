"""Brax environments as task families: one physics, many tasks.

Only ``brax.envs`` is used, and only when a family is built: importing this module does not import Brax. Episodes are
ours, not Brax's: its auto-reset wrapper starts every episode from one cached state and hides the last observation.
"""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from metarl_jax.ops import trees
from metarl_jax.tasks.noise import quiet
from metarl_jax.tasks.physics import Physics, with_physics
from metarl_jax.types import ActionSpec, Array, Body, EnvState, Key, PyTree, Task, TaskFamily, require, require_number

if TYPE_CHECKING:
    from brax.envs import Env

Backend = Literal["spring", "generalized", "positional", "mjx", "mujoco"]
"""What steps the physics. ``spring`` is Brax's fastest engine, ``mjx`` is MuJoCo's own in JAX, and ``mujoco`` is the C
engine on this machine's cores, with the bodies and rewards of ``mjx``: for machines without an accelerator."""

PhysicsState = Any
"""Brax's pipeline state: ``q``, ``qd`` (generalised coordinates), ``x``, ``xd`` (links in the world frame), ..."""


class BraxState(NamedTuple):
    """What an episode carries from step to step: no metrics, no reward, no observation.

    Attributes:
      physics: Brax's pipeline state.
      info: whatever the environment itself keeps in ``state.info``; ``{}`` for most.
    """

    physics: PhysicsState
    info: PyTree


def load_env(name: str, backend: Backend = "spring", **kwargs: Any) -> "Env":
    """Load a Brax environment silently, without episode or auto-reset wrappers.

    Args:
      name: Brax's name, e.g. ``"halfcheetah"``, ``"ant"``, ``"walker2d"``.
      backend: the physics engine.
      **kwargs: handed to the environment's constructor.

    Returns:
      The environment.

    Raises:
      ValueError: if Brax does not know ``name`` or ``backend``.

    Example:
      >>> load_env("halfcheetah").action_size
      6
    """
    require(backend in get_args(Backend), "backend", backend, f"choose one of {', '.join(get_args(Backend))}")
    with quiet():
        from brax import envs

        known = sorted(envs._envs)
        require(name in known, "name", name, f"choose one of {', '.join(known)}")
        if backend == "mujoco":
            from metarl_jax.tasks.native_mujoco import native

            return native(envs._envs[name])(**kwargs)
        return envs.get_environment(name, backend=backend, **kwargs)


def scale_action(action: Array, action_scale: float) -> Array:
    """Map a policy's output to the environment's action range: ``clip(action / action_scale, -1, 1)``.

    An infinite output is clipped. A NaN stays NaN: it is the policy's error, and must show in the reward.

    Args:
      action: ``[..., action_size]`` the policy's output.
      action_scale: the output that maps to the end of the range.

    Returns:
      ``[..., action_size]`` in [-1, 1].

    Example:
      >>> scale_action(jnp.array([5.0, -20.0]), 10.0).tolist()
      [0.5, -1.0]
    """
    return jnp.clip(action / action_scale, -1.0, 1.0)


def brax_family(
    env: "Env",
    *,
    sample: Callable[[Key], Task],
    reward: Callable[[Task, PhysicsState, Array, PhysicsState], Array],
    horizon: int,
    sample_held_out: Callable[[Key], Task] | None = None,
    sample_beyond: Callable[[Key], Task] | None = None,
    terminated: Callable[[Task, PhysicsState], Array] | None = None,
    physics: Callable[[Task], Physics] | None = None,
    action_scale: float = 1.0,
) -> TaskFamily:
    """Build a task family on one environment, whose tasks differ in the reward, the physics, or both.

    The task is traced data for ``reward``, ``terminated`` and ``physics``. Reset draws fresh randomness from its key.
    The environment's own reward and termination are ignored (and compiled away).

    Args:
      env: an unwrapped Brax environment, see ``load_env``.
      sample: ``(key) -> task`` for training.
      reward: ``(task, previous, action, next) -> []``; ``previous`` and ``next`` are physics states, ``action``
        ``[action_size]`` is the environment's, after scaling and clipping.
      horizon: steps per episode.
      sample_held_out: ``(key) -> task`` for meta-testing; ``sample`` if None.
      sample_beyond: ``(key) -> task`` out of the training distribution, if there are such tasks.
      terminated: ``(task, next) -> []`` boolean; never if None.
      physics: ``(task) -> Physics``: the task's own masses, friction and so on; as built if None.
      action_scale: the policy output that maps to the end of the environment's action range [-1, 1].

    Returns:
      The family; its state is a ``BraxState``.

    Raises:
      ValueError: if ``horizon`` or ``action_scale`` is not positive.

    Example:
      >>> from metarl_jax.tasks.brax_adapter import brax_family, load_env
      >>> family = brax_family(
      ...     load_env("halfcheetah"),
      ...     sample=lambda key: jax.random.uniform(key),  # a target height of the torso, in metres
      ...     reward=lambda task, previous, action, next: -abs(next.x.pos[0, 2] - task),
      ...     horizon=100,
      ... )
      >>> family.observation_shape
      (17,)
    """
    require(isinstance(horizon, int) and horizon > 0, "horizon", horizon, "give a positive whole number of steps")
    require_number("action_scale", action_scale, above=0)
    with quiet():
        blank = jax.eval_shape(env.reset, jax.random.key(0))  # env.observation_size would run a slow eager reset
    unread = blank.replace(pipeline_state=None, info=None)  # Brax's environments step from physics and info alone

    def env_of(task: Task) -> Any:
        if physics is None:
            return env
        changed: Any = copy.copy(env)
        changed.sys = with_physics(changed.sys, physics(task))
        return changed

    def reset(task: Task, key: Key) -> tuple[EnvState, Array]:
        with quiet():
            state = trees.strong(env_of(task).reset(key))
        return BraxState(state.pipeline_state, state.info), state.obs

    def step(task: Task, state: EnvState, action: Array, key: Key) -> tuple[EnvState, Array, Array, Array]:
        applied = scale_action(action, action_scale)
        filler = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), unread)
        before = filler.replace(pipeline_state=state.physics, info=dict(state.info))
        with quiet():  # tracing warns too: Brax reads deprecated fields of mjx
            after = trees.strong(env_of(task).step(before, applied))
        done = jnp.array(False) if terminated is None else terminated(task, after.pipeline_state)
        earned = reward(task, state.physics, applied, after.pipeline_state)
        return BraxState(after.pipeline_state, after.info), after.obs, earned, done

    return TaskFamily(
        sample=sample,
        sample_held_out=sample if sample_held_out is None else sample_held_out,
        reset=reset,
        step=step,
        observation_shape=tuple(blank.obs.shape),
        action=ActionSpec(env.action_size),
        horizon=horizon,
        on_host=getattr(env, "on_host", False),
        sample_beyond=sample_beyond,
        picture=Body(env.sys.mj_model, lambda state: (state.physics.x.pos, state.physics.x.rot), float(env.dt)),
    )


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
