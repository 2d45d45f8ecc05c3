"""Half-cheetah on Brax: run in a hidden direction, or at a hidden velocity (Finn et al., 2017, section 5.3).

Both families share body and observation (17 numbers: joint positions and velocities, without the x position);
only the reward tells the tasks apart. Episodes never terminate. A step lasts 0.05 s.
"""

import jax.numpy as jnp

from metarl_jax.tasks.brax_adapter import Backend
from metarl_jax.tasks.locomotion import forward_or_backward, locomotion_family, target_velocity
from metarl_jax.types import NonNegativeFloat, PositiveFloat, PositiveInt, TaskFamily


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
      backend: the physics engine: spring, generalized, positional, mjx, or mujoco (native speed on CPUs).
      action_scale: the policy output that maps to full torque; larger outputs are clipped.
      control_cost: weight of the squared norm of the action.

    Returns:
      The task family.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> family = half_cheetah_direction(horizon=100)
      >>> import jax
      >>> float(abs(family.sample(jax.random.key(0))))
      1.0
    """
    return locomotion_family(
        "half_cheetah",
        sample=forward_or_backward,
        objective=lambda direction, velocity, next: direction * velocity[0],
        control_cost=control_cost,
        terminates=False,
        backend=backend,
        horizon=horizon,
        action_scale=action_scale,
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
      backend: the physics engine: spring, generalized, positional, mjx, or mujoco (native speed on CPUs).
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
    sample = target_velocity(min_velocity, max_velocity)
    return locomotion_family(
        "half_cheetah",
        sample=sample,
        objective=lambda target, velocity, next: -jnp.abs(velocity[0] - target),
        control_cost=control_cost,
        terminates=False,
        backend=backend,
        horizon=horizon,
        action_scale=action_scale,
    )
