"""Families of which something else is seen than they show themselves."""

from collections.abc import Callable

import jax

from metarl_jax.types import Array, EnvState, Key, Task, TaskFamily


def seen_as(family: TaskFamily, show: Callable[[Task, EnvState, Array], Array]) -> TaskFamily:
    """The same tasks with another observation.

    Args:
      family: with any tasks.
      show: ``(task, state, observation) -> observation``.

    Example:
      >>> from metarl_jax.tasks.navigation.goals import navigation_finn
      >>> seen_as(navigation_finn(), lambda task, state, observation: observation[:1]).observation_shape
      (1,)
    """

    def reset(task: Task, key: Key) -> tuple[EnvState, Array]:
        state, observation = family.reset(task, key)
        return state, show(task, state, observation)

    def step(task: Task, state: EnvState, action: Array, key: Key) -> tuple[EnvState, Array, Array, Array]:
        state, observation, reward, terminated = family.step(task, state, action, key)
        return state, show(task, state, observation), reward, terminated

    shape = jax.eval_shape(lambda key: reset(family.sample(key), key)[1], jax.random.key(0)).shape
    return family._replace(reset=reset, step=step, observation_shape=shape)


def valid_actions_of(family: TaskFamily, hide: Callable[[Array], Array]) -> Callable[[Array], Array] | None:
    """The family's ``valid_actions``, told by observations that show something else; None if all actions are valid.

    Args:
      family: with any tasks.
      hide: ``(what is shown [..., n]) -> [..., *observation_shape]``, what the family itself shows.

    Example:
      >>> from metarl_jax.tasks.navigation.goals import navigation_finn
      >>> valid_actions_of(navigation_finn(), lambda shown: shown[..., 1:]) is None
      True
    """
    valid_actions = family.valid_actions
    return None if valid_actions is None else lambda shown: valid_actions(hide(shown))
