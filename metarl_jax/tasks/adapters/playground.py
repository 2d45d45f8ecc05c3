"""MuJoCo Playground environments as task families: one environment, many tasks.

Playground is the optional extra ``metarl-jax[playground]``, imported only when an environment is loaded; the adapter
itself asks no more of an environment than Playground's ``reset`` and ``step``. Episodes are ours: no wrappers.
"""

import copy
import dataclasses
import importlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.ops import trees
from metarl_jax.tasks.adapters.control import ControlRange, control_range, scale_action
from metarl_jax.tasks.adapters.noise import quiet
from metarl_jax.tasks.adapters.observation import Names, choose_observations
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
    from mujoco_playground import MjxEnv

PlaygroundState = Any
"""Playground's: ``data`` (of mjx: ``qpos``, ``qvel``, ...), ``obs``, ``reward``, ``done``, ``metrics``, ``info``."""
Model = Any
"""The model of mjx: ``body_mass``, ``geom_friction``, ``opt.gravity``, ..."""


def load_playground(name: str, **overrides: Any) -> "MjxEnv":
    """Load a Playground environment, without wrappers, on the physics of mjx.

    Args:
      name: Playground's name, e.g. ``"CheetahRun"``.
      **overrides: changes of its configuration; ``impl`` is ``"jax"`` unless given.

    Raises:
      ValueError: if Playground is not installed, or does not know ``name``.

    Example:
      >>> load_playground("CartpoleBalance").action_size
      1
    """
    try:
        with quiet():
            registry: Any = importlib.import_module("mujoco_playground").registry
    except ImportError as error:
        require(False, "environment", name, f"needs MuJoCo Playground ({error}): pip install metarl-jax[playground]")
        raise
    known = sorted(registry.ALL_ENVS)
    require(name in known, "environment", name, f"choose one of {', '.join(known)}")
    with quiet():
        return registry.load(name, config_overrides={"impl": "jax", **overrides})  # type: ignore[no-any-return]


@checked
def playground_family(
    env: "MjxEnv",
    *,
    sample: Callable[[Key], Task],
    horizon: PositiveInt,
    reward: Callable[[Task, PlaygroundState, Array, PlaygroundState], Array] | None = None,
    model: Callable[[Task, Model], Model] | None = None,
    terminated: Callable[[Task, PlaygroundState], Array] | None = None,
    sample_held_out: Callable[[Key], Task] | None = None,
    sample_beyond: Callable[[Key], Task] | None = None,
    action_scale: PositiveFloat = 1.0,
    observation: Names = "state",
    critic_observation: Names | None = None,
) -> TaskFamily:
    """Build a task family of one Playground environment, whose tasks differ in the reward, the physics, or both.

    The task is traced data for ``reward``, ``model`` and ``terminated``.

    Args:
      env: a Playground environment, see ``load_playground``.
      sample: ``(key) -> task`` for training.
      horizon: steps per episode.
      reward: ``(task, previous, action, next) -> []``; ``previous`` and ``next`` are Playground's states, ``action`` is
        what the environment was given, ``next.reward`` the environment's own reward, which is what counts if None.
      model: ``(task, model) -> model``: the task's own masses, friction and so on; as built if None.
      terminated: ``(task, next) -> []`` boolean; the environment's own ``done`` if None.
      sample_held_out: ``(key) -> task`` for meta-testing; ``sample`` if None.
      sample_beyond: ``(key) -> task`` out of the training distribution, if there are such tasks.
      action_scale: the policy output that maps to the end of the environment's range: of its actuators' controls, or
        [-1, 1] if it makes these of its actions itself or they have no limits.
      observation: where observations are a dict, the entry that the policy sees, as in Playground's own training, or
        several of them.
      critic_observation: entries that a critic sees besides, but not the policy; Playground's is ``privileged_state``.

    Returns:
      The family; its state is Playground's.

    Raises:
      ValueError: if ``horizon`` or ``action_scale`` is not positive, there is no such observation, or ``model`` is
        given for an environment that does not keep its model where Playground's do.

    Example:
      >>> from metarl_jax.tasks.adapters.playground import load_playground, playground_family
      >>> family = playground_family(
      ...     load_playground("CartpoleBalance"),
      ...     sample=lambda key: jax.random.uniform(key, minval=0.5, maxval=2.0),  # times the masses
      ...     model=lambda task, model: model.replace(body_mass=task * model.body_mass),
      ...     horizon=100,
      ... )
      >>> family.observation_shape
      (5,)
    """

    def env_of(task: Task) -> Any:
        if model is None:
            return env
        changed: Any = copy.copy(env)
        changed._mjx_model = new_model = model(task, env.mjx_model)
        require(
            changed.mjx_model is new_model, "model", type(env).__name__, "this environment keeps its model elsewhere"
        )
        return changed

    with quiet():
        blank = jax.eval_shape(lambda key: env_of(sample(key)).reset(key), jax.random.key(0))
        controls = _control_range(env)
    observe, privileged_size = choose_observations(blank.obs, observation, critic_observation)
    control = partial(scale_action, action_scale=action_scale, range=controls)

    def reset(task: Task, key: Key) -> tuple[EnvState, Array]:
        with quiet():
            state = trees.strong(env_of(task).reset(key))
        return state, jnp.asarray(observe(state.obs), float)

    def step(task: Task, state: EnvState, action: Array, key: Key) -> tuple[EnvState, Array, Array, Array]:
        applied = control(action)
        with quiet():
            after = env_of(task).step(state, applied)
        earned = jnp.asarray(after.reward if reward is None else reward(task, state, applied, after), float)
        ended = after.done > 0 if terminated is None else terminated(task, after)
        kept = trees.cast_like(after, state)
        # The last observation may be NaN, which is no failure; a state that is not finite tells of physics that failed.
        kept = dataclasses.replace(trees.keep_finite(kept, state, ended), data=kept.data)
        return kept, jnp.asarray(observe(after.obs), float), earned, ended

    return TaskFamily(
        sample=sample,
        sample_held_out=sample if sample_held_out is None else sample_held_out,
        reset=reset,
        step=step,
        observation_shape=tuple(jax.eval_shape(observe, blank.obs).shape),
        action=ActionSpec(env.action_size),
        horizon=horizon,
        sample_beyond=sample_beyond,
        privileged_size=privileged_size,
        picture=_picture(env),
        must_be_finite=_simulated,
        control=control,
    )


def _simulated(state: PlaygroundState) -> PyTree:
    """Positions and velocities, where they are: metrics and info may hold an infinity in the place of *not yet*."""
    return (state.data.qpos, state.data.qvel) if hasattr(state.data, "qvel") else state


def _control_range(env: Any) -> ControlRange | None:
    """The range of the environment's actions, if that is its actuators' and not [-1, 1]."""
    if not hasattr(env.mjx_model, "actuator_ctrlrange"):
        return None

    def control(action: Array) -> Array:
        return env.step(env.reset(jax.random.key(0)), action).data.ctrl  # type: ignore[no-any-return]

    return control_range(env.mjx_model.actuator_ctrlrange, env.mjx_model.actuator_ctrllimited, control)


def _picture(env: Any) -> Body | None:
    model = getattr(env, "mj_model", None)
    if model is None:
        return None
    return Body(model, lambda state: (state.data.xpos[..., 1:, :], state.data.xquat[..., 1:, :]), float(env.dt))
