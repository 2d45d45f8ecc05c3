"""Any task family with nothing hidden, from the policy or from the value that is learned beside it."""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from metarl_jax.checks import checked
from metarl_jax.tasks.seen import seen_as, valid_actions_of
from metarl_jax.types import Array, EnvState, Paths, Picture, Screen, Task, TaskFamily


@checked
def with_oracle(family: TaskFamily) -> TaskFamily:
    """Show the policy its task: what meta-learning can at best come near to.

    Args:
      family: with any tasks; all their arrays are shown as they are, behind what the policy sees.

    Returns:
      The same tasks with observations ``[n + numbers of a task]``.

    Example:
      >>> from metarl_jax.tasks.navigation.goals import navigation_finn
      >>> with_oracle(navigation_finn()).observation_shape
      (4,)
    """
    shown = _shown(family, math.prod(family.observation_shape) - family.privileged_size)
    return shown._replace(bayes_optimum=None)  # nobody here has to find out what the task is


@checked
def with_critic_oracle(family: TaskFamily) -> TaskFamily:
    """Show the task to the learned value alone, an asymmetric actor-critic (Pinto et al., 2018).

    Args:
      family: with any tasks; all their arrays are shown as they are, behind what is privileged already.

    Returns:
      The same tasks with observations ``[n + numbers of a task]``, of which so many more are privileged.

    Example:
      >>> from metarl_jax.tasks.navigation.goals import navigation_finn
      >>> family = with_critic_oracle(navigation_finn())
      >>> family.observation_shape, family.privileged_size
      ((4,), 2)
    """
    own_size = math.prod(family.observation_shape)
    shown = _shown(family, own_size)
    size = shown.observation_shape[0] - own_size
    return shown._replace(privileged_size=family.privileged_size + size, task_size=size)


def _shown(family: TaskFamily, start: int) -> TaskFamily:
    """The family with a task's numbers in its observations, flat, from the ``start``-th on."""
    own_size = math.prod(family.observation_shape)

    def show(task: Task, state: EnvState, observation: Array) -> Array:
        before, behind = jnp.split(observation.ravel().astype(float), [start])
        return jnp.concatenate([before, ravel_pytree(task)[0].astype(float), behind])

    def hide(observation: Array) -> Array:
        own = jnp.split(observation, [start, start + observation.shape[-1] - own_size], axis=-1)[::2]
        return jnp.concatenate(own, axis=-1).reshape(*observation.shape[:-1], *family.observation_shape)

    return seen_as(family, show)._replace(
        picture=_seen(family.picture, hide),
        valid_actions=valid_actions_of(family, hide),
    )


def _seen(picture: Picture | None, hide: Callable[[Array], Array]) -> Picture | None:
    """The picture of what the family itself shows."""
    if isinstance(picture, Paths):
        return picture._replace(position=lambda observation: picture.position(hide(observation)))
    if isinstance(picture, Screen):
        return picture._replace(planes=lambda observation: picture.planes(hide(observation)))
    return picture
