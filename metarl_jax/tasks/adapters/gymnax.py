"""Gymnax environments as task families: one environment, many tasks that differ in its parameters or its reward.

Gymnax is the optional extra ``metarl-jax[gymnax]``, imported only when an environment is loaded. Episodes are ours:
``reset_env`` and ``step_env`` leave out its auto-reset and its time limit, so that termination is the game's own.
With ``JAX_ENABLE_X64`` the environments go on in single precision, and all that is learned from them is double.
"""

import importlib
import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import checked
from metarl_jax.ops import trees
from metarl_jax.tasks.adapters.control import ControlRange, scale_action
from metarl_jax.tasks.choices import checked_choice
from metarl_jax.types import (
    ActionSpec,
    Array,
    EnvState,
    Key,
    PositiveFloat,
    PositiveInt,
    Task,
    TaskFamily,
    require,
)

if TYPE_CHECKING:
    from gymnax.environments.environment import Environment

GymnaxState = Any
"""The environment's own state, a dataclass of arrays: ``theta``, ``entities``, ``time``, ..."""
GymnaxParams = Any
"""The environment's own parameters, a dataclass of numbers: ``gravity``, ``max_steps_in_episode``, ..."""


def load_gymnax(name: str, **kwargs: Any) -> "Environment":
    """Load a gymnax environment, without wrappers.

    Args:
      name: gymnax's name, e.g. ``"CartPole-v1"``, ``"Breakout-MinAtar"``.
      **kwargs: handed to the environment's constructor.

    Returns:
      The environment; ``default_params`` are its parameters.

    Raises:
      ValueError: if gymnax is not installed, or does not know ``name``.

    Example:
      >>> load_gymnax("CartPole-v1").default_params.gravity
      9.8
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the plotting libraries that it imports
            gymnax: Any = importlib.import_module("gymnax")
    except ImportError as error:
        require(False, "environment", name, f"needs gymnax ({error}): pip install metarl-jax[gymnax]")
        raise
    known = sorted(gymnax.registered_envs)
    require(name in known, "environment", name, f"choose one of {', '.join(known)}")
    return _in_32_bits(gymnax.make)(name, **kwargs)[0]


@checked
def gymnax_family(
    env: "Environment",
    *,
    sample: Callable[[Key], Task],
    horizon: PositiveInt,
    params: Callable[[Task], GymnaxParams] | None = None,
    reward: Callable[[Task, GymnaxState, Array, GymnaxState, Array], Array] | None = None,
    terminated: Callable[[Task, GymnaxState], Array] | None = None,
    sample_held_out: Callable[[Key], Task] | None = None,
    action_scale: PositiveFloat = 1.0,
) -> TaskFamily:
    """Build a task family of one gymnax environment, whose tasks differ in its parameters, its reward, or both.

    The task is traced data for ``params``, ``reward`` and ``terminated``. A discrete action that does not exist, or a
    continuous one that is NaN, earns NaN; infinity is clipped.

    Args:
      env: a gymnax environment, see ``load_gymnax``.
      sample: ``(key) -> task`` for training.
      horizon: steps per episode; ``max_steps_in_episode`` of the environment ends none.
      params: ``(task) -> parameters`` of the environment; its ``default_params`` if None.
      reward: ``(task, previous, action, next, earned) -> []``; ``previous`` and ``next`` are gymnax states, ``action``
        is what the environment was given, ``earned`` ``[]`` its own reward, which is what counts if None.
      terminated: ``(task, next) -> []`` boolean; the environment's own if None.
      sample_held_out: ``(key) -> task`` for meta-testing; ``sample`` if None.
      action_scale: the policy output that maps to the end of the range of a continuous action.

    Returns:
      The family; its state is gymnax's.

    Raises:
      ValueError: if ``horizon`` or ``action_scale`` is not positive, or the actions are neither one of a number of
        choices nor bounded real numbers.

    Example:
      >>> from metarl_jax.tasks.adapters.gymnax import gymnax_family, load_gymnax
      >>> env = load_gymnax("CartPole-v1")
      >>> family = gymnax_family(
      ...     env,
      ...     sample=lambda key: jax.random.uniform(key, minval=5.0, maxval=15.0),  # gravity in m/s^2
      ...     params=lambda task: env.default_params.replace(gravity=task),
      ...     horizon=200,
      ... )
      >>> family.observation_shape, family.action
      ((4,), ActionSpec(size=2, discrete=True))
    """
    spec, to_environment = _actions(env, action_scale)
    reset_env = _in_32_bits(lambda *arguments: trees.strong(env.reset_env(*arguments)))
    step_env = _in_32_bits(env.step_env)

    def params_of(task: Task) -> GymnaxParams:
        return env.default_params if params is None else params(task)

    def reset(task: Task, key: Key) -> tuple[EnvState, Array]:
        observation, state = reset_env(key, params_of(task))
        return state, jnp.asarray(observation, float)

    def step(task: Task, state: EnvState, action: Array, key: Key) -> tuple[EnvState, Array, Array, Array]:
        applied, is_valid = to_environment(action)
        observation, after, earned, ended, _ = step_env(key, state, applied, params_of(task))
        after, earned = trees.cast_like(after, state), jnp.asarray(earned, float)
        if reward is not None:
            earned = reward(task, state, applied, after, earned)
        if terminated is not None:
            ended = terminated(task, after)
        return after, jnp.asarray(observation, float), jnp.where(is_valid, earned, jnp.nan), ended

    task, key = jax.eval_shape(sample, jax.random.key(0)), jax.random.key(0)
    return TaskFamily(
        sample=sample,
        sample_held_out=sample if sample_held_out is None else sample_held_out,
        reset=reset,
        step=step,
        observation_shape=tuple(jax.eval_shape(reset, task, key)[1].shape),
        action=spec,
        horizon=horizon,
        control=None if spec.discrete else lambda action: to_environment(action)[0],
    )


def _in_32_bits(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gymnax's code as it runs without ``JAX_ENABLE_X64``: it takes the default integer and float for 32 bits wide."""

    def narrow(leaf: Any) -> Any:
        is_number = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.number)
        return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype)) if is_number else leaf

    def traced(*arguments: Any, **settings: Any) -> Any:
        with jax.enable_x64(False):
            return function(*jax.tree.map(narrow, arguments), **settings)

    return traced


def _actions(env: "Environment", scale: float) -> tuple[ActionSpec, Callable[[Array], tuple[Array, Array]]]:
    """What a policy puts out, and the way from there to what the environment takes, and whether it is valid."""
    space: Any = env.action_space(env.default_params)
    if hasattr(space, "n"):
        size = int(space.n)
        return ActionSpec(size, discrete=True), lambda action: checked_choice(action, size)
    is_box = hasattr(space, "low") and bool(jnp.isfinite(jnp.asarray(space.high) - jnp.asarray(space.low)).all())
    require(is_box, "action space", space, "only choices and bounded real numbers can be taken")
    range = ControlRange(*(np.broadcast_to(end, space.shape).ravel() for end in (space.low, space.high)))

    def rescale(action: Array) -> tuple[Array, Array]:
        applied = scale_action(action, scale, range).reshape(space.shape)
        return applied, ~jnp.isnan(applied).any()

    return ActionSpec(math.prod(space.shape)), rescale
