"""From the named observations of an environment to the one array that a family shows."""

import math
from collections.abc import Callable

import jax.numpy as jnp

from metarl_jax.ops import trees
from metarl_jax.types import Array, PyTree, require

Names = str | tuple[str, ...]
"""One entry of an observation, or several; of a nested one by path, ``"pixels/view_0"``."""


def choose_observations(
    example: PyTree, observation: Names, critic_observation: Names | None
) -> tuple[Callable[[PyTree], Array], int]:
    """How to make one array of an environment's observation.

    Args:
      example: what the environment observes, or its shapes. A single array is taken as it is.
      observation: the entries that the policy sees. One alone keeps its shape; several are flattened and joined.
      critic_observation: further entries, for a critic alone; none if None.

    Returns:
      ``(observation) -> array``, and how many of its last numbers are for a critic alone.

    Raises:
      ValueError: if there is no such entry, naming those that there are.

    Example:
      >>> seen = {"state": jnp.zeros(2), "privileged_state": jnp.ones(3)}
      >>> observe, privileged_size = choose_observations(seen, "state", "privileged_state")
      >>> observe(seen).tolist(), privileged_size
      ([0.0, 0.0, 1.0, 1.0, 1.0], 3)
    """
    shapes = {name: entry.shape for name, entry in trees.by_path(example).items()}
    if list(shapes) == [""]:
        single = "this environment observes a single array: leave it out"
        require(observation == "state", "observation", observation, single)
        require(critic_observation is None, "critic_observation", critic_observation, single)
        return lambda observed: observed, 0
    public, privileged = _names(observation), _names(critic_observation)
    there_are = f"choose of {', '.join(sorted(shapes))}"
    require(bool(public) and shapes.keys() >= set(public), "observation", observation, there_are)
    require(shapes.keys() >= set(privileged), "critic_observation", critic_observation, there_are)

    def observe(observed: PyTree) -> Array:
        entries = trees.by_path(observed)
        chosen = [entries[name] for name in (*public, *privileged)]
        return chosen[0] if len(chosen) == 1 else jnp.concatenate([jnp.ravel(entry) for entry in chosen])

    return observe, sum(math.prod(shapes[name]) for name in privileged)


def _names(names: Names | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())
