"""Random numbers by address: every stream of a run is named, none is passed along.

A key depends on the seed, its stream, and where it is used (update, global task index), never on the number of
devices or on what happened before. So a resumed run repeats an uninterrupted one, on any number of devices.
"""

import jax

from metarl_jax.types import Array, Key

_STREAMS = (
    "initial_params",
    "training",
    "held_out_tasks",
    "held_out_episodes",
    "random_initialisation",
    "evaluation_episodes",
    "validation_tasks",
    "validation_episodes",
)


def stream(seed: Array | int, name: str) -> Key:
    """The root key of one purpose.

    Args:
      seed: the user's seed.
      name: one of ``initial_params``, ``training``, ``held_out_tasks``, ``held_out_episodes``,
        ``random_initialisation``; and, of evaluation while training, ``evaluation_episodes``, ``validation_tasks`` and
        ``validation_episodes``.

    Returns:
      A typed key.

    Example:
      >>> stream(0, "training") == stream(0, "held_out_tasks")
      Array(False, dtype=bool)
    """
    return jax.random.fold_in(jax.random.key(seed), _STREAMS.index(name))


def fold_in_each(key: Key, indices: Array) -> Key:
    """One key per index; ``[M] -> [M]``.

    Args:
      key: a typed key.
      indices: ``[M]`` integers.

    Returns:
      ``[M]`` keys.

    Example:
      >>> fold_in_each(jax.random.key(0), jax.numpy.arange(3)).shape
      (3,)
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)
