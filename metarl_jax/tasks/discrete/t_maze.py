"""A corridor with a fork at its end: what was shown at the very start says which way pays (Bakker, 2001)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import checked
from metarl_jax.tasks.choices import checked_choice
from metarl_jax.types import ActionSpec, Array, Key, PositiveInt, TaskFamily

MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))
RIGHT, UP, _, DOWN = range(len(MOVES))


class MazeState(NamedTuple):
    """``along`` the corridor, from 0; ``aside`` of it, -1 to 1, at its end; ``time``, steps taken. All ``[]``."""

    along: Array
    aside: Array
    time: Array


@checked
def t_maze(*, length: PositiveInt = 10) -> TaskFamily:
    """Remember a sign over a corridor of any length: the passive T-maze, as Ni et al. (2023) have it.

    The task is the cue, +1 or -1 (``[]``). An episode takes ``length + 1`` steps, as many as there are to the end of
    the corridor and one to a side: its last reward is 1 on the side of the cue, else 0. Before that, a step after
    which one is behind time, less far along than steps were taken, costs ``1 / length``. So going straight and
    remembering earns 1, guessing 0.5, and any step lost makes success impossible.

    The cue is seen in the first observation of each episode, and never again.

    Args:
      length: of the corridor, in steps.

    Returns:
      The family; observations ``[2]`` are ``(0, cue)`` at first, ``(0, 0)`` in the corridor and ``(1, aside)`` at its
      end; actions are right, up, left, down. It terminates at its last step, so that nothing is hoped for beyond it.

    Example:
      >>> family = t_maze(length=1)
      >>> state, seen = family.reset(jnp.float32(-1), jax.random.key(0))
      >>> state, after, *_ = family.step(jnp.float32(-1), state, jnp.array(0), jax.random.key(0))
      >>> seen.tolist(), after.tolist()
      ([0.0, -1.0], [1.0, 0.0])
    """
    moves = jnp.array(MOVES)

    def reset(task: Array, key: Key) -> tuple[MazeState, Array]:
        return MazeState(*jnp.zeros((3,), int)), jnp.stack([jnp.zeros_like(task), task])

    def step(task: Array, state: MazeState, action: Array, key: Key) -> tuple[MazeState, Array, Array, Array]:
        choice, is_valid = checked_choice(action, len(MOVES))
        along, aside = jnp.stack([state.along, state.aside]) + moves[choice]
        at_end = along == length
        is_open = (along >= 0) & (along <= length) & (jnp.abs(aside) <= at_end)
        along, aside = jnp.where(is_open, along, state.along), jnp.where(is_open, aside, state.aside)
        following = MazeState(along, aside, state.time + 1)
        is_over = following.time > length
        late = jnp.where(along < following.time, -1.0 / length, 0.0)
        reward = jnp.where(is_over, succeeded(task, following), late)
        observation = jnp.stack([along == length, aside]).astype(task.dtype)
        return following, observation, jnp.where(is_valid, reward, jnp.nan), is_over

    def optimal_action(task: Array, state: MazeState, time: Array) -> Array:
        return jnp.where(state.along < length, RIGHT, jnp.where(task > 0, UP, DOWN))

    def sample(key: Key) -> Array:
        return jax.random.rademacher(key, (), float)

    family = TaskFamily(sample, sample, reset, step, (2,), ActionSpec(len(MOVES), discrete=True), length + 1)
    return family._replace(
        success=succeeded,
        optimum=lambda task: jnp.ones_like(task),
        bayes_optimum=np.ones,  # the cue tells all, at the first look
        optimal_action=optimal_action,
        num_tasks=2,
    )


def succeeded(task: Array, state: MazeState) -> Array:
    """Whether one stands on the side of the cue, where no earlier step than the last can lead; ``[]`` boolean."""
    return state.aside == task
