"""Operations of traced programs, by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from metarl_jax.ops.matmul import matmul
from metarl_jax.plan.operations import Operations, operations

X, W = jax.ShapeDtypeStruct((5, 6), "float32"), jax.ShapeDtypeStruct((6, 2), "float32")
PRODUCT = 2 * 5 * 6 * 2


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (lambda x, w: x @ w, PRODUCT),
        (matmul, PRODUCT),
        (lambda x, w: jax.vmap(matmul, in_axes=(None, 0))(x, jnp.stack([w, w])), 2 * PRODUCT),
        (lambda x, w: jax.lax.map(lambda _: x @ w, jnp.arange(7)), 7 * PRODUCT),
        (lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: jnp.zeros((5, 2))), PRODUCT),
        (lambda x, w: jax.jit(lambda: x @ w)(), PRODUCT),
        (lambda x, w: jax.grad(lambda w: jnp.sum(matmul(x, w)))(w), 2 * PRODUCT),
        # Recomputed for the sine's derivative.
        (lambda x, w: jax.grad(jax.checkpoint(lambda w: jnp.sum(jnp.sin(matmul(x, w)))))(w), 3 * PRODUCT),
    ],
)
def test_products(function: Any, products: int) -> None:
    assert operations(jax.make_jaxpr(function)(X, W)).products == products


def test_convolutions() -> None:
    images, kernel = jax.ShapeDtypeStruct((2, 4, 10, 10), "float32"), jax.ShapeDtypeStruct((6, 4, 3, 3), "float32")
    jaxpr = jax.make_jaxpr(lambda x, w: jax.lax.conv(x, w, (1, 1), "VALID"))(images, kernel)
    assert operations(jaxpr).products == 2 * (2 * 6 * 8 * 8) * (4 * 3 * 3)


def test_other_operations_count_their_numbers_and_moves_count_nothing() -> None:
    jaxpr = jax.make_jaxpr(lambda x: jnp.sum(jnp.exp(x.T) * x.T))(X)
    assert operations(jaxpr) == Operations(0, 30 + 30 + 30)
