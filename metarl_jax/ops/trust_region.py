"""Steps that keep a divergence small: the trust region (Schulman et al., 2015) on pytrees, and adaptive penalties."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.ops import trees
from metarl_jax.types import Array, Info, PyTree


class ConjugateGradientResult(NamedTuple):
    """``solution``, its ``image`` ``A x``, and the relative ``residual`` ``|b - A x| / |b|`` it was left with."""

    solution: PyTree
    image: PyTree
    residual: Array


def conjugate_gradient(product: Callable[[PyTree], PyTree], b: PyTree, num_steps: int) -> ConjugateGradientResult:
    """Solve ``A x = b`` approximately for a symmetric positive definite ``A`` given by its products.

    Args:
      product: ``v -> A v``.
      b: right-hand side.
      num_steps: most iterations; it stops early when the residual is negligible.

    Example:
      >>> conjugate_gradient(lambda v: 2.0 * v, jnp.ones(3), 5).solution.tolist()
      [0.5, 0.5, 0.5]
    """
    squared_norm_b = trees.dot(b, b)

    def unfinished(carry: tuple) -> Array:
        _, _, _, squared_residual, i = carry
        return (i < num_steps) & (squared_residual > 1e-10 * squared_norm_b)

    def step(carry: tuple) -> tuple:
        x, residual, direction, squared_residual, i = carry
        image = product(direction)
        length = squared_residual / trees.dot(direction, image)
        x = trees.add_scaled(x, length, direction)
        residual = trees.add_scaled(residual, -length, image)
        new_squared_residual = trees.dot(residual, residual)
        direction = trees.add_scaled(residual, new_squared_residual / squared_residual, direction)
        return x, residual, direction, new_squared_residual, i + 1

    zeros = jax.tree.map(jnp.zeros_like, b)
    start = (zeros, b, b, squared_norm_b, jnp.int32(0))
    x, residual, _, squared_residual, _ = jax.lax.while_loop(unfinished, step, start)
    tiny = jnp.finfo(squared_norm_b.dtype).tiny
    image = trees.add_scaled(b, -1.0, residual)
    return ConjugateGradientResult(x, image, jnp.sqrt(squared_residual / jnp.maximum(squared_norm_b, tiny)))


class LineSearchResult(NamedTuple):
    """``params`` after the search, the accepted fraction of the full ``step`` (0 if none), and the ``aux`` there."""

    params: PyTree
    fraction: Array
    loss: Array
    kl: Array


def backtracking_line_search(
    loss_and_kl: Callable[[PyTree], tuple[Array, Array]],
    params: PyTree,
    step: PyTree,
    loss_before: Array,
    max_kl: Array | float,
    backtrack_ratio: Array | float,
    max_backtracks: int,
) -> LineSearchResult:
    """Take the longest of ``step, c step, c^2 step, ...`` that lowers the loss and keeps the divergence in bounds.

    Args:
      loss_and_kl: ``params -> (loss [], kl [])``.
      params: where the step starts.
      step: the full step; ``params + step`` is tried first.
      loss_before: ``[]`` loss at ``params``.
      max_kl: largest divergence accepted, in nats.
      backtrack_ratio: the factor ``c`` in (0, 1).
      max_backtracks: how many lengths are tried.

    Returns:
      The new parameters; the old ones and fraction 0 when every length was rejected.

    Example:
      >>> result = backtracking_line_search(
      ...     lambda x: (x**2, jnp.float32(0.0)), jnp.float32(1.0), jnp.float32(-4.0), jnp.float32(1.0), 1.0, 0.5, 5)
      >>> result.fraction.item()
      0.25
    """

    def attempt(fraction: Array) -> tuple[Array, Array, Array]:
        loss, kl = loss_and_kl(trees.add_scaled(params, fraction, step))
        return loss, kl, jnp.isfinite(loss) & (loss < loss_before) & (kl <= max_kl)

    def unfinished(carry: tuple) -> Array:
        i, _, _, _, accepted = carry
        return (~accepted) & (i < max_backtracks)

    def shrink(carry: tuple) -> tuple:
        i, fraction, *_ = carry
        fraction = fraction * backtrack_ratio
        return (i + 1, fraction, *attempt(fraction))

    one = jnp.ones_like(loss_before)
    start = (jnp.int32(1), one, *attempt(one))
    _, fraction, loss, kl, accepted = jax.lax.while_loop(unfinished, shrink, start)
    fraction = jnp.where(accepted, fraction, 0.0)
    new_params = trees.where(accepted, trees.add_scaled(params, fraction, step), params)
    return LineSearchResult(
        new_params, fraction, jnp.where(accepted, loss, loss_before), jnp.where(accepted, kl, jnp.zeros_like(kl))
    )


class LinearisedPolicy(NamedTuple):
    """Distributions at some parameters, and linear maps there.

    Attributes:
      reference: the distributions.
      pullback: ``gradient in the distributions -> gradient in the parameters``: ``J^T``.
      kl_product: ``v -> J^T F J v``: the Hessian of the divergence from the reference in the parameters.
    """

    reference: PyTree
    pullback: Callable[[PyTree], PyTree]
    kl_product: Callable[[PyTree], PyTree]


def linearise_policy(
    distributions: Callable[[PyTree], PyTree], mean_kl: Callable[[PyTree, PyTree], Array], params: PyTree
) -> LinearisedPolicy:
    """Linearise once what every gradient and every conjugate-gradient product passes through.

    At the reference the divergence and its gradient vanish, so its Hessian is exactly ``J^T F J`` with ``J`` the
    Jacobian of the distributions and ``F`` the Hessian of the divergence in the distributions' own parameters.

    Args:
      distributions: ``params -> distributions``.
      mean_kl: ``(p, q) -> []`` divergence.
      params: where.

    Example:
      >>> at = linearise_policy(lambda x: 3 * x, lambda p, q: jnp.sum((p - q) ** 2), jnp.ones(1))
      >>> at.pullback(jnp.ones(1)).tolist(), at.kl_product(jnp.ones(1)).tolist()
      ([3.0], [18.0])
    """
    reference, jacobian = jax.linearize(distributions, params)
    transpose = jax.linear_transpose(jacobian, params)
    gradient = jax.grad(lambda q: mean_kl(reference, q))

    def kl_product(v: PyTree) -> PyTree:
        _, fisher_image = jax.jvp(gradient, (reference,), (jacobian(v),))
        return transpose(fisher_image)[0]

    return LinearisedPolicy(reference, lambda outward: transpose(outward)[0], kl_product)


def trust_region_step(
    loss_and_kl: Callable[[PyTree], tuple[Array, Array]],
    kl_product: Callable[[PyTree], PyTree],
    params: PyTree,
    loss: Array,
    gradient: PyTree,
    *,
    max_kl: Array | float,
    cg_steps: int,
    cg_damping: Array | float,
    backtrack_ratio: Array | float,
    max_backtracks: int,
) -> tuple[PyTree, Info]:
    """The natural-gradient step of length ``sqrt(2 max_kl / d^T H d)``, shortened until loss and divergence agree.

    ``(H + damping) d = gradient`` by conjugate gradients. All functions and values are of all devices' data.

    Args:
      loss_and_kl: ``params -> (loss [], kl [])``.
      kl_product: ``v -> H v`` with the Hessian of the divergence at ``params``.
      params: where the step starts.
      loss: ``[]`` loss there.
      gradient: of the loss there.
      max_kl: largest divergence accepted, in nats.
      cg_steps: conjugate-gradient iterations.
      cg_damping: added to the diagonal of ``H``.
      backtrack_ratio: factor between tried step lengths, in (0, 1).
      max_backtracks: how many lengths are tried.

    Returns:
      The new parameters, and an info: ``loss``, ``loss_after``, ``kl`` (nats), ``grad_norm``, ``cg_residual``
      (relative), ``step_fraction`` (0 when the line search rejected every length).

    Example:
      >>> x, info = trust_region_step(
      ...     lambda x: (jnp.sum(x), jnp.sum((x - 1) ** 2)), lambda v: 2 * v, jnp.ones(1), jnp.array(1.0), jnp.ones(1),
      ...     max_kl=0.25, cg_steps=1, cg_damping=0.0, backtrack_ratio=0.5, max_backtracks=3)
      >>> x.tolist(), info["kl"].item()
      ([0.5], 0.25)
    """

    def product(v: PyTree) -> PyTree:
        return trees.add_scaled(kl_product(v), cg_damping, v)

    direction, image, residual = conjugate_gradient(product, gradient, cg_steps)
    curvature = trees.dot(direction, image)
    length = jnp.sqrt(2.0 * max_kl / jnp.maximum(curvature, jnp.finfo(curvature.dtype).tiny))
    full_step = jax.tree.map(lambda d: -length * d, direction)
    search = backtracking_line_search(loss_and_kl, params, full_step, loss, max_kl, backtrack_ratio, max_backtracks)
    return search.params, {
        "loss": loss,
        "loss_after": search.loss,
        "kl": search.kl,
        "grad_norm": trees.norm(gradient),
        "cg_residual": residual,
        "step_fraction": search.fraction,
    }


def adapt_kl_coefficients(eta: Array, kl: Array, target: Array | float) -> Array:
    """Halve ``eta`` where ``kl < target / 1.5``, double it where ``kl > 1.5 target``; ``[K]``.

    Args:
      eta: ``[K]`` coefficients.
      kl: ``[K]`` divergences after all epochs, in nats.
      target: the divergence aimed at, in nats.

    Example:
      >>> adapt_kl_coefficients(jnp.ones(3), jnp.array([0.0, 0.01, 1.0]), 0.01).tolist()
      [0.5, 1.0, 2.0]
    """
    return jnp.where(kl < target / 1.5, eta / 2.0, jnp.where(kl > target * 1.5, eta * 2.0, eta))
