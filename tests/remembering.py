"""A method for tests that keeps something per device: ProMP that also remembers the goals of its tasks."""

from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax.algorithms import promp
from metarl_jax.checks import passes_on
from metarl_jax.collect.randomness import fold_in_each, stream
from metarl_jax.types import Array, Key, MetaAlgorithm, Task, TaskFamily, TrainState

KEPT = 0.5
"""The share of an item that an update leaves of it."""


@passes_on(promp)
def remembering(family: Any, policy: Any, optimizer: Any, *, num_items: int = 4, **settings: Any) -> MetaAlgorithm:
    """ProMP, with a fading sum of the goals that each place in the meta-batch has had.

    Args:
      family: of point navigation.
      policy: what is trained.
      optimizer: the outer optimiser.
      num_items: tasks in a meta-batch.
      **settings: of metarl_jax.algorithms.promp.
    """
    plain = promp(family, policy, optimizer, **settings)

    def init(key: Key) -> TrainState:
        return plain.init(key)._replace(local={"goals": jnp.zeros((num_items, 2))})

    def update(state: TrainState, tasks: Task, keys: Key, axis_name: str | None = None) -> Any:
        state, info = plain.update(state, tasks, keys, axis_name)
        return state._replace(local={"goals": KEPT * state.local["goals"] + tasks.goal}), info

    return plain._replace(init=init, update=update)


def goals_remembered(family: TaskFamily, seed: int, num_updates: int, num_tasks: int = 4) -> Array:
    """What a run must remember, whatever it was trained on."""
    goals = jnp.zeros((num_tasks, 2))
    for step in range(num_updates):
        keys = fold_in_each(jax.random.fold_in(stream(seed, "training"), step), jnp.arange(num_tasks))
        tasks = jax.vmap(family.sample)(jax.vmap(jax.random.split)(keys)[:, 0])
        goals = KEPT * goals + tasks.goal
    return goals
