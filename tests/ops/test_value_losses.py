"""What a critic's predictions cost, by hand, and where their gradients end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.ops.value_losses import value_error

VALUE = jnp.array([0.5, 3.0, -4.0, 1.0])
TARGET = jnp.array([0.0, 1.0, 1.0, 1.0])
COLLECTED = jnp.array([0.4, 2.9, -1.0, 0.0])


def slope(**settings):
    return jax.grad(lambda value: value_error(value, TARGET, COLLECTED, **settings).sum())(VALUE)


@pytest.mark.parametrize(
    ("settings", "costs"),
    [
        ({}, [0.25, 4.0, 25.0, 0.0]),
        ({"huber_delta": 1.0}, [0.25, 3.0, 9.0, 0.0]),  # 2 |e| - 1 beyond 1
        ({"huber_delta": 1e6}, [0.25, 4.0, 25.0, 0.0]),
        ({"clip_eps": 0.5}, [0.25, 4.0, 25.0, 0.25]),  # the last: clipped to 0.5
        ({"clip_eps": 0.5, "huber_delta": 1.0}, [0.25, 3.0, 9.0, 0.25]),
    ],
)
def test_costs_by_hand(settings, costs):
    np.testing.assert_allclose(value_error(VALUE, TARGET, COLLECTED, **settings), costs, rtol=1e-6)


def test_the_gradient_of_an_outlier_is_bounded():
    np.testing.assert_allclose(slope(huber_delta=1.0), [1.0, 2.0, -2.0, 0.0], rtol=1e-6)


def test_no_gradient_leads_further_from_what_was_collected():
    """The last has gone further than 0.5 towards its target, the third further away from it: that one is led back."""
    np.testing.assert_allclose(slope(clip_eps=0.5), [1.0, 4.0, -10.0, 0.0], rtol=1e-6)
