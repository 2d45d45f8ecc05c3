"""A city whose buses go one does not know where: finding that out pays in every later episode (Liu et al., 2021)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.tasks.choices import checked_choice
from metarl_jax.tasks.discrete.bus_belief import CENTRE, ENDS, GOALS, SIDE, STEP_COST, STOPS, STREETS, bayes_optimum
from metarl_jax.types import ActionSpec, Array, Key, PositiveInt, TaskFamily

RIDE = len(STREETS)


class CityState(NamedTuple):
    """``cell``: 9 x + y; ``goal``: index in ``GOALS``. Both ``[]``."""

    cell: Array
    goal: Array


@checked
def bus_city(*, horizon: PositiveInt = 20) -> TaskFamily:
    """Reach a named corner of a city of 9 x 9, by unknown buses or on foot (DREAM; Liu et al., 2021).

    The task says which end each of the four buses around the centre goes to, one of 24 permutations (``[4]``); a bus
    takes one back, too. Episodes start in the centre, with a corner to reach, drawn anew in each. A step costs 0.1,
    arriving earns 1 and ends the episode. On foot that makes 0.3, with the right bus 0.8.

    DREAM's actions that do nothing here (wait, pick up, drop) and the one that gives up are left out, and what it
    embeds is one-hot.

    Args:
      horizon: steps per episode.

    Returns:
      The family; observations ``[23]`` are x, y and the goal as one-hot, and whether there is a bus; actions are left,
      up, right, down, ride.

    Example:
      >>> family = bus_city()
      >>> task = family.sample(jax.random.key(0))
      >>> round(float(family.optimum(task)), 3), family.bayes_optimum(2).round(3).tolist()
      (0.8, [0.2, 0.7])
    """

    def reset(task: Array, key: Key) -> tuple[CityState, Array]:
        state = CityState(jnp.asarray(CENTRE[0]), jax.random.randint(key, (), 0, len(GOALS)))
        return state, observe(state)

    def step(task: Array, state: CityState, action: Array, key: Key) -> tuple[CityState, Array, Array, Array]:
        choice, is_valid = checked_choice(action, RIDE + 1)
        following = state._replace(cell=ways(task)[choice, state.cell])
        arrived = following.cell == jnp.asarray(GOALS)[state.goal]
        reward = jnp.where(arrived, 1.0, STEP_COST)
        return following, observe(following), jnp.where(is_valid, reward, jnp.nan), arrived & is_valid

    def optimal_action(task: Array, state: CityState, time: Array) -> Array:
        return jnp.argmax(action_values(task, horizon)[time, state.goal, :, state.cell])

    def optimum(task: Array) -> Array:
        return jnp.mean(jnp.max(action_values(task, horizon)[0, :, :, CENTRE[0]], axis=-1))

    def sample(key: Key) -> Array:
        return jax.random.permutation(key, len(STOPS))

    family = TaskFamily(sample, sample, reset, step, (2 * SIDE + 5,), ActionSpec(RIDE + 1, discrete=True), horizon)
    return family._replace(
        success="termination",
        optimum=optimum,
        bayes_optimum=lambda episodes: bayes_optimum(episodes, horizon),
        optimal_action=optimal_action,
        num_tasks=24,
    )


def observe(state: CityState) -> Array:
    """What is seen: ``[23]``."""
    x, y = jnp.divmod(state.cell, SIDE)
    is_stop = jnp.any(state.cell == jnp.asarray([*STOPS, *ENDS]))
    return jnp.concatenate(
        [jax.nn.one_hot(x, SIDE), jax.nn.one_hot(y, SIDE), is_stop[None], jax.nn.one_hot(state.goal, len(GOALS))]
    )


def ways(task: Array) -> Array:
    """``[5, 81]`` the cell that each action leads to from each."""
    ends = jnp.asarray(ENDS)[task]
    bus = jnp.arange(SIDE**2).at[jnp.asarray(STOPS)].set(ends).at[ends].set(jnp.asarray(STOPS))
    return jnp.concatenate([jnp.asarray(STREETS), bus[None]])


def action_values(task: Array, horizon: int) -> Array:
    """``[T, 4, 5, 81]`` what one who knows the task earns at best from a step on, by goal, action and cell."""
    is_goal = jnp.asarray(GOALS)[:, None] == jnp.arange(SIDE**2)

    def back(value: Array, _: None) -> tuple[Array, Array]:
        earned = jnp.where(is_goal, 1.0, STEP_COST + value)[:, ways(task)]
        return jnp.max(earned, axis=1), earned

    return jax.lax.scan(back, jnp.zeros(is_goal.shape), length=horizon, reverse=True)[1]
