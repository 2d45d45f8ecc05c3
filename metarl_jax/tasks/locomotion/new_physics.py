"""Bodies under physical conditions that they have not met: random dynamics, a crippled joint, a slope.

The reward is the same for all tasks, forward velocity, so only how the body responds tells them apart:

    r = v + alive - c ||a||^2

with the forward velocity of the torso ``v`` (m/s), the bonus ``alive`` of the body's original environment (1 for ant,
walker and hopper, 5 for humanoid, 0 for half-cheetah), control cost ``c``, and ``a`` the environment's action after
scaling and clipping. An episode ends when the body has fallen.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from annotated_types import Lt

from metarl_jax.checks import checked, passes_on
from metarl_jax.tasks.adapters.brax import load_env
from metarl_jax.tasks.adapters.physics import Physics, unchanged
from metarl_jax.tasks.beyond import around
from metarl_jax.tasks.locomotion.bodies import BODIES, Locomotion, locomotion_family
from metarl_jax.types import (
    Array,
    Key,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Task,
    TaskFamily,
    require,
)

TrueBackend = Literal["mujoco", "mjx", "generalized"]
"""The engines that use a body's masses and inertias as they are: ``spring`` and ``positional`` make up their own."""
LeggedBody = Literal["walker", "hopper", "ant", "half_cheetah", "humanoid"]
STANDARD_GRAVITY = 9.81


@checked
@passes_on(locomotion_family)
def random_dynamics(
    *,
    body: LeggedBody = "walker",
    log_scale: PositiveFloat = 3.0,
    backend: TrueBackend = "mujoco",
    control_cost: NonNegativeFloat = 1e-3,
    **locomotion: Any,
) -> TaskFamily:
    """Bodies of random mass, inertia, friction and damping (Rothfuss et al., 2018).

    ``task`` is :class:`Physics`. Every number is multiplied by its own factor: masses, moments of inertia and frictions
    by ``1.5^u``, joint damping by ``1.3^u``, with ``u`` uniform on ``[-log_scale, log_scale]``. Held-out tasks are
    fresh draws from the same distribution; out of distribution, ``u`` has a size from 1 to 1.5 times ``log_scale``.

    Args:
      body: walker, hopper, ant, half_cheetah or humanoid.
      log_scale: largest exponent of a factor; published: 3, so masses from 0.3 to 3.4 times the body's own.
      backend: the physics engine: generalized, mjx, or mujoco (native speed on CPUs).
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = random_dynamics(body="hopper")
      >>> family.sample(jax.random.key(0)).mass.shape
      (4,)
    """
    normal = unchanged(load_env(BODIES[body].env, backend))

    def exponents_within(key: Key, shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, float, -log_scale, log_scale)

    def sample_beyond(key: Key) -> Physics:
        return sample(key, partial(around, half_width=log_scale))

    def sample(key: Key, exponents: Callable[[Key, tuple[int, ...]], Array] = exponents_within) -> Physics:
        def factors(key: Key, like: Array, base: float) -> Array:
            return base ** exponents(key, like.shape)

        key_mass, key_inertia, key_friction, key_damping = jax.random.split(key, 4)
        return normal._replace(
            mass=factors(key_mass, normal.mass, 1.5),
            inertia=factors(key_inertia, normal.inertia, 1.5),
            friction=factors(key_friction, normal.friction, 1.5),
            damping=factors(key_damping, normal.damping, 1.3),
        )

    definition = _run_forward(body, sample, lambda task: task, sample_beyond=sample_beyond)
    return locomotion_family(definition, backend=backend, control_cost=control_cost, **locomotion)


@checked
@passes_on(locomotion_family)
def crippled_joint(
    *,
    body: LeggedBody = "ant",
    num_held_out: PositiveInt = 2,
    backend: TrueBackend = "mujoco",
    control_cost: NonNegativeFloat = 1e-3,
    **locomotion: Any,
) -> TaskFamily:
    """Bodies of which one actuator is dead (Nagabandi et al., 2019).

    ``task`` is the actuator's number (``[]``). The last ``num_held_out`` actuators die only in meta-testing.

    Args:
      body: walker, hopper, ant, half_cheetah or humanoid.
      num_held_out: how many actuators are kept for meta-testing.
      backend: the physics engine: generalized, mjx, or mujoco (native speed on CPUs).
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = crippled_joint(body="ant")
      >>> 0 <= int(family.sample(jax.random.key(0))) < 6 <= int(family.sample_held_out(jax.random.key(0))) < 8
      True
    """
    normal = unchanged(load_env(BODIES[body].env, backend))
    num_actuators = len(normal.gear)
    require(
        0 < num_held_out < num_actuators,
        "num_held_out",
        num_held_out,
        f"must be between 1 and {num_actuators - 1}: the body has {num_actuators} actuators",
    )
    first_held_out = num_actuators - num_held_out

    def cripple(task: Array) -> Physics:
        return normal._replace(gear=normal.gear.at[task].set(0.0))

    definition = _run_forward(
        body,
        lambda key: jax.random.randint(key, (), 0, first_held_out),
        cripple,
        sample_held_out=lambda key: jax.random.randint(key, (), first_held_out, num_actuators),
    )
    return locomotion_family(definition, backend=backend, control_cost=control_cost, **locomotion)


@checked
@passes_on(locomotion_family)
def sloped_ground(
    *,
    body: LeggedBody = "half_cheetah",
    max_slope: Annotated[PositiveFloat, Lt(1.5)] = 0.2,
    max_gravity_change: Annotated[NonNegativeFloat, Lt(1)] = 0.0,
    backend: TrueBackend = "mujoco",
    control_cost: NonNegativeFloat = 1e-3,
    **locomotion: Any,
) -> TaskFamily:
    """Bodies on ground that rises or falls, under weaker or stronger gravity.

    ``task`` is the slope in radians, positive uphill, and the factor of gravity (``[2]``), uniform on
    ``[-max_slope, max_slope]`` and ``1 -+ max_gravity_change``. The ground stays flat in the simulation; gravity turns.
    Held-out tasks are fresh draws from the same distribution; out of distribution, both are up to half as far again
    from the middle, slopes at most 1.5.

    Args:
      body: walker, hopper, ant, half_cheetah or humanoid.
      max_slope: steepest slope, up or down, in radians; less than pi / 2.
      max_gravity_change: largest change of gravity's strength, as a fraction; less than 1.
      backend: the physics engine: generalized, mjx, or mujoco (native speed on CPUs).
      control_cost: weight of the squared norm of the action.
      **locomotion: ``horizon`` and the rest of :func:`metarl_jax.tasks.locomotion.bodies.locomotion_family`.

    Example:
      >>> family = sloped_ground(max_slope=0.1)
      >>> abs(float(family.sample(jax.random.key(0))[0])) <= 0.1
      True
    """
    normal = unchanged(load_env(BODIES[body].env, backend))
    widths = jnp.array([max_slope, max_gravity_change])

    def sample(key: Key) -> Array:
        return jnp.array([0.0, 1.0]) + widths * jax.random.uniform(key, (2,), minval=-1.0)

    def sample_beyond(key: Key) -> Array:
        slope, strength = jnp.array([0.0, 1.0]) + around(key, (2,), widths)
        return jnp.stack([jnp.clip(slope, -1.5, 1.5), jnp.maximum(strength, 0.0)])  # nothing falls upwards

    def tilt(task: Array) -> Physics:
        slope, strength = task
        down = jnp.stack([-jnp.sin(slope), jnp.zeros(()), -jnp.cos(slope)])
        return normal._replace(gravity=STANDARD_GRAVITY * strength * down)

    definition = _run_forward(body, sample, tilt, sample_beyond=sample_beyond)
    return locomotion_family(definition, backend=backend, control_cost=control_cost, **locomotion)


def _run_forward(
    body: LeggedBody,
    sample: Callable[[Key], Task],
    physics: Callable[[Task], Physics],
    sample_held_out: Callable[[Key], Task] | None = None,
    sample_beyond: Callable[[Key], Task] | None = None,
) -> Locomotion:
    alive = BODIES[body].alive_bonus
    return Locomotion(
        body,
        sample,
        lambda task, velocity, next: velocity[0] + alive,
        physics=physics,
        sample_held_out=sample_held_out,
        sample_beyond=sample_beyond,
    )
