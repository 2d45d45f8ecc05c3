"""Walker on Brax: walk forward or backward, or at a hidden velocity (Rothfuss et al., 2018).

A planar body of two legs; 17 observed numbers: joint positions and velocities, without the x position. An episode ends
when the torso is not between 0.8 and 2 m high or leans by more than 1 rad. A step lasts 0.008 s.
"""

from typing import Any

from metarl_jax.checks import checked, passes_on
from metarl_jax.tasks.locomotion.bodies import Locomotion, forward_or_backward, hold_velocity, locomotion_family
from metarl_jax.types import NonNegativeFloat, TaskFamily


@checked
@passes_on(locomotion_family)
def walker_direction(
    *,
    control_cost: NonNegativeFloat = 0.001,
    **locomotion: Any,
) -> TaskFamily:
    r"""Walker that must go forward or backward (Rothfuss et al., 2018).

    Two tasks: ``task`` is +1 or -1 (``[]``).

    .. math:: r = d\,v + 1 - c\,\lVert a \rVert^2

    with direction ``d``, forward velocity of the torso ``v`` (m/s), control cost ``c``, and ``a`` the environment's
    action after scaling and clipping.

    Args:
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = walker_direction(horizon=100)
      >>> family.observation_shape, family.action.size
      ((17,), 6)
    """
    definition = Locomotion(
        "walker", forward_or_backward, lambda direction, velocity, next: direction * velocity[0] + 1.0, num_tasks=2
    )
    return locomotion_family(definition, control_cost=control_cost, **locomotion)


@checked
@passes_on(locomotion_family)
def walker_velocity(
    *,
    min_velocity: float = 0.0,
    max_velocity: float = 10.0,
    control_cost: NonNegativeFloat = 0.001,
    **locomotion: Any,
) -> TaskFamily:
    r"""Walker that must go forward at a hidden velocity (Rothfuss et al., 2018).

    ``task`` is v*, uniform on [min_velocity, max_velocity] (``[]``, m/s).

    .. math:: r = -\lvert v - v^* \rvert + 15 - c\,\lVert a \rVert^2

    Held-out tasks are fresh draws from the same distribution.

    Args:
      min_velocity: lowest target velocity, m/s.
      max_velocity: highest target velocity, m/s.
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = walker_velocity(horizon=100)
      >>> family.observation_shape, family.action.size
      ((17,), 6)
    """
    definition = hold_velocity("walker", min_velocity, max_velocity, bonus=15.0)
    return locomotion_family(definition, control_cost=control_cost, **locomotion)
