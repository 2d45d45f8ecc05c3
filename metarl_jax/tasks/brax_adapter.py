"""The name under which :mod:`metarl_jax.tasks.adapters.brax` is known to code written for version 0.1."""

from metarl_jax.tasks.adapters.brax import (
    Backend,
    BraxState,
    PhysicsState,
    brax_family,
    load_env,
    scale_action,
    torso_velocity,
)

__all__ = ["Backend", "BraxState", "PhysicsState", "brax_family", "load_env", "scale_action", "torso_velocity"]
