"""The gradient that an update follows, against finite differences of the loss that it reports."""

from collections.abc import Callable

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from metarl_jax.types import MetaAlgorithm, TaskFamily


def assert_an_update_follows_the_gradient(family: TaskFamily, make: Callable[[], MetaAlgorithm]) -> None:
    """In float64, along random directions.

    Args:
      family: of the tasks.
      make: the method, whose optimiser is plain descent with a step size of 1.
    """
    with jax.enable_x64(True):
        algorithm = make()
        keys = jax.random.split(jax.random.key(1))
        state, tasks = jax.jit(algorithm.init)(keys[0]), jax.vmap(family.sample)(keys)
        flat, unravel = ravel_pytree(jax.tree.map(lambda x: x.astype(float), state.params))
        update = jax.jit(lambda x: algorithm.update(state._replace(params=unravel(x)), tasks, keys))
        gradient = flat - ravel_pytree(update(flat)[0].params)[0]
        for direction in jax.random.normal(jax.random.key(2), (3, flat.size)):
            ahead, behind = (update(flat + e * direction)[1]["loss"] for e in (1e-5, -1e-5))
            np.testing.assert_allclose((ahead - behind) / 2e-5, gradient @ direction, rtol=1e-5)
