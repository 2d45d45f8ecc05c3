"""A replay of whole trials, ``TrainState.local``: every column of the meta-batch keeps its newest few.

Leaves are ``[N, R, ...]``: ``N`` trials of an update over all devices, which share them in order, and ``R`` updates, of
which the newest takes the place of the oldest. So neither what is kept nor what is drawn depends on the devices.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.collect.rollout import rollout_trial
from metarl_jax.types import Array, Key, Percept, Policy, TaskFamily, Trajectory, require


class Experience(NamedTuple):
    """Trials as inference learns from them; in a replay, the two axes ``[N, R]`` come before time.

    Attributes:
      percept: ``[T + 1, N, ...]`` what was seen before each step, and after the last.
      mask: ``[T, N]`` 1.0 at the steps that count.
    """

    percept: Percept
    mask: Array


def experience_of(trials: Trajectory) -> Experience:
    """What is kept of trials; ``[T, N, ...]``."""
    percept = jax.tree.map(lambda x, last: jnp.concatenate([x, last[None]]), trials.percept, trials.final_percept)
    return Experience(percept, trials.mask)


def blank_replay(
    family: TaskFamily, policy: Policy, episodes_per_trial: int, num_columns: int, num_kept: int
) -> Experience:
    """A replay in which no step counts yet.

    Args:
      family: whose trials are kept.
      policy: what plays them.
      episodes_per_trial: ``n``.
      num_columns: ``N``, of all devices.
      num_kept: ``R``.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=5)
      >>> policy = mrl.networks.belief_policy(family.observation_shape, family.action, hidden_size=8)
      >>> blank_replay(family, policy, 3, num_columns=4, num_kept=2).percept.observation.shape
      (4, 2, 16, 2)
    """

    def trial(key: Key) -> Experience:
        played, _ = rollout_trial(family, policy, policy.init(key), family.sample(key), key, episodes_per_trial, 1)
        return experience_of(played)

    shapes = jax.eval_shape(trial, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.zeros((num_columns, num_kept, x.shape[0], *x.shape[2:]), x.dtype), shapes)


def record(replay: Experience, experience: Experience, update: Array) -> Experience:
    """The replay with the trials of an update in the place of those of ``R`` updates before.

    Args:
      replay: ``[N, R, ...]``.
      experience: ``[T, N, ...]``.
      update: ``[]`` how many updates there were before it.

    Raises:
      Refusal: if these are not ``N`` trials.
    """
    columns = replay.mask.shape[0]
    remedy = f"this device's replay is of {columns} trials an update: give the method its updates' meta_batch_size"
    require(experience.mask.shape[1] == columns, "tasks", experience.mask.shape[1], remedy)

    def put(kept: Array, new: Array) -> Array:
        return jax.lax.dynamic_update_index_in_dim(kept, jnp.moveaxis(new, 1, 0), update % kept.shape[1], axis=1)

    return jax.tree.map(put, replay, experience)


def recall(replay: Experience, keys: Key, update: Array) -> Experience:
    """One of the kept trials of every column, each as likely; ``[T, N, ...]``.

    Args:
      replay: ``[N, R, ...]``.
      keys: ``[N]``.
      update: ``[]`` how many updates there were before the newest.
    """

    def of_column(kept: Experience, key: Key) -> Experience:
        chosen = jax.random.randint(key, (), 0, jnp.minimum(update + 1, len(kept.mask)))
        return jax.tree.map(lambda x: x[chosen], kept)

    return jax.vmap(of_column, out_axes=1)(replay, keys)
