"""Half-cheetah on Brax: run in a hidden direction, or at a hidden velocity, after Finn et al. (2017, section 5.3).

Both families share body and observation (17 numbers: joint positions and velocities, without the x position);
only the reward tells the tasks apart. Episodes never terminate. A step lasts 0.05 s; in Finn et al., who observe 20
numbers, 0.01 s.
"""

from typing import Any

from metarl_jax.checks import checked, passes_on
from metarl_jax.tasks.adapters.brax import Backend
from metarl_jax.tasks.locomotion.bodies import Locomotion, forward_or_backward, hold_velocity, locomotion_family
from metarl_jax.types import NonNegativeFloat, TaskFamily


@checked
@passes_on(locomotion_family)
def half_cheetah_direction(
    *,
    backend: Backend = "spring",
    control_cost: NonNegativeFloat = 0.05,
    **locomotion: Any,
) -> TaskFamily:
    r"""Half-cheetah that must run forward or backward (Finn et al., 2017).

    Two tasks: ``task`` is +1 or -1 (``[]``).

    .. math:: r = d\,v - c\,\lVert a \rVert^2

    with direction ``d``, forward velocity ``v`` over the step (m/s), control cost ``c``, and ``a`` the environment's
    action after scaling and clipping. ``HalfCheetahEnvRandDirec`` of Finn et al. (2017); ProMP takes horizon 100
    and action_scale 10. There are no other tasks to hold out: meta-testing uses the same two.

    Args:
      backend: the physics engine: spring, generalized, positional, mjx, or mujoco (native speed on CPUs).
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> import jax
      >>> family = half_cheetah_direction(horizon=100)
      >>> float(abs(family.sample(jax.random.key(0))))
      1.0
    """
    definition = Locomotion(
        "half_cheetah",
        forward_or_backward,
        lambda direction, velocity, next: direction * velocity[0],
        terminates=False,
        num_tasks=2,
    )
    return locomotion_family(definition, backend=backend, control_cost=control_cost, **locomotion)


@checked
@passes_on(locomotion_family)
def half_cheetah_velocity(
    *,
    min_velocity: float = 0.0,
    max_velocity: float = 2.0,
    backend: Backend = "spring",
    control_cost: NonNegativeFloat = 0.05,
    **locomotion: Any,
) -> TaskFamily:
    r"""Half-cheetah that must run at a hidden velocity (Finn et al., 2017).

    ``task`` is v*, uniform on [min_velocity, max_velocity] (``[]``, m/s).

    .. math:: r = -\lvert v - v^* \rvert - c\,\lVert a \rVert^2

    with forward velocity ``v`` over the step (m/s), control cost ``c``, and ``a`` the environment's action after
    scaling and clipping. ``HalfCheetahEnvRand`` of Finn et al. (2017); ProMP takes max_velocity 3, horizon 100 and
    action_scale 10. Held-out tasks are fresh draws from the same distribution.

    Args:
      min_velocity: lowest target velocity, m/s.
      max_velocity: highest target velocity, m/s.
      backend: the physics engine: spring, generalized, positional, mjx, or mujoco (native speed on CPUs).
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = half_cheetah_velocity(max_velocity=3.0)
      >>> family.observation_shape, family.action.size
      ((17,), 6)
    """
    definition = hold_velocity("half_cheetah", min_velocity, max_velocity, terminates=False)
    return locomotion_family(definition, backend=backend, control_cost=control_cost, **locomotion)
