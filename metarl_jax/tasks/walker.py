"""Walker on Brax: walk forward or backward, or at a hidden velocity (Rothfuss et al., 2018).

A planar body of two legs; 17 observed numbers: joint positions and velocities, without the x position. An episode ends
when the torso is not between 0.8 and 2 m high or leans by more than 1 rad. A step lasts 0.008 s.
"""

import jax.numpy as jnp

from metarl_jax.tasks.brax_adapter import Backend
from metarl_jax.tasks.locomotion import forward_or_backward, locomotion_family, target_velocity
from metarl_jax.types import NonNegativeFloat, PositiveFloat, PositiveInt, TaskFamily


def walker_direction(
    *,
    horizon: PositiveInt = 200,
    backend: Backend = "mujoco",
    action_scale: PositiveFloat = 1.0,
    control_cost: NonNegativeFloat = 0.001,
) -> TaskFamily:
    r"""Walker that must go forward or backward (Rothfuss et al., 2018).

    Two tasks: ``task`` is +1 or -1 (``[]`` float32).

    .. math:: r = d\,v + 1 - c\,\lVert a \rVert^2

    with direction ``d``, forward velocity of the torso ``v`` (m/s), control cost ``c``, and ``a`` the environment's
    action after scaling and clipping.

    Args:
      horizon: steps per episode, 0.008 s each.
      backend: the physics engine: spring, generalized, positional, mjx, or mujoco (native speed on CPUs).
      action_scale: the policy output that maps to full torque; larger outputs are clipped.
      control_cost: weight of the squared norm of the action.

    Returns:
      The task family.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> family = walker_direction(horizon=100)
      >>> family.observation_shape, family.action.size
      ((17,), 6)
    """
    return locomotion_family(
        "walker",
        sample=forward_or_backward,
        objective=lambda direction, velocity, next: direction * velocity[0] + 1.0,
        control_cost=control_cost,
        terminates=True,
        backend=backend,
        horizon=horizon,
        action_scale=action_scale,
    )


def walker_velocity(
    *,
    min_velocity: float = 0.0,
    max_velocity: float = 10.0,
    horizon: PositiveInt = 200,
    backend: Backend = "mujoco",
    action_scale: PositiveFloat = 1.0,
    control_cost: NonNegativeFloat = 0.001,
) -> TaskFamily:
    r"""Walker that must go forward at a hidden velocity (Rothfuss et al., 2018).

    ``task`` is v*, uniform on [min_velocity, max_velocity] (``[]`` float32, m/s).

    .. math:: r = -\lvert v - v^* \rvert + 15 - c\,\lVert a \rVert^2

    Held-out tasks are fresh draws from the same distribution.

    Args:
      min_velocity: lowest target velocity, m/s.
      max_velocity: highest target velocity, m/s.
      horizon: steps per episode, 0.008 s each.
      backend: the physics engine: spring, generalized, positional, mjx, or mujoco (native speed on CPUs).
      action_scale: the policy output that maps to full torque; larger outputs are clipped.
      control_cost: weight of the squared norm of the action.

    Returns:
      The task family.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> family = walker_velocity(horizon=100)
      >>> family.observation_shape, family.action.size
      ((17,), 6)
    """
    return locomotion_family(
        "walker",
        sample=target_velocity(min_velocity, max_velocity),
        objective=lambda target, velocity, next: 15.0 - jnp.abs(velocity[0] - target),
        control_cost=control_cost,
        terminates=True,
        backend=backend,
        horizon=horizon,
        action_scale=action_scale,
    )
