"""Conjugate gradients, the backtracking line search, adaptive penalties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.ops.trust_region import adapt_kl_coefficients, backtracking_line_search, conjugate_gradient


def system(size=5, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    return (root @ root.T + size * np.eye(size)).astype(np.float32), rng.normal(size=size).astype(np.float32)


def test_conjugate_gradient_solves_a_system_over_a_tree():
    """Against numpy's solver; the unknown is a tree with two leaves."""
    matrix, b = system()

    def product(v):
        image = matrix @ jnp.concatenate([v["a"], v["b"].ravel()])
        return {"a": image[:1], "b": image[1:].reshape(2, 2)}

    result = jax.jit(lambda b: conjugate_gradient(product, b, 10))({"a": b[:1], "b": b[1:].reshape(2, 2)})
    solution = np.concatenate([result.solution["a"], result.solution["b"].ravel()])
    np.testing.assert_allclose(solution, np.linalg.solve(matrix.astype(float), b), rtol=1e-4)
    assert result.residual < 1e-4


@pytest.mark.parametrize("num_steps", [0, 1, 2])
def test_residual_and_image_are_those_of_the_solution_returned(num_steps):
    """Protects the figure that is logged, |b - A x| / |b|, and the A x of a step's length, however few iterations."""
    matrix, b = system()
    result = conjugate_gradient(lambda v: matrix @ v, b, num_steps)
    image = matrix @ np.asarray(result.solution)
    np.testing.assert_allclose(result.image, image, rtol=1e-4, atol=1e-6)
    actual = np.linalg.norm(b - image) / np.linalg.norm(b)
    np.testing.assert_allclose(result.residual, actual, rtol=1e-4)
    assert (actual == 1.0) == (num_steps == 0)


def test_conjugate_gradient_of_zero_is_zero():
    """A vanished gradient gives no step, not 0 / 0."""
    result = conjugate_gradient(lambda v: 2.0 * v, jnp.zeros(3), 5)
    assert result.solution.tolist() == [0.0, 0.0, 0.0]
    assert result.residual == 0.0


def test_more_iterations_than_needed_stay_finite():
    """Stops when the residual is negligible instead of dividing by it."""
    result = conjugate_gradient(lambda v: 2.0 * v, jnp.array([1.0, 2.0]), 50)
    np.testing.assert_allclose(result.solution, [0.5, 1.0])


def search(step, max_kl=1.0, max_backtracks=10, loss=lambda x: x**2, kl=lambda x: (x - 1.0) ** 2):
    """From 1, where the loss is 1; the divergence is the squared distance."""
    return jax.jit(
        lambda: backtracking_line_search(
            lambda x: (loss(x), kl(x)),
            jnp.float32(1.0),
            jnp.float32(step),
            jnp.float32(1.0),
            max_kl,
            0.5,
            max_backtracks,
        )
    )()


def test_a_good_full_step_is_taken_whole():
    """Loss 1 -> 0.25, divergence 0.25."""
    assert tuple(map(float, search(-0.5))) == (0.5, 1.0, 0.25, 0.25)


def test_the_step_shrinks_until_the_loss_falls():
    """-4 and -2 end where the loss is 9 and 1 (no gain); -1 reaches 0."""
    assert tuple(map(float, search(-4.0))) == (0.0, 0.25, 0.0, 1.0)


def test_the_step_shrinks_until_the_divergence_is_allowed():
    """-0.8 gains, but only -0.2 is within a divergence of 0.05."""
    result = search(-0.8, max_kl=0.05)
    np.testing.assert_allclose(result, (0.8, 0.25, 0.64, 0.04), rtol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"step": 1.0},
        {"step": -4.0, "max_backtracks": 2},
        {"step": -0.5, "max_kl": 0.0},
        {"step": -0.5, "loss": lambda x: jnp.nan * x},
        {"step": -0.5, "loss": lambda x: -jnp.inf * x},
        {"step": -0.5, "kl": lambda x: jnp.nan * x},
        {"step": jnp.nan},
    ],
    ids=["uphill", "too few lengths", "no divergence allowed", "loss NaN", "loss -inf", "kl NaN", "step NaN"],
)
def test_rejected_everywhere_leaves_the_parameters(arguments):
    """No length is good: the parameters stay, bit for bit, with fraction 0, the old loss and divergence 0."""
    assert tuple(map(float, search(**arguments))) == (1.0, 0.0, 1.0, 0.0)


def test_kl_coefficients_double_and_halve():
    """Protects ProMP's rule: halve below target / 1.5, double above 1.5 target, else keep; each stage by itself."""
    eta = jnp.array([1.0, 1.0, 1.0, 1.0, 8.0])
    kl = jnp.array([0.0066, 0.0067, 0.0149, 0.0151, 0.1])
    np.testing.assert_allclose(adapt_kl_coefficients(eta, kl, 0.01), [0.5, 1.0, 1.0, 2.0, 16.0])
