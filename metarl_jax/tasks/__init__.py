"""Task families. ``FAMILIES`` names every factory that a config file can ask for: one file, one row each."""

from metarl_jax.tasks.navigation import navigation_corner, navigation_finn

FAMILIES = {
    "navigation_finn": navigation_finn,
    "navigation_corner": navigation_corner,
}
