"""Swimmer: swim at a hidden velocity (Rothfuss et al., 2018). Brax's own engines do not run this body; MuJoCo's do."""

from typing import Any, Literal

from metarl_jax.checks import checked, passes_on
from metarl_jax.tasks.locomotion.bodies import hold_velocity, locomotion_family
from metarl_jax.types import NonNegativeFloat, TaskFamily


@checked
@passes_on(locomotion_family)
def swimmer_velocity(
    *,
    min_velocity: float = 0.1,
    max_velocity: float = 0.2,
    backend: Literal["mjx", "mujoco"] = "mujoco",
    control_cost: NonNegativeFloat = 0.0001,
    **locomotion: Any,
) -> TaskFamily:
    r"""Swimmer that must swim forward at a hidden velocity (Rothfuss et al., 2018).

    ``task`` is v*, uniform on [min_velocity, max_velocity] (``[]``, m/s). Episodes never terminate.

    .. math:: r = -\lvert v - v^* \rvert - c\,\lVert a \rVert^2

    with the velocity of the torso ``v`` along x and ``a`` the environment's action after scaling and clipping. Eight
    observed numbers: joint positions and velocities, without the place. (The published code has a sign error here.)
    Held-out tasks are fresh draws.

    Args:
      min_velocity: lowest target velocity, m/s.
      max_velocity: highest target velocity, m/s.
      backend: the physics engine: mjx, or mujoco (native speed on CPUs).
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = swimmer_velocity(horizon=100)
      >>> family.observation_shape, family.action.size
      ((8,), 2)
    """
    definition = hold_velocity("swimmer", min_velocity, max_velocity, terminates=False)
    return locomotion_family(definition, backend=backend, control_cost=control_cost, **locomotion)
