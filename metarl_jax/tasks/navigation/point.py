"""A point on the plane that is pushed about: what all navigation families share."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.types import ActionSpec, Array, Key, Paths, PositiveFloat, PositiveInt, Task, TaskFamily


class NavigationTask(NamedTuple):
    """``goal``: ``[2]`` where the point should go."""

    goal: Array


RewardAndEnd = Callable[[Task, Array, Array], tuple[Array, Array]]
"""``(task, state before, state after) -> (reward [], terminated [])``."""

RewardKind = Literal["sparse", "dense", "squared"]

CORNERS = ((2.0, 2.0), (2.0, -2.0), (-2.0, 2.0), (-2.0, -2.0))


def sample_corner(key: Key) -> NavigationTask:
    """One of the four corners, equally likely.

    Example:
      >>> abs(sample_corner(jax.random.key(0)).goal).tolist()
      [2.0, 2.0]
    """
    return NavigationTask(jnp.array(CORNERS)[jax.random.randint(key, (), 0, len(CORNERS))])


def start_in_the_middle(key: Key) -> Array:
    """A start uniform in ``[-0.2, 0.2]^2``.

    Example:
      >>> start_in_the_middle(jax.random.key(0)).shape
      (2,)
    """
    return jax.random.uniform(key, (2,), minval=-0.2, maxval=0.2)


def nearest_positions(goal: Array, max_push: float, horizon: int) -> Array:
    """The way from the origin on which every step ends as near to a goal as any way can get by then.

    The axes do not interact: full moves along each, until its distance is 0.

    Returns:
      ``[horizon, 2]`` the position after each step.

    Example:
      >>> nearest_positions(jnp.array([0.5, -0.25]), 0.25, 3).tolist()
      [[0.25, -0.25], [0.5, -0.25], [0.5, -0.25]]
    """
    farthest = max_push * jnp.arange(1, horizon + 1)[:, None]
    return jnp.sign(goal) * jnp.minimum(jnp.abs(goal), farthest)


@checked
def goal_reward(kind: RewardKind, sparse: Callable[[Task, Array, Array], Array]) -> RewardAndEnd:
    """A reward for coming near ``task.goal``, in episodes that never terminate.

    Args:
      kind: ``sparse``, ``dense`` for ``-|s' - g|``, ``squared`` for ``-|s' - g|^2``.
      sparse: the reward if ``sparse``.

    Returns:
      A function of the task and of the state before and after the move; a state begins with the position.

    Example:
      >>> reward_and_end = goal_reward("squared", sparse=lambda task, before, after: jnp.zeros(()))
      >>> reward_and_end(NavigationTask(jnp.array([3.0, 4.0])), jnp.zeros(2), jnp.zeros(2))[0].item()
      -25.0
    """

    def reward_and_end(task: Task, before: Array, after: Array) -> tuple[Array, Array]:
        if kind == "sparse":
            return sparse(task, before, after), jnp.array(False)
        distance = jnp.linalg.norm(after[:2] - task.goal)
        return -distance if kind == "dense" else -(distance**2), jnp.array(False)

    return reward_and_end


@checked
def point_family(
    *,
    sample: Callable[[Key], Task],
    start: Callable[[Key], Array],
    reward_and_end: RewardAndEnd,
    max_push: PositiveFloat,
    action_scale: PositiveFloat,
    horizon: PositiveInt,
    move: Callable[[Task, Array, Array], Array] = lambda task, state, push: state + push,
    observe: Callable[[Task, Array], Array] = lambda task, state: state,
    walls: Callable[[Task], Sequence[Any]] | None = None,
) -> TaskFamily:
    """A point that answers to the scaled, clipped action and, as a rule, sees its whole state, but not its task.

    An infinite action is clipped. One with a NaN pushes nothing, so the state stays finite; it is the policy's error,
    and shows as a NaN reward in its own episode.

    Args:
      sample: ``(key) -> task``.
      start: ``(key) -> [n]`` first state of an episode; it begins with the position.
      reward_and_end: judges the step, once the point has moved.
      max_push: the largest push per axis.
      action_scale: the policy output that means the largest push.
      horizon: steps per episode.
      move: ``(task, state, push [2]) -> state``; by default the push is a move.
      observe: ``(task, state) -> observation``, which begins with the position, too.
      walls: ``(task) -> lines`` to draw.

    Returns:
      The family; states ``[n]``, actions pushes ``[2]``.
    """

    def reset(task: Task, key: Key) -> tuple[Array, Array]:
        state = start(key)
        return state, observe(task, state)

    def control(action: Array) -> Array:
        is_number = ~jnp.any(jnp.isnan(action))
        return max_push * jnp.where(is_number, jnp.clip(action / action_scale, -1.0, 1.0), 0.0)

    def step(task: Task, state: Array, action: Array, key: Key) -> tuple[Array, Array, Array, Array]:
        is_number = ~jnp.any(jnp.isnan(action))
        moved = move(task, state, control(action))
        reward, terminated = reward_and_end(task, state, moved)
        return moved, observe(task, moved), jnp.where(is_number, reward, jnp.nan), terminated

    shape = jax.eval_shape(lambda key: reset(sample(key), key)[1], jax.random.key(0)).shape
    # The held-out tasks are further draws: the host takes them from a random stream that training never uses.
    picture = Paths(goal=lambda task: task.goal, walls=walls)
    return TaskFamily(sample, sample, reset, step, shape, ActionSpec(2), horizon, picture=picture, control=control)
