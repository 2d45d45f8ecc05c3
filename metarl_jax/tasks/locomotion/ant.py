"""Ant on Brax: run forward or backward, in a direction of the plane, at a velocity, or to a place.

All share body and observation (27 numbers: joint positions and velocities, without the x and y position); only the
reward tells the tasks apart. A step lasts 0.05 s. The contact cost of the original environments is left out: Brax does
not compute those forces.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked, passes_on
from metarl_jax.tasks.beyond import above
from metarl_jax.tasks.locomotion.bodies import (
    Locomotion,
    direction_in_the_plane,
    forward_or_backward,
    hold_velocity,
    locomotion_family,
)
from metarl_jax.types import Array, Key, NonNegativeFloat, PositiveFloat, TaskFamily


class DirectionWeights(NamedTuple):
    """What a step of :func:`ant_direction` costs and earns, besides the velocity."""

    control_cost: float
    alive: float


DIRECTION_WEIGHTS: dict[Literal["promp", "finn"], DirectionWeights] = {
    "promp": DirectionWeights(control_cost=0.5, alive=1.0),
    "finn": DirectionWeights(control_cost=0.005, alive=0.05),
}


@checked
@passes_on(locomotion_family)
def ant_direction(
    *,
    reward: Literal["promp", "finn"] = "promp",
    control_cost: NonNegativeFloat | None = None,
    **locomotion: Any,
) -> TaskFamily:
    r"""Ant that must run forward or backward (Finn et al., 2017; by default with the weights of Rothfuss et al., 2018).

    Two tasks: ``task`` is +1 or -1 (``[]``).

    .. math:: r = d\,v_x - c\,\lVert a \rVert^2 + b

    with direction ``d``, forward velocity of the torso over the step ``v_x`` (m/s), control cost ``c``, and ``a`` the
    environment's action after scaling and clipping. An episode ends when the torso is not between 0.2 and 1 m high, as
    Finn et al.'s do; ProMP's have no lower limit. Meta-testing uses the same two tasks: there are no others.

    Args:
      reward: whose weights: ``promp`` has c = 0.5 and b = 1, ``finn`` c = 0.005 and b = 0.05.
      control_cost: c, if it is to be another.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = ant_direction(reward="finn", horizon=100)
      >>> family.observation_shape, family.action.size, family.num_tasks
      ((27,), 8, 2)
    """
    weights = DIRECTION_WEIGHTS[reward]
    definition = Locomotion(
        "ant",
        forward_or_backward,
        lambda direction, velocity, next: direction * velocity[0] + weights.alive,
        num_tasks=2,
    )
    cost = weights.control_cost if control_cost is None else control_cost
    return locomotion_family(definition, control_cost=cost, **locomotion)


@checked
@passes_on(locomotion_family)
def ant_direction_2d(
    *,
    control_cost: NonNegativeFloat = 0.5,
    **locomotion: Any,
) -> TaskFamily:
    r"""Ant that must run in a direction of the plane (Rothfuss et al., 2018).

    ``task`` is a unit vector, uniform on the circle (``[2]``); the reward is ProMP's in :func:`ant_direction` with the
    velocity along it. Held-out tasks are fresh draws from the same distribution.

    Args:
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = ant_direction_2d(horizon=100)
      >>> family.observation_shape, family.action.size
      ((27,), 8)
    """
    definition = Locomotion(
        "ant", direction_in_the_plane, lambda direction, velocity, next: jnp.dot(direction, velocity[:2]) + 1.0
    )
    return locomotion_family(definition, control_cost=control_cost, **locomotion)


@checked
@passes_on(locomotion_family)
def ant_velocity(
    *,
    min_velocity: float = 0.0,
    max_velocity: float = 3.0,
    control_cost: NonNegativeFloat = 0.005,
    **locomotion: Any,
) -> TaskFamily:
    r"""Ant that must run forward at a hidden velocity (Finn et al., 2017).

    ``task`` is v*, uniform on [min_velocity, max_velocity] (``[]``, m/s).

    .. math:: r = 1 - \lvert v_x - v^* \rvert - c\,\lVert a \rVert^2 + 0.05

    An episode ends when the torso is not between 0.2 and 1 m high. Held-out tasks are fresh draws.

    Args:
      min_velocity: lowest target velocity, m/s.
      max_velocity: highest target velocity, m/s.
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = ant_velocity(horizon=100)
      >>> family.observation_shape, family.action.size
      ((27,), 8)
    """
    definition = hold_velocity("ant", min_velocity, max_velocity, bonus=1.05)
    return locomotion_family(definition, control_cost=control_cost, **locomotion)


@checked
@passes_on(locomotion_family)
def ant_goal(
    *,
    radius: PositiveFloat = 3.0,
    control_cost: NonNegativeFloat = 0.1,
    **locomotion: Any,
) -> TaskFamily:
    r"""Ant that must go to a hidden place (Rothfuss et al., 2018).

    ``task`` is a goal, uniform on the disc of ``radius`` (``[2]``, m).

    .. math:: r = -\lVert p - g \rVert_1 - c\,\lVert a \rVert^2

    with the torso's place ``p`` after the step. Episodes never terminate. Held-out tasks are fresh draws.

    Args:
      radius: of the disc, in metres.
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = ant_goal(horizon=100)
      >>> family.observation_shape, family.action.size
      ((27,), 8)
    """

    def sample(key: Key) -> Array:
        key_angle, key_radius = jax.random.split(key)
        distance = radius * jnp.sqrt(jax.random.uniform(key_radius, (), float))
        return distance * direction_in_the_plane(key_angle)

    def farther_away(key: Key) -> Array:
        key_angle, key_radius = jax.random.split(key)
        return above(key_radius, 0.0, radius) * direction_in_the_plane(key_angle)

    definition = Locomotion(
        "ant",
        sample,
        lambda goal, velocity, next: -jnp.sum(jnp.abs(next.x.pos[0, :2] - goal)),
        terminates=False,
        sample_beyond=farther_away,
    )
    return locomotion_family(definition, control_cost=control_cost, **locomotion)
