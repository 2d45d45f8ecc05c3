"""Parameters of two runs beside each other."""

import jax
import numpy as np

from metarl_jax.ops import trees
from metarl_jax.types import Params


def difference(ours: Params, theirs: Params) -> float:
    """The norm of the difference in units of the norm of the second.

    Example:
      >>> round(difference({"w": np.array([3.0, 4.5])}, {"w": np.array([3.0, 4.0])}), 6)
      0.1
    """
    return float(trees.norm(jax.tree.map(np.subtract, ours, theirs)) / trees.norm(theirs))


def are_same(ours: Params, theirs: Params) -> bool:
    """Whether every number of the one is that of the other, to its last digit.

    Example:
      >>> are_same({"w": np.zeros(2)}, {"w": np.array([0.0, 1e-30])})
      False
    """
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, ours, theirs)))
