"""A task family whose observations say that the episode has ended: for whoever goes on looking, as in a trial."""

import math

import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.tasks.seen import valid_actions_of
from metarl_jax.types import Array, EnvState, Key, Task, TaskFamily


@checked
def with_ends(family: TaskFamily) -> TaskFamily:
    """Append 1 to the observation of a step that terminated, else 0; :func:`without_end` takes it off again.

    Numbers that are not finite are shown as 0 in that observation, so that it can be shown at all.

    Args:
      family: with any tasks.

    Returns:
      The same tasks with flat observations ``[n + 1]``.

    Example:
      >>> from metarl_jax.tasks.navigation.goals import navigation_finn
      >>> with_ends(navigation_finn()).observation_shape
      (3,)
    """

    def show(observation: Array, ends: Array) -> Array:
        own = observation.ravel().astype(float)
        own = jnp.where(ends & ~jnp.isfinite(own), 0.0, own)
        return jnp.append(own, jnp.asarray(ends, own.dtype))

    def reset(task: Task, key: Key) -> tuple[EnvState, Array]:
        state, observation = family.reset(task, key)
        return state, show(observation, jnp.array(False))

    def step(task: Task, state: EnvState, action: Array, key: Key) -> tuple[EnvState, Array, Array, Array]:
        state, observation, reward, terminated = family.step(task, state, action, key)
        return state, show(observation, terminated), reward, terminated

    return family._replace(
        reset=reset,
        step=step,
        observation_shape=(math.prod(family.observation_shape) + 1,),
        valid_actions=valid_actions_of(family, lambda shown: without_end(shown, family.observation_shape)[0]),
        picture=None,
    )


def without_end(observation: Array, observation_shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The family's own observation, and whether the episode has terminated.

    Args:
      observation: ``[..., n + 1]``.
      observation_shape: the family's own.

    Returns:
      ``([..., *observation_shape], [...])``.

    Example:
      >>> without_end(jnp.array([[0.5, 2.0, 1.0]]), (2,))
      (Array([[0.5, 2. ]], dtype=float32), Array([ True], dtype=bool))
    """
    own = observation[..., :-1].reshape(*observation.shape[:-1], *observation_shape)
    return own, observation[..., -1] > 0
