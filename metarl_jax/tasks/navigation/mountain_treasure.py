"""2D navigation with a dear look-out: a mountain from whose top a treasure on the circle around it is seen."""

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import checked
from metarl_jax.tasks.navigation.half_circle import at_angle
from metarl_jax.tasks.navigation.point import NavigationTask, point_family
from metarl_jax.types import Array, Key, PositiveFloat, PositiveInt, TaskFamily

START = (0.0, -1.0)
BORDER = 1.5
MAX_PUSH = 0.1
MOUNTAIN_RADIUS, TOP_RADIUS, TREASURE_RADIUS = 0.5, 0.1, 0.1
WITHIN_REACH = TREASURE_RADIUS + 1e-6  # what 19 moves add up to is rounded in 32 bits
FARTHEST = 19  # steps from the start to the treasure, wherever it is


@checked
def mountain_treasure(*, horizon: PositiveInt = 100, action_scale: PositiveFloat = 1.0) -> TaskFamily:
    """Climb a mountain to see where the treasure is, or search for it all around (HyperX; Zintgraf et al., 2021).

    The task is where the treasure lies, anywhere on the unit circle; its radius is 0.1. Episodes start at (0, -1) and
    never terminate; moves are at most 0.1 per axis and end at a border, 1.5 along each. With the distance ``r`` from
    the origin after the move, the reward is 1 at the treasure, ``-1 - (0.5 - r)`` on the mountain, up to r = 0.5, and
    ``-max(1, r)`` elsewhere. Only within 0.1 of the mountain's top is the treasure seen.

    One who knows where it is goes around the mountain and loses no step by it, so the optimum is exact: 1 from the
    first step on that can reach the treasure, -1 before. Of one who has to search, no exact value is known.

    Args:
      horizon: steps per episode.
      action_scale: the policy output that means a full move of 0.1.

    Returns:
      The family; observations ``[4]`` are the position and that of the treasure, (0, 0) while it is not seen; actions
      moves ``[2]``.

    Example:
      >>> family, task = mountain_treasure(), NavigationTask(jnp.array([1.0, 0.0]))
      >>> family.step(task, jnp.array([0.0, 0.1]), jnp.array([0.0, -1.0]), jax.random.key(0))[1].tolist()
      [0.0, 0.0, 1.0, 0.0]
      >>> float(family.optimum(task))  # nine steps bring one to (0.9, -0.1), the tenth to the treasure
      82.0
    """

    def sample(key: Key) -> NavigationTask:
        return at_angle(jax.random.uniform(key, maxval=2.0 * jnp.pi))

    def observe(task: NavigationTask, position: Array) -> Array:
        is_seen = jnp.linalg.norm(position) < TOP_RADIUS
        return jnp.concatenate([position, jnp.where(is_seen, task.goal, 0.0)])

    def reward_and_end(task: NavigationTask, position: Array, moved: Array) -> tuple[Array, Array]:
        radius = jnp.linalg.norm(moved)
        off_mountain = jnp.where(is_there(task, moved), 1.0, -jnp.maximum(1.0, radius))
        on_mountain = -1.0 - (MOUNTAIN_RADIUS - radius)
        return jnp.where(radius <= MOUNTAIN_RADIUS, on_mountain, off_mountain), jnp.array(False)

    def optimum(task: NavigationTask) -> Array:
        before = jnp.minimum(steps_to_treasure(task) - 1, horizon)
        return (horizon - 2 * before).astype(task.goal.dtype)

    around = 2.0 * np.pi * np.linspace(0.0, 1.0, 91)[:, None]
    foot = MOUNTAIN_RADIUS * np.concatenate([np.cos(around), np.sin(around)], axis=1)
    return point_family(
        sample=sample,
        start=lambda key: jnp.array(START),
        move=lambda task, position, push: jnp.clip(position + push, -BORDER, BORDER),
        reward_and_end=reward_and_end,
        max_push=MAX_PUSH,
        action_scale=action_scale,
        horizon=horizon,
        observe=observe,
        walls=lambda task: [foot],
    )._replace(success=is_there, optimum=optimum)


def is_there(task: NavigationTask, position: Array) -> Array:
    """Whether a place is the treasure's; ``[]`` boolean."""
    return jnp.linalg.norm(position - task.goal) <= WITHIN_REACH


def steps_to_treasure(task: NavigationTask) -> Array:
    """The first step that can end at the treasure, as many as it takes its disc to meet the square one can be in."""
    reach = MAX_PUSH * jnp.arange(1, FARTHEST + 1)[:, None]
    short_of = jnp.maximum(jnp.abs(task.goal - jnp.array(START)) - reach, 0.0)
    return 1 + jnp.sum(jnp.linalg.norm(short_of, axis=-1) > WITHIN_REACH)
