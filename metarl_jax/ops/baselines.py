"""State-value baselines that are refitted to every batch."""

import chex
import jax
import jax.numpy as jnp

from metarl_jax.ops import trees
from metarl_jax.ops.factors import cholesky_factor, cholesky_solve
from metarl_jax.types import Array

_RIDGE = 1e-5
# Float32 sees no ridge below this part of a unit-norm column; refinement removes the bias it leaves. Where rounding has
# left the normal equations indefinite by more than that, tenfold damping is tried, up to the highest.
_FLOOR, _HIGHEST_FLOOR = 1e-6, 1e-2
_REFINEMENTS = 3


def linear_features(observation: Array) -> Array:
    """Features ``[clip(o, -10, 10), o^2, t, t^2, t^3, 1]`` with ``t = step / 100`` (Duan et al., 2016, rllab).

    Args:
      observation: ``[T, B, *observation_shape]``; time restarts with each episode.

    Returns:
      ``[T, B, 2 n + 4]`` for ``n`` numbers in one observation.

    Example:
      >>> linear_features(jnp.zeros((5, 2, 3))).shape
      (5, 2, 10)
    """
    num_steps, num_episodes = observation.shape[:2]
    flat = jnp.clip(observation.reshape(num_steps, num_episodes, -1).astype(float), -10.0, 10.0)
    time = jnp.broadcast_to((jnp.arange(num_steps, dtype=flat.dtype) / 100.0)[:, None, None], (*flat.shape[:2], 1))
    return jnp.concatenate([flat, flat**2, time, time**2, time**3, jnp.ones_like(time)], axis=-1)


def fit_linear_baseline(observation: Array, target: Array, mask: Array, axis_name: str | None = None) -> Array:
    """Predict ``target`` by ridge regression on :func:`linear_features`, fitted on the same data.

    Minimises ``|X w - y|^2 + 1e-5 |w|^2``. Columns are scaled to unit norm and a Cholesky factor of the slightly
    damped normal equations is refined against the undamped ones, so that float32 gives finite predictions for
    collinear and constant features too.

    Args:
      observation: ``[T, B, *observation_shape]``.
      target: ``[T, B]`` discounted returns.
      mask: ``[T, B]`` steps with 0 are left out of the fit.
      axis_name: mapped device axis whose data are fitted too, or None.

    Returns:
      ``[T, B]`` predicted values, with gradients stopped.

    Example:
      >>> fit_linear_baseline(jnp.ones((4, 2, 1)), jnp.ones((4, 2)), jnp.ones((4, 2))).round(3).max().item()
      1.0
    """
    chex.assert_equal_shape_prefix([observation, target, mask], 2)
    features = jax.lax.stop_gradient(linear_features(observation))
    x = jnp.where(mask[..., None] > 0, features, 0.0).reshape(-1, features.shape[-1])
    y = jax.lax.stop_gradient(jnp.where(mask > 0, target, 0.0)).reshape(-1)
    norms = jnp.sqrt(trees.psum(jnp.sum(x * x, axis=0), axis_name))
    scale = jnp.where(norms > 0, norms, 1.0)
    x = x / scale
    ridge = _RIDGE / scale**2
    upper = _damped_factor(trees.psum(x.T @ x, axis_name) + jnp.diag(ridge))

    def refine(_: int, weights: Array) -> Array:
        residual = trees.psum(x.T @ (y - x @ weights), axis_name)
        return weights + cholesky_solve(upper, residual - ridge * weights)

    weights = jax.lax.fori_loop(0, _REFINEMENTS, refine, jnp.zeros_like(scale))
    return (features / scale) @ weights


def _damped_factor(gram: Array) -> Array:
    """The upper Cholesky factor with the least damping that makes it finite; ``[n, n]`` of columns of unit norm."""

    def factorise(floor: Array) -> Array:
        return cholesky_factor(gram + floor * jnp.eye(len(gram), dtype=gram.dtype))

    def failed(tried: tuple[Array, Array]) -> Array:
        floor, upper = tried
        return ~jnp.isfinite(upper).all() & (floor < _HIGHEST_FLOOR)

    first = jnp.asarray(_FLOOR, gram.dtype)
    return jax.lax.while_loop(
        failed, lambda tried: (10.0 * tried[0], factorise(10.0 * tried[0])), (first, factorise(first))
    )[1]
