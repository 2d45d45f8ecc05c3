"""Task families. ``FAMILIES`` names every factory that a config file can ask for: one file, one row each."""

from collections.abc import Callable

from metarl_jax.tasks.discrete.bandit import bandit_bernoulli, bandit_gaussian
from metarl_jax.tasks.discrete.tabular import tabular_mdp
from metarl_jax.tasks.games.minatar import minatar_games, minatar_variants
from metarl_jax.tasks.locomotion.ant import ant_direction, ant_direction_2d, ant_goal, ant_velocity
from metarl_jax.tasks.locomotion.half_cheetah import half_cheetah_direction, half_cheetah_velocity
from metarl_jax.tasks.locomotion.hopper import hopper_velocity
from metarl_jax.tasks.locomotion.humanoid import humanoid_direction, humanoid_direction_2d
from metarl_jax.tasks.locomotion.new_physics import crippled_joint, random_dynamics, sloped_ground
from metarl_jax.tasks.locomotion.swimmer import swimmer_velocity
from metarl_jax.tasks.locomotion.walker import walker_direction, walker_velocity
from metarl_jax.tasks.navigation.goals import navigation_corner, navigation_finn
from metarl_jax.tasks.navigation.momentum import navigation_momentum
from metarl_jax.tasks.navigation.walls import navigation_walls
from metarl_jax.types import TaskFamily

FAMILIES: dict[str, Callable[..., TaskFamily]] = {
    "navigation_finn": navigation_finn,
    "navigation_corner": navigation_corner,
    "navigation_momentum": navigation_momentum,
    "navigation_walls": navigation_walls,
    "half_cheetah_direction": half_cheetah_direction,
    "half_cheetah_velocity": half_cheetah_velocity,
    "ant_direction": ant_direction,
    "ant_direction_2d": ant_direction_2d,
    "ant_goal": ant_goal,
    "ant_velocity": ant_velocity,
    "walker_direction": walker_direction,
    "walker_velocity": walker_velocity,
    "hopper_velocity": hopper_velocity,
    "humanoid_direction": humanoid_direction,
    "humanoid_direction_2d": humanoid_direction_2d,
    "swimmer_velocity": swimmer_velocity,
    "random_dynamics": random_dynamics,
    "crippled_joint": crippled_joint,
    "sloped_ground": sloped_ground,
    "bandit_bernoulli": bandit_bernoulli,
    "bandit_gaussian": bandit_gaussian,
    "tabular_mdp": tabular_mdp,
    "minatar_variants": minatar_variants,
    "minatar_games": minatar_games,
}
