"""Humanoid on Brax: run forward or backward, or in a direction of the plane (Rothfuss et al., 2018).

An episode ends when the torso is not between 1 and 2 m high. A step lasts 0.015 s. The weights are those of the MuJoCo
environment: 1.25 for the velocity, 5 for standing; the original's contact cost is left out.
"""

from typing import Any

import jax.numpy as jnp

from metarl_jax.checks import checked, passes_on
from metarl_jax.tasks.locomotion.bodies import (
    Locomotion,
    direction_in_the_plane,
    forward_or_backward,
    locomotion_family,
)
from metarl_jax.types import NonNegativeFloat, TaskFamily


@checked
@passes_on(locomotion_family)
def humanoid_direction(
    *,
    control_cost: NonNegativeFloat = 0.016,
    **locomotion: Any,
) -> TaskFamily:
    r"""Humanoid that must run forward or backward (Rothfuss et al., 2018).

    Two tasks: ``task`` is +1 or -1 (``[]``).

    .. math:: r = 1.25\,d\,v_x + 5 - c\,\lVert a \rVert^2

    with direction ``d``, forward velocity of the torso ``v_x`` (m/s), control cost ``c``, and ``a`` the environment's
    action in [-1, 1] after scaling and clipping. MuJoCo's own control cost, 0.1, is for torques of at most 0.4: 0.016
    is the same.

    Args:
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = humanoid_direction(horizon=100)
      >>> family.observation_shape, family.action.size
      ((244,), 17)
    """
    definition = Locomotion(
        "humanoid",
        forward_or_backward,
        lambda direction, velocity, next: 1.25 * direction * velocity[0] + 5.0,
        num_tasks=2,
    )
    return locomotion_family(definition, control_cost=control_cost, **locomotion)


@checked
@passes_on(locomotion_family)
def humanoid_direction_2d(
    *,
    control_cost: NonNegativeFloat = 0.016,
    **locomotion: Any,
) -> TaskFamily:
    r"""Humanoid that must run in a direction of the plane (Rothfuss et al., 2018).

    ``task`` is a unit vector, uniform on the circle (``[2]``); the reward is that of
    :func:`humanoid_direction` with the velocity along it. Held-out tasks are fresh draws.

    Args:
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = humanoid_direction_2d(horizon=100)
      >>> family.observation_shape, family.action.size
      ((244,), 17)
    """
    definition = Locomotion(
        "humanoid",
        direction_in_the_plane,
        lambda direction, velocity, next: 1.25 * jnp.dot(direction, velocity[:2]) + 5.0,
    )
    return locomotion_family(definition, control_cost=control_cost, **locomotion)
