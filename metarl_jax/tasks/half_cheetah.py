"""Half-cheetah on Brax: run in a hidden direction, or at a hidden velocity (Finn et al., 2017, section 5.3).

Both families share body and observation (17 numbers: joint positions and velocities, without the x position);
only the reward tells the tasks apart. Episodes never terminate. A step lasts 0.05 s.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from metarl_jax.tasks.brax_adapter import Backend, PhysicsState, brax_family, forward_velocity, load_env
from metarl_jax.types import (
    Array,
    Key,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Task,
    TaskFamily,
    require,
    require_number,
)


def half_cheetah_direction(
    *,
    horizon: PositiveInt = 200,
    backend: Backend = "spring",
    action_scale: PositiveFloat = 1.0,
    control_cost: NonNegativeFloat = 0.05,
) -> TaskFamily:
    r"""Half-cheetah that must run forward or backward (Finn et al., 2017).

    Two tasks: ``task`` is +1 or -1 (``[]`` float32).

    .. math:: r = d\,v - c\,\lVert a \rVert^2

    with direction ``d``, forward velocity ``v`` over the step (m/s), control cost ``c``, and ``a`` the environment's
    action after scaling and clipping. ``HalfCheetahEnvRandDirec`` of Finn et al. (2017); ProMP takes horizon 100
    and action_scale 10. There are no other tasks to hold out: meta-testing uses the same two.

    Args:
      horizon: steps per episode, 0.05 s each.
      backend: Brax's physics engine: spring, generalized, positional or mjx.
      action_scale: the policy output that maps to full torque; larger outputs are clipped.
      control_cost: weight of the squared norm of the action.

    Returns:
      The task family.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> family = half_cheetah_direction(horizon=100)
      >>> float(abs(family.sample(jax.random.key(0))))
      1.0
    """

    def sample(key: Key) -> Task:
        return jax.random.rademacher(key, (), jnp.float32)

    return _half_cheetah(
        sample, lambda direction, velocity: direction * velocity, horizon, backend, action_scale, control_cost
    )


def half_cheetah_velocity(
    *,
    min_velocity: float = 0.0,
    max_velocity: float = 2.0,
    horizon: PositiveInt = 200,
    backend: Backend = "spring",
    action_scale: PositiveFloat = 1.0,
    control_cost: NonNegativeFloat = 0.05,
) -> TaskFamily:
    r"""Half-cheetah that must run at a hidden velocity (Finn et al., 2017).

    ``task`` is v*, uniform on [min_velocity, max_velocity] (``[]`` float32, m/s).

    .. math:: r = -\lvert v - v^* \rvert - c\,\lVert a \rVert^2

    with forward velocity ``v`` over the step (m/s), control cost ``c``, and ``a`` the environment's action after
    scaling and clipping. ``HalfCheetahEnvRand`` of Finn et al. (2017); ProMP takes max_velocity 3, horizon 100 and
    action_scale 10. Held-out tasks are fresh draws from the same distribution.

    Args:
      min_velocity: lowest target velocity, m/s.
      max_velocity: highest target velocity, m/s.
      horizon: steps per episode, 0.05 s each.
      backend: Brax's physics engine: spring, generalized, positional or mjx.
      action_scale: the policy output that maps to full torque; larger outputs are clipped.
      control_cost: weight of the squared norm of the action.

    Returns:
      The task family.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> family = half_cheetah_velocity(max_velocity=3.0)
      >>> family.observation_shape, family.action.size
      ((17,), 6)
    """
    require(math.isfinite(min_velocity), "min_velocity", min_velocity, "give a finite velocity in m/s")
    require(
        math.isfinite(max_velocity) and max_velocity >= min_velocity,
        "max_velocity",
        max_velocity,
        f"give a finite velocity of at least min_velocity = {min_velocity:g} m/s",
    )

    def sample(key: Key) -> Task:
        return jax.random.uniform(key, (), jnp.float32, min_velocity, max_velocity)

    return _half_cheetah(
        sample, lambda target, velocity: -jnp.abs(velocity - target), horizon, backend, action_scale, control_cost
    )


def _half_cheetah(
    sample: Callable[[Key], Task],
    objective: Callable[[Task, Array], Array],
    horizon: int,
    backend: Backend,
    action_scale: float,
    control_cost: float,
) -> TaskFamily:
    """A half-cheetah family with reward ``objective(task, forward velocity) - control_cost ||action||^2``."""
    require_number("control_cost", control_cost, at_least=0)
    env = load_env("halfcheetah", backend)
    dt = float(env.dt)

    def reward(task: Task, previous: PhysicsState, action: Array, next: PhysicsState) -> Array:
        velocity = forward_velocity(previous, next, dt)
        return objective(task, velocity) - control_cost * jnp.sum(jnp.square(action))

    return brax_family(env, sample=sample, reward=reward, horizon=horizon, action_scale=action_scale)
