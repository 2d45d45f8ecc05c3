"""Task families. ``FAMILIES`` names every factory that a config file can ask for: one file, one row each."""

from collections.abc import Callable

from metarl_jax.tasks.half_cheetah import half_cheetah_direction, half_cheetah_velocity
from metarl_jax.tasks.navigation import navigation_corner, navigation_finn
from metarl_jax.types import TaskFamily

FAMILIES: dict[str, Callable[..., TaskFamily]] = {
    "navigation_finn": navigation_finn,
    "navigation_corner": navigation_corner,
    "half_cheetah_direction": half_cheetah_direction,
    "half_cheetah_velocity": half_cheetah_velocity,
}
