import collections.abc

import metarl_jax.types

from .discrete.alchemy import alchemy_symbolic as alchemy_symbolic
from .discrete.any_mdp import any_mdp as any_mdp
from .discrete.bandit import bandit_bernoulli as bandit_bernoulli
from .discrete.bandit import bandit_gaussian as bandit_gaussian
from .discrete.bus_city import bus_city as bus_city
from .discrete.dark_key_door import dark_key_door as dark_key_door
from .discrete.dark_room import dark_room as dark_room
from .discrete.grid_navi import grid_navi as grid_navi
from .discrete.t_maze import t_maze as t_maze
from .discrete.tabular import tabular_mdp as tabular_mdp
from .games.minatar import minatar_games as minatar_games
from .games.minatar import minatar_variants as minatar_variants
from .locomotion.ant import ant_direction as ant_direction
from .locomotion.ant import ant_direction_2d as ant_direction_2d
from .locomotion.ant import ant_goal as ant_goal
from .locomotion.ant import ant_velocity as ant_velocity
from .locomotion.half_cheetah import half_cheetah_direction as half_cheetah_direction
from .locomotion.half_cheetah import half_cheetah_velocity as half_cheetah_velocity
from .locomotion.hopper import hopper_velocity as hopper_velocity
from .locomotion.humanoid import humanoid_direction as humanoid_direction
from .locomotion.humanoid import humanoid_direction_2d as humanoid_direction_2d
from .locomotion.new_physics import crippled_joint as crippled_joint
from .locomotion.new_physics import random_dynamics as random_dynamics
from .locomotion.new_physics import sloped_ground as sloped_ground
from .locomotion.swimmer import swimmer_velocity as swimmer_velocity
from .locomotion.walker import walker_direction as walker_direction
from .locomotion.walker import walker_velocity as walker_velocity
from .navigation.goals import navigation_corner as navigation_corner
from .navigation.goals import navigation_finn as navigation_finn
from .navigation.half_circle import navigation_half_circle as navigation_half_circle
from .navigation.momentum import navigation_momentum as navigation_momentum
from .navigation.mountain_treasure import mountain_treasure as mountain_treasure
from .navigation.walls import navigation_walls as navigation_walls

FAMILIES: collections.abc.Mapping[str, collections.abc.Callable[..., metarl_jax.types.TaskFamily]]
