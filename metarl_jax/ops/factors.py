"""Factors of matrices under ``vmap``, on CPUs too.

In jax 0.10 one of XLA's threads shares out a batch of LAPACK calls (QR, Cholesky, triangular solves) among them all and
waits until it is done: as many batches at once as there are threads wait for ever. On two threads those of a GRU's
gates are enough, whose weights are drawn for many tasks.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import jax
import jax.scipy.linalg

from metarl_jax.types import Array, Key


def loop_on_cpu(function: Callable[..., Array]) -> Callable[..., Array]:
    """``function`` of arrays, which ``vmap`` makes a loop on a CPU, a batch elsewhere; without a reverse derivative.

    Example:
      >>> import jax.numpy as jnp
      >>> inverse = loop_on_cpu(jnp.linalg.inv)
      >>> jax.vmap(inverse)(2.0 * jnp.stack([jnp.eye(3)] * 4)).shape
      (4, 3, 3)
    """
    looped = jax.custom_batching.sequential_vmap(function)

    @wraps(function)
    def either(*arguments: Any) -> Array:
        return jax.lax.platform_dependent(*arguments, cpu=looped, default=function)

    return either


@loop_on_cpu
def cholesky_factor(matrix: Array) -> Array:
    """The upper factor of a positive definite ``[n, n]``, NaN of another; what is below its diagonal has no meaning.

    Example:
      >>> import jax.numpy as jnp
      >>> cholesky_factor(4.0 * jnp.eye(2)).tolist()
      [[2.0, 0.0], [0.0, 2.0]]
    """
    return jax.scipy.linalg.cho_factor(matrix)[0]


@loop_on_cpu
def cholesky_solve(upper: Array, right: Array) -> Array:
    """The solution ``x`` of ``matrix x = right``, ``[n]`` or ``[n, k]``, by ``upper = cholesky_factor(matrix)``.

    Example:
      >>> import jax.numpy as jnp
      >>> cholesky_solve(cholesky_factor(4.0 * jnp.eye(2)), jnp.ones(2)).tolist()
      [0.25, 0.25]
    """
    return jax.scipy.linalg.cho_solve((upper, False), right)


def orthogonal(key: Key, shape: tuple[int, int], dtype: Any = float) -> Array:
    """Orthogonal initial weights (Saxe et al., 2014): those of flax, number by number.

    Example:
      >>> import jax.numpy as jnp
      >>> weights = orthogonal(jax.random.key(0), (3, 3))
      >>> jnp.abs(weights @ weights.T - jnp.eye(3)).max().item() < 1e-6
      True
    """
    return _draw_orthogonal(shape, dtype)(key)


@cache
def _draw_orthogonal(shape: tuple[int, int], dtype: Any) -> Callable[[Key], Array]:
    initialise = jax.nn.initializers.orthogonal()
    return loop_on_cpu(lambda key: initialise(key, shape, dtype))
