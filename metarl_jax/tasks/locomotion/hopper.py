"""Hopper: one leg that must hop forward at a hidden velocity.

Eleven observed numbers: joint positions and velocities, without the x position. A step lasts 0.008 s. The published
family of hoppers is :func:`metarl_jax.tasks.locomotion.new_physics.random_dynamics`.
"""

from typing import Any

from metarl_jax.checks import checked, passes_on
from metarl_jax.tasks.locomotion.bodies import hold_velocity, locomotion_family
from metarl_jax.types import NonNegativeFloat, TaskFamily


@checked
@passes_on(locomotion_family)
def hopper_velocity(
    *,
    min_velocity: float = 0.0,
    max_velocity: float = 2.0,
    control_cost: NonNegativeFloat = 0.001,
    **locomotion: Any,
) -> TaskFamily:
    r"""Hopper that must hop forward at a hidden velocity.

    ``task`` is v*, uniform on [min_velocity, max_velocity] (``[]``, m/s).

    .. math:: r = 1 - \lvert v - v^* \rvert - c\,\lVert a \rVert^2

    with forward velocity of the torso ``v`` (m/s), control cost ``c``, and ``a`` the environment's action after scaling
    and clipping. An episode ends when the torso is not above 0.7 m or leans by 0.2 rad. Held-out tasks are fresh draws.

    Args:
      min_velocity: lowest target velocity, m/s.
      max_velocity: highest target velocity, m/s.
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = hopper_velocity(horizon=100)
      >>> family.observation_shape, family.action.size
      ((11,), 3)
    """
    definition = hold_velocity("hopper", min_velocity, max_velocity, bonus=1.0)
    return locomotion_family(definition, control_cost=control_cost, **locomotion)
