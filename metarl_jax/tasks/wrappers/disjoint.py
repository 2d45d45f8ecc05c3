"""Any family of many tasks with the held-out ones in regions that training never visits."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from metarl_jax.checks import checked
from metarl_jax.types import Array, Key, Task, TaskFamily, require

NUM_CELLS = 20
"""Cells along each number, over the range that it takes."""
NUM_AXES = 2
"""How many of a task's numbers count: in more dimensions nearly every task would have a cell to itself."""
HELD_OUT_SHARE = 0.2
"""Of all cells."""
_DRAWS, _FEWEST = 1000, 100


@checked
def with_disjoint_tasks(family: TaskFamily, *, validation: bool = False) -> TaskFamily:
    """Draw training and held-out tasks from disjoint sets of cells; a fifth of the cells, chosen by hash, is held out.

    The cells divide the plane of the first two numbers of a task that differ between tasks, or the line if there is
    only one: a goal, a velocity, the first two masses of a body.

    In published protocols held-out tasks are further draws from the same distribution, as close to a training task as
    chance will have it. Here none lies in a cell that training has seen. Inside its cells each set has the family's
    own distribution.

    Args:
      family: with many tasks and no held-out set of its own.
      validation: set about half of the held-out cells apart for validation; training is the same.

    Returns:
      The family with other ``sample``, ``sample_held_out`` and, if asked for, ``sample_validation``.

    Raises:
      ValueError: if there are fewer than 100 different tasks, nearly all are in one cell, held-out tasks have a
        distribution of their own, or there is a single held-out cell and some of it is wanted for validation.

    Example:
      >>> from metarl_jax.tasks.navigation.goals import navigation_finn
      >>> with_disjoint_tasks(navigation_finn()).sample_held_out(jax.random.key(0)).goal.shape
      (2,)
    """
    has_own = family.sample_held_out is not family.sample
    require(not has_own, "disjoint", True, "this family's held-out tasks are disjoint as they are; leave it out")
    keys = jax.random.split(jax.random.key(0), _DRAWS)
    numbers = np.asarray(jax.jit(jax.vmap(lambda key: ravel_pytree(family.sample(key))[0]))(keys))
    distinct = len(np.unique(numbers, axis=0))
    require(distinct >= _FEWEST, "disjoint", True, f"this family has only {distinct} tasks: too few to hold some out")
    axes = np.flatnonzero(np.ptp(numbers, axis=0))[:NUM_AXES]
    low, cell_size = numbers.min(axis=0)[axes], np.ptp(numbers, axis=0)[axes] / NUM_CELLS

    def hashed(numbers: Array) -> Array:
        """Of each cell a number between 0 and 1."""
        key = jax.random.key(0)
        for cell in jnp.floor((numbers[axes] - low) / cell_size).astype(jnp.int32):
            key = jax.random.fold_in(key, cell)
        return jax.random.uniform(key)

    hashes = np.asarray(jax.jit(jax.vmap(hashed))(numbers))
    share = float((hashes < HELD_OUT_SHARE).mean())
    most_in_one = "most tasks of this family are in one cell: they cannot be divided"
    require(HELD_OUT_SHARE / 4 < share < 1 - HELD_OUT_SHARE / 4, "disjoint", True, most_in_one)

    def sampler(first: float, end: float) -> Callable[[Key], Task]:
        """What draws tasks whose cells have a number in this range."""

        def is_out(task: Task) -> Array:
            number = hashed(ravel_pytree(task)[0])
            return (number < first) | (number >= end)

        def sample(key: Key) -> Task:
            def redraw(drawn: tuple[Key, Task]) -> tuple[Key, Task]:
                key, next_key = jax.random.split(drawn[0])
                return next_key, family.sample(key)

            return jax.lax.while_loop(lambda drawn: is_out(drawn[1]), redraw, redraw((key, None)))[1]

        return sample

    apart = family._replace(sample=sampler(HELD_OUT_SHARE, 1.0), sample_held_out=sampler(0.0, HELD_OUT_SHARE))
    apart = apart._replace(bayes_optimum=None)  # it is of another prior
    if not validation:
        return apart
    middle = _middle(hashes)
    return apart._replace(sample_held_out=sampler(0.0, middle), sample_validation=sampler(middle, HELD_OUT_SHARE))


def _middle(hashes: np.ndarray) -> float:
    """The number of a held-out cell that about half of them come before."""
    cells = np.unique(hashes[hashes < HELD_OUT_SHARE])
    remedy = "a single cell is held out, and none is left for validation: leave evaluation.validation_tasks out"
    require(len(cells) > 1, "disjoint", True, remedy)
    return float(cells[len(cells) // 2])
