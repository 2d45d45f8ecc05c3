"""The matrix product: the same numbers and derivatives as jnp.matmul, in every mode and nesting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metarl_jax.ops.matmul import dense_dot_general, matmul

X = jax.random.normal(jax.random.key(0), (5, 3))
W = jax.random.normal(jax.random.key(1), (3, 4))


def loss(product, x, w):
    return jnp.sum(jnp.tanh(product(x, w)) ** 2)


def hessian_vector_products(product):
    gradient = jax.grad(lambda w: loss(product, X, w))
    forward_over_reverse = jax.jvp(gradient, (W,), (W,))[1]
    reverse_over_reverse = jax.grad(lambda w: jnp.vdot(gradient(w), W))(W)
    _, linear = jax.linearize(gradient, W)
    (transposed,) = jax.linear_transpose(linear, W)(W)
    return forward_over_reverse, reverse_over_reverse, linear(W), transposed


def test_values_for_any_leading_axes():
    np.testing.assert_allclose(matmul(X, W), X @ W, rtol=1e-6)
    np.testing.assert_allclose(matmul(X[0], W), X[0] @ W, rtol=1e-6)
    batch = X.reshape(5, 1, 3)
    assert matmul(batch, W).shape == (5, 1, 4)


def test_every_second_derivative_equals_that_of_jnp_matmul():
    for ours, theirs in zip(hessian_vector_products(matmul), hessian_vector_products(jnp.matmul), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5)


def test_derivatives_of_three_orders_against_finite_differences():
    with jax.enable_x64(True):
        x, w = X.astype(jnp.float64), W.astype(jnp.float64)
        check_grads(lambda x, w: loss(matmul, x, w), (x, w), order=3, modes=["fwd", "rev"], rtol=1e-3)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 2)])
def test_vmap_of_values_and_gradients(axes):
    x = jax.random.normal(jax.random.key(2), {0: (6, 5, 3), 1: (5, 6, 3), None: (5, 3)}[axes[0]])
    w = jax.random.normal(jax.random.key(3), {0: (6, 3, 4), 2: (3, 4, 6), None: (3, 4)}[axes[1]])

    def gradients(product):
        return jax.vmap(jax.grad(lambda x, w: loss(product, x, w), argnums=(0, 1)), in_axes=axes)(x, w)

    def gradient_of_vmap(product):
        return jax.grad(lambda x, w: jnp.sum(jax.vmap(lambda x, w: loss(product, x, w), axes)(x, w)), (0, 1))(x, w)

    for make in (gradients, gradient_of_vmap):
        for ours, theirs in zip(make(matmul), make(jnp.matmul), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5)


def test_no_derivative_transposes_the_data():
    """What it is for: in a Hessian-vector product no array as long as the data is transposed."""

    def product(w):
        return jax.grad(lambda w: jnp.vdot(jax.grad(lambda w: loss(matmul, X, w))(w), W))(w)

    def longest_transpose(jaxpr):
        return [e for e in jaxpr.eqns if e.primitive.name == "transpose" and 5 in e.invars[0].aval.shape]

    assert not longest_transpose(jax.make_jaxpr(product)(W).jaxpr)
    plain = jax.make_jaxpr(lambda w: jax.grad(lambda w: jnp.vdot(jax.grad(lambda w: loss(jnp.matmul, X, w))(w), W))(w))(
        W
    )
    assert longest_transpose(plain.jaxpr)  # and without it, one is


def test_mixed_dtypes_promote():
    assert matmul(X.astype(jnp.bfloat16), W).dtype == jnp.float32


def test_other_contractions_are_refused():
    with pytest.raises(ValueError, match="only x @ w is supported"):
        dense_dot_general(X, W, (((0,), (0,)), ((), ())))
