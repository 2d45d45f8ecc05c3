"""A body's physics as task data: arrays under ``vmap`` that change what a step does without recompiling it.

Brax's ``spring`` and ``positional`` engines do not have a body's own masses, inertias and damping, but numbers that
suit them: there, changing them may do nothing.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp

from metarl_jax.types import Array

if TYPE_CHECKING:
    from brax.envs import Env


class Physics(NamedTuple):
    """What differs from the body as built: multipliers, and gravity.

    Attributes:
      mass: ``[num_links]`` of each link's mass.
      inertia: ``[num_links, 3]`` of its principal moments of inertia.
      friction: ``[num_geoms, 3]`` of each shape's sliding, torsional and rolling friction, the floor's included.
      damping: ``[num_dofs]`` of each joint's damping.
      gear: ``[num_actuators]`` of each actuator's strength.
      gravity: ``[3]`` m/s^2.
    """

    mass: Array
    inertia: Array
    friction: Array
    damping: Array
    gear: Array
    gravity: Array


def unchanged(env: "Env") -> Physics:
    """The physics that leaves a body as it is, bit for bit.

    Returns:
      Multipliers of one, and the body's own gravity.

    Example:
      >>> from metarl_jax.tasks.adapters.brax import load_env
      >>> unchanged(load_env("hopper", "mujoco")).mass.tolist()
      [1.0, 1.0, 1.0, 1.0]
    """
    system: Any = env.sys  # type: ignore[attr-defined]
    return Physics(
        mass=jnp.ones_like(system.link.inertia.mass),
        inertia=jnp.ones((len(system.link.inertia.mass), 3)),
        friction=jnp.ones(system.geom_friction.shape),
        damping=jnp.ones_like(system.dof.damping),
        gear=jnp.ones_like(system.actuator.gear),
        gravity=jnp.asarray(system.opt.gravity if on_mujoco(env) else system.gravity),
    )


def on_mujoco(env: Any) -> bool:
    """Whether MuJoCo's numbers step a Brax environment, in JAX or in C, rather than Brax's own beside them.

    Example:
      >>> from metarl_jax.tasks.adapters.brax import load_env
      >>> on_mujoco(load_env("swimmer", "mujoco")), on_mujoco(load_env("hopper", "generalized"))
      (True, False)
    """
    return env.backend == "mjx" or getattr(env, "on_host", False)


def with_physics(system: Any, physics: Physics) -> Any:
    """A Brax system with other physics, for whichever engine steps it.

    Args:
      system: ``env.sys``.
      physics: what to change.

    Returns:
      A new system. Numbers that Brax derived from the old one when the environment was made stay as they are.

    Example:
      >>> from metarl_jax.tasks.adapters.brax import load_env
      >>> env = load_env("hopper", "mujoco")
      >>> heavier = unchanged(env)._replace(mass=jnp.full(4, 2.0))
      >>> (with_physics(env.sys, heavier).body_mass[1:] / env.sys.body_mass[1:]).tolist()
      [2.0, 2.0, 2.0, 2.0]
    """
    roots = jnp.sqrt(physics.inertia)
    in_brax = {
        "link.inertia.mass": system.link.inertia.mass * physics.mass,
        "link.inertia.i": system.link.inertia.i * roots[:, :, None] * roots[:, None, :],
        "dof.damping": system.dof.damping * physics.damping,
        "actuator.gear": system.actuator.gear * physics.gear,
        "gravity": physics.gravity,
    }
    bodies = jnp.ones((1, 3)), physics.inertia  # MuJoCo's first body is the world
    in_mujoco = {
        "body_mass": system.body_mass * jnp.concatenate([jnp.ones(1), physics.mass]),
        "body_inertia": system.body_inertia * jnp.concatenate(bodies),
        "geom_friction": system.geom_friction * physics.friction,
        "dof_damping": system.dof_damping * physics.damping,
        "actuator_gear": system.actuator_gear * physics.gear[:, None],
        "opt.gravity": physics.gravity,
    }
    return system.tree_replace({**in_brax, **in_mujoco})
