"""Policy-gradient surrogates: one gradient where the data was sampled, hand values elsewhere, masks."""

import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.ops.surrogates import (
    Estimator,
    clipped_ratio,
    dice,
    likelihood_ratio,
    loaded_dice,
    log_likelihood,
    make_surrogate,
    ratio,
    taypo2,
)

SURROGATES = {
    **{name: make_surrogate(name) for name in get_args(Estimator)},
    "clipped_ratio": functools.partial(clipped_ratio, clip_eps=0.3),
}
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


def test_values_of_the_unbiased_estimators_by_hand():
    """One episode of two steps, ratios 2 and 3, advantages 5 and 7: the products of the definitions."""
    log_prob, advantage, one = jnp.log(jnp.array([[2.0], [3.0]])), jnp.array([[5.0], [7.0]]), jnp.ones((2, 1))
    given = (log_prob, 0 * one, advantage, one)
    # rewards 5 - 0.5 * 7 and 7; prefixes 2 and 6; step 1 weighs 0.5
    np.testing.assert_allclose(dice(*given, discount=0.5), -(2 * 1.5 + 0.5 * 6 * 7) / 2, rtol=1e-6)
    # 5 (2 - 1) and 7 (6 - 2); with decay 0 the prefix is forgotten: 7 (3 - 1)
    np.testing.assert_allclose(loaded_dice(*given, decay=1.0), -(5 * 1 + 7 * 4) / 2, rtol=1e-5)
    np.testing.assert_allclose(loaded_dice(*given, decay=0.0), -(5 * 1 + 7 * 2) / 2, rtol=1e-5)
    # with decay 0.5 the prefix of step 1 is sqrt(2)
    np.testing.assert_allclose(loaded_dice(*given, decay=0.5), -(5 + 7 * np.sqrt(2) * 2) / 2, rtol=1e-5)
    # x = 1 and 2: 5 * 1 and 7 * 2 * (1 + 1)
    np.testing.assert_allclose(taypo2(*given), -(5 * 1 + 7 * 2 * 2) / 2, rtol=1e-6)


def test_dice_discounts_as_published():
    """With advantages that are discounted returns, DiCE's rewards are the task's own."""
    reward, one = jnp.array([[3.0], [-1.0], [2.0]]), jnp.ones((3, 1))
    gains = jnp.array([[3.0 - 0.5 + 0.5], [-1.0 + 1.0], [2.0]])
    log_ratio = jnp.array([[0.3], [-0.2], [0.4]])
    expected = np.sum(0.5 ** np.arange(3)[:, None] * np.exp(np.cumsum(log_ratio, axis=0)) * reward) / 3
    np.testing.assert_allclose(dice(log_ratio, 0 * one, gains, one, discount=0.5), -expected, rtol=1e-6)


@pytest.mark.parametrize("estimator", get_args(Estimator))
@pytest.mark.parametrize("argument", range(4))
def test_shapes_that_would_broadcast_silently_are_refused(estimator, argument):
    """An advantage per episode, ``[B]``, would become one per step."""
    arguments = [jnp.ones((3, 2))] * 4
    arguments[argument] = jnp.ones(2)
    with pytest.raises(AssertionError, match=r"\(3, 2\).*\(2,\)|\(2,\).*\(3, 2\)"):
        jax.eval_shape(make_surrogate(estimator), *arguments)
