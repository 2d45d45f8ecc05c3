"""Task families. ``FAMILIES`` names every factory that a config file can ask for: one file, one row each."""

from collections.abc import Callable

from metarl_jax.tasks.bandit import bandit_bernoulli, bandit_gaussian
from metarl_jax.tasks.half_cheetah import half_cheetah_direction, half_cheetah_velocity
from metarl_jax.tasks.minatar import minatar_games, minatar_variants
from metarl_jax.tasks.navigation import navigation_corner, navigation_finn
from metarl_jax.tasks.tabular import tabular_mdp
from metarl_jax.types import TaskFamily

FAMILIES: dict[str, Callable[..., TaskFamily]] = {
    "navigation_finn": navigation_finn,
    "navigation_corner": navigation_corner,
    "half_cheetah_direction": half_cheetah_direction,
    "half_cheetah_velocity": half_cheetah_velocity,
    "bandit_bernoulli": bandit_bernoulli,
    "bandit_gaussian": bandit_gaussian,
    "tabular_mdp": tabular_mdp,
    "minatar_variants": minatar_variants,
    "minatar_games": minatar_games,
}
