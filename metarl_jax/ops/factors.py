"""Factors of matrices under ``vmap``, on CPUs too.

In jax 0.10 one of XLA's threads shares out a batch of LAPACK's (QR, Cholesky, triangular solves) among them and waits
until it is done: as many batches at once as there are threads wait for ever. The three gates of a GRU whose weights
are drawn for many tasks are enough.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.scipy.linalg

from metarl_jax.types import Array, Key


def loop_on_cpu(function: Callable[..., Array]) -> Callable[..., Array]:
    """``function``, which ``vmap`` makes a loop on a CPU, and a batch elsewhere. It has no reverse derivative.

    Example:
      >>> import jax.numpy as jnp
      >>> inverse = loop_on_cpu(jnp.linalg.inv)
      >>> jax.vmap(inverse)(2.0 * jnp.stack([jnp.eye(3)] * 4)).shape
      (4, 3, 3)
    """
    looped = jax.custom_batching.sequential_vmap(function)
    return lambda *arguments: jax.lax.platform_dependent(*arguments, cpu=looped, default=function)


@loop_on_cpu
def cholesky_factor(matrix: Array) -> Array:
    """The upper factor of ``[n, n]``; what is below its diagonal is not 0."""
    return jax.scipy.linalg.cho_factor(matrix)[0]


@loop_on_cpu
def cholesky_solve(upper: Array, right: Array) -> Array:
    """What the matrix of :func:`cholesky_factor` makes ``right``, ``[n]`` or ``[n, k]``."""
    return jax.scipy.linalg.cho_solve((upper, False), right)


def orthogonal(key: Key, shape: tuple[int, ...], dtype: type = float) -> Array:
    """Orthogonal weights (Saxe et al., 2014), as flax initialises with them.

    Example:
      >>> orthogonal(jax.random.key(0), (3, 3)).shape
      (3, 3)
    """
    return loop_on_cpu(lambda key: nn.initializers.orthogonal()(key, shape, dtype))(key)
