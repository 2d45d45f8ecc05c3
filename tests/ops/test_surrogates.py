"""Policy-gradient surrogates: one gradient where the data was sampled, hand values elsewhere, masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.ops.surrogates import INNER_SURROGATES, clipped_ratio, likelihood_ratio, log_likelihood, ratio

SURROGATES = {**INNER_SURROGATES, "clipped_ratio": functools.partial(clipped_ratio, clip_eps=0.3)}
LOG_PROB = jnp.array([[-1.0, -0.3], [-2.0, 0.4], [-0.1, -0.7]])
ADVANTAGE = jnp.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0]])
MASK = jnp.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize("name", SURROGATES)
def test_gradient_at_the_sampling_parameters_is_the_policy_gradient(name):
    """All surrogates have the gradient -A / N there, N being the number of valid steps."""
    gradient = jax.grad(SURROGATES[name])(LOG_PROB, LOG_PROB, ADVANTAGE, MASK)
    np.testing.assert_allclose(gradient, -ADVANTAGE * MASK / 5, rtol=1e-6)


def test_second_derivatives_differ():
    """Protects the estimators from being swapped: only the ratio has the term with squared scores."""
    hessian_diagonal = {
        name: jax.grad(lambda x, s=s: jax.grad(s)(x, LOG_PROB, ADVANTAGE, MASK).sum())(LOG_PROB)
        for name, s in SURROGATES.items()
    }
    np.testing.assert_allclose(hessian_diagonal["log_likelihood"], 0.0, atol=1e-7)
    np.testing.assert_allclose(hessian_diagonal["likelihood_ratio"], -ADVANTAGE * MASK / 5, rtol=1e-6)


def test_ratio_is_exactly_one_where_sampled_and_where_masked():
    """Bit for bit, not up to rounding; NaN in masked steps reads 1."""
    assert (ratio(LOG_PROB, LOG_PROB, jnp.ones_like(MASK)) == 1.0).all()
    broken = jnp.where(MASK > 0, LOG_PROB + 0.5, jnp.nan)
    np.testing.assert_allclose(ratio(broken, LOG_PROB, MASK)[MASK > 0], np.exp(0.5), rtol=1e-6)
    assert ratio(broken, LOG_PROB, MASK)[2, 1] == 1.0


def test_values_by_hand():
    """-mean(log pi A) and -mean(r A) over the valid steps, here with ratio 2 throughout."""
    sampled = LOG_PROB - np.log(2.0)
    np.testing.assert_allclose(
        log_likelihood(LOG_PROB, sampled, ADVANTAGE, MASK), -(-1 + 0.6 - 1 + 1.2 + 0.1) / 5, atol=1e-6
    )
    np.testing.assert_allclose(likelihood_ratio(LOG_PROB, sampled, ADVANTAGE, MASK), -2 * 1.5 / 5, rtol=1e-6)


@pytest.mark.parametrize(
    ("r", "advantage", "loss", "slope"),
    [
        (1.2, 2.0, -2.4, -2.4),  # inside the interval: as the plain ratio
        (1.5, 2.0, -2.6, 0.0),  # too far up and good: held at 1.3
        (0.5, 2.0, -1.0, -1.0),  # too far down and good: pulled back
        (1.5, -2.0, 3.0, 3.0),  # too far up and bad: pushed back
        (0.5, -2.0, 1.4, 0.0),  # too far down and bad: held at 0.7
    ],
)
def test_clipping_by_hand(r, advantage, loss, slope):
    """PPO's pessimistic minimum: value and derivative in log-probability for each side of the interval."""
    one = jnp.ones((1, 1))
    function = functools.partial(
        clipped_ratio, sampled_log_prob=0 * one, advantage=advantage * one, mask=one, clip_eps=0.3
    )
    value, gradient = jax.value_and_grad(function)(jnp.log(r) * one)
    np.testing.assert_allclose(value, loss, rtol=1e-5)
    np.testing.assert_allclose(gradient.item(), slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("where", ["log_prob", "sampled_log_prob", "advantage"])
def test_nan_in_masked_steps_leaks_neither_into_value_nor_gradient(name, where):
    """Protects the double-where: NaN * 0 is NaN, in the backward pass too."""
    arguments = {"log_prob": LOG_PROB, "sampled_log_prob": LOG_PROB - 0.1, "advantage": ADVANTAGE}
    expected = jax.value_and_grad(lambda a: SURROGATES[name](mask=MASK, **a))(arguments)
    arguments[where] = jnp.where(MASK > 0, arguments[where], jnp.nan)
    value, gradient = jax.value_and_grad(lambda a: SURROGATES[name](mask=MASK, **a))(arguments)
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradient["log_prob"], expected[1]["log_prob"], rtol=1e-6)
