"""Swimmer: swim at a hidden velocity (Rothfuss et al., 2018). Brax's own engines do not run this body; MuJoCo does."""

from typing import Literal

import jax.numpy as jnp

from metarl_jax.tasks.locomotion import locomotion_family, target_velocity
from metarl_jax.types import NonNegativeFloat, PositiveFloat, PositiveInt, TaskFamily


def swimmer_velocity(
    *,
    min_velocity: float = 0.1,
    max_velocity: float = 0.2,
    horizon: PositiveInt = 200,
    backend: Literal["mujoco"] = "mujoco",
    action_scale: PositiveFloat = 1.0,
    control_cost: NonNegativeFloat = 0.0001,
) -> TaskFamily:
    r"""Swimmer that must swim forward at a hidden velocity (Rothfuss et al., 2018).

    ``task`` is v*, uniform on [min_velocity, max_velocity] (``[]`` float32, m/s). Episodes never terminate.

    .. math:: r = -\lvert v - v^* \rvert - c\,\lVert a \rVert^2

    with the velocity of the torso ``v`` along x and ``a`` the environment's action after scaling and clipping. Eight
    observed numbers: joint positions and velocities, without the place. (The published code has a sign error here.)
    Held-out tasks are fresh draws.

    Args:
      min_velocity: lowest target velocity, m/s.
      max_velocity: highest target velocity, m/s.
      horizon: steps per episode, 0.04 s each.
      backend: the physics engine: mujoco only.
      action_scale: the policy output that maps to full torque; larger outputs are clipped.
      control_cost: weight of the squared norm of the action.

    Returns:
      The task family.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> family = swimmer_velocity(horizon=100)
      >>> family.observation_shape, family.action.size
      ((8,), 2)
    """
    return locomotion_family(
        "swimmer",
        sample=target_velocity(min_velocity, max_velocity),
        objective=lambda target, velocity, next: -jnp.abs(velocity[0] - target),
        control_cost=control_cost,
        terminates=False,
        backend=backend,
        horizon=horizon,
        action_scale=action_scale,
    )
