"""The matrix product: the same numbers and derivatives as jnp.matmul, in every mode and nesting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metarl_jax.checks import Refusal
from metarl_jax.ops.matmul import dense_dot_general, matmul

SIZES = {"narrow": (9, 3, 4), "wide": (9, 6, 7), "narrow in": (9, 2, 7), "narrow out": (9, 6, 2), "long": (300, 6, 7)}
"""Each is computed its own way."""


@pytest.fixture(params=SIZES)
def factors(request):
    rows, inputs, outputs = SIZES[request.param]
    x = jax.random.normal(jax.random.key(0), (rows, inputs))
    return x, jax.random.normal(jax.random.key(1), (inputs, outputs))


def loss(product, x, w):
    return jnp.sum(jnp.tanh(product(x, w)) ** 2)


def hessian_vector_products(product, x, w):
    gradient = jax.grad(lambda w: loss(product, x, w))
    forward_over_reverse = jax.jvp(gradient, (w,), (w,))[1]
    reverse_over_reverse = jax.grad(lambda v: jnp.vdot(gradient(v), w))(w)
    _, linear = jax.linearize(gradient, w)
    (transposed,) = jax.linear_transpose(linear, w)(w)
    return forward_over_reverse, reverse_over_reverse, linear(w), transposed


def by_both(derivatives, x, w):
    """Of this product and of jnp's, in one compilation."""
    return jax.jit(lambda x, w: tuple(derivatives(product, x, w) for product in (matmul, jnp.matmul)))(x, w)


def test_values_for_any_leading_axes(factors):
    x, w = factors
    np.testing.assert_allclose(matmul(x, w), x @ w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(matmul(x[0], w), x[0] @ w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(matmul(x[:, None], w), (x @ w)[:, None], rtol=1e-5, atol=1e-6)


def test_every_second_derivative_equals_that_of_jnp_matmul(factors):
    of_ours, of_theirs = by_both(hessian_vector_products, *factors)
    for ours, theirs in zip(of_ours, of_theirs, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-4)


def test_derivatives_of_three_orders_against_finite_differences(factors):
    with jax.enable_x64(True):
        x, w = (a.astype(jnp.float64) for a in factors)
        check_grads(jax.jit(lambda x, w: loss(matmul, x, w)), (x, w), order=3, modes=["fwd", "rev"], rtol=1e-3)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 2)])
def test_vmap_of_values_and_gradients(axes, factors):
    def batched(array, axis, seed):
        if axis is None:
            return array
        return jnp.moveaxis(jax.random.normal(jax.random.key(seed), (6, *array.shape)), 0, axis)

    x, w = batched(factors[0], axes[0], 2), batched(factors[1], axes[1], 3)

    def gradients(product, x, w):
        return jax.vmap(jax.grad(lambda x, w: loss(product, x, w), argnums=(0, 1)), in_axes=axes)(x, w)

    def gradient_of_vmap(product, x, w):
        return jax.grad(lambda x, w: jnp.sum(jax.vmap(lambda x, w: loss(product, x, w), axes)(x, w)), (0, 1))(x, w)

    for make in (gradients, gradient_of_vmap):
        for ours, theirs in zip(*by_both(make, x, w), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5)


def test_no_derivative_transposes_the_data(factors):
    """What it is for: in a Hessian-vector product no array as long as the data is transposed."""
    x, w = factors
    rows = x.shape[0]

    def transposes(product):
        def products(w):
            return jax.grad(lambda w: jnp.vdot(jax.grad(lambda w: loss(product, x, w))(w), w))(w)

        equations = jax.make_jaxpr(products)(w).jaxpr.eqns
        return [e for e in equations if e.primitive.name == "transpose" and rows in e.invars[0].aval.shape]

    assert not transposes(matmul)
    assert transposes(jnp.matmul)  # and without it, one is


def test_a_long_product_contracts_along_rows_on_cpus_alone():
    """XLA's fast CPU kernels take no other; accelerators need no copy."""
    x = jnp.ones((300, 6))
    gradient = jax.jit(jax.grad(lambda w: loss(matmul, x, w)))
    for platform, copies in {"cpu": 1, "cuda": 0, "tpu": 0}.items():
        program = gradient.trace(jnp.ones((6, 7))).lower(lowering_platforms=(platform,)).as_text()
        assert program.count("optimization_barrier") == copies


def test_mixed_dtypes_promote(factors):
    x, w = factors
    assert matmul(x.astype(jnp.bfloat16), w).dtype == jnp.float32


def test_other_contractions_are_refused(factors):
    with pytest.raises(Refusal, match=r"dimension_numbers = .*: only x @ w is supported"):
        dense_dot_general(*factors, (((0,), (0,)), ((), ())))
    with pytest.raises(Refusal, match="precision = 'high': leave it out"):
        dense_dot_general(*factors, (((1,), (0,)), ((), ())), precision="high")
