"""A task family whose observations say what one who knows the task would do: a teacher of actions."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from metarl_jax.checks import checked, require
from metarl_jax.tasks.seen import valid_actions_of
from metarl_jax.types import ActionSpec, Array, EnvState, Key, Task, TaskFamily


class Timed(NamedTuple):
    """The family's own state, and the step of the episode."""

    state: EnvState
    time: Array


@checked
def with_optimal_actions(family: TaskFamily) -> TaskFamily:
    """Append the optimal action to the observation; :func:`without_label` takes it off again.

    Args:
      family: one that knows its ``optimal_action``.

    Returns:
      The same tasks with flat observations ``[n + 1]``, or ``[n + action size]`` for continuous actions.

    Raises:
      ValueError: if the family does not know its optimal actions.

    Example:
      >>> import jax
      >>> from metarl_jax.tasks.discrete.bandit import BanditTask, bandit_bernoulli
      >>> family = with_optimal_actions(bandit_bernoulli(num_arms=3))
      >>> family.reset(BanditTask(jnp.array([0.1, 0.2, 0.9])), jax.random.key(0))[1].tolist()
      [0.0, 2.0]
    """
    optimal_action = family.optimal_action
    remedy = (
        "nobody knows the optimal actions of these tasks: set tasks.name to a family that has them (bandits, tabular "
        "MDPs, grids, t_maze, bus_city, navigation_finn, ...), or give one of your own optimal_action"
    )
    require(optimal_action is not None, "family.optimal_action", optimal_action, remedy)
    assert optimal_action is not None  # for the type checker
    success = family.success

    def show(task: Task, state: EnvState, time: Array, observation: Array) -> tuple[Timed, Array]:
        label = jnp.atleast_1d(optimal_action(task, state, time)).astype(float)
        return Timed(state, time), jnp.concatenate([observation.ravel().astype(float), label])

    def reset(task: Task, key: Key) -> tuple[Timed, Array]:
        state, observation = family.reset(task, key)
        return show(task, state, jnp.zeros((), jnp.int32), observation)

    def step(task: Task, timed: Timed, action: Array, key: Key) -> tuple[Timed, Array, Array, Array]:
        state, observation, reward, terminated = family.step(task, timed.state, action, key)
        return *show(task, state, timed.time + 1, observation), reward, terminated

    def own(observation: Array) -> Array:
        return without_label(observation, family.observation_shape, family.action)[0]

    size = math.prod(family.observation_shape) + (1 if family.action.discrete else family.action.size)
    return family._replace(
        reset=reset,
        step=step,
        observation_shape=(size,),
        optimal_action=lambda task, timed, time: optimal_action(task, timed.state, time),
        must_be_finite=lambda timed: family.must_be_finite(timed.state),
        success=(lambda task, timed: success(task, timed.state)) if callable(success) else success,
        valid_actions=valid_actions_of(family, own),
        picture=None,
    )


def without_label(observation: Array, observation_shape: tuple[int, ...], action: ActionSpec) -> tuple[Array, Array]:
    """The family's own observation, and the optimal action.

    Args:
      observation: ``[..., n + 1]`` or ``[..., n + action size]``.
      observation_shape: the family's own.
      action: what it takes.

    Returns:
      ``([..., *observation_shape], [...] or [..., action size])``.

    Example:
      >>> without_label(jnp.array([[0.5, 2.0]]), (1,), ActionSpec(3, discrete=True))
      (Array([[0.5]], dtype=float32), Array([2], dtype=int32))
    """
    seen, label = jnp.split(observation, [math.prod(observation_shape)], axis=-1)
    chosen = label[..., 0].astype(int) if action.discrete else label
    return seen.reshape(*observation.shape[:-1], *observation_shape), chosen
