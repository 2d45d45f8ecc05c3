"""Linear recurrences: a loop and an associative scan are one, and so are their derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.networks.memory.recurrence import at_once, complex_times, linear_recurrence, one_by_one

T, B, SIZE = 7, 3, 4


@pytest.mark.parametrize("times", [jnp.multiply, complex_times])
@pytest.mark.parametrize("is_steady", [False, True])
def test_all_ways_agree_in_numbers_and_derivatives(times, is_steady):
    """Values, gradients, and Hessian products, of a decay of its own for each step or of one for all."""
    keys = jax.random.split(jax.random.key(0), 5)
    decay = jax.random.normal(keys[0], (1, 1, SIZE) if is_steady else (T, B, SIZE))
    at = decay, jax.random.normal(keys[1], (T, B, SIZE)), jax.random.normal(keys[2], (B, SIZE))
    along = jax.tree.map(lambda x: jax.random.normal(keys[3], x.shape), at)

    def everything(recur):
        def loss(at):
            decay, inputs, carry = at
            states = recur(times, decay if recur is linear_recurrence else decay + jnp.zeros((T, 1, 1)), inputs, carry)
            return jnp.sum(jnp.square(states) * jax.random.normal(keys[4], states.shape))

        return loss(at), jax.grad(loss)(at), jax.jvp(jax.grad(loss), (at,), (along,))

    expected, *others = (jax.jit(partial(everything, way))() for way in (one_by_one, at_once, linear_recurrence))
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4), other, expected)


def test_complex_numbers_are_multiplied_as_numpy_does():
    x, y = (jax.random.normal(jax.random.key(seed), (5, 6)) for seed in (0, 1))
    product = np.asarray(complex_times(x, y))
    expected = (np.asarray(x[:, :3]) + 1j * x[:, 3:]) * (np.asarray(y[:, :3]) + 1j * y[:, 3:])
    np.testing.assert_allclose(product[:, :3] + 1j * product[:, 3:], expected, rtol=1e-5)
