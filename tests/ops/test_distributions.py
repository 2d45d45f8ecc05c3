"""Action distributions against scipy and Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from metarl_jax.ops.distributions import GaussianParams, categorical, gaussian

MEAN, LOG_STD = np.array([[0.3, -1.0], [2.0, 0.0]]), np.array([[0.1, -0.7], [0.4, -2.0]])
OTHER_MEAN, OTHER_LOG_STD = np.array([[0.0, -0.8], [1.5, 0.2]]), np.array([[0.3, -0.5], [0.2, -1.5]])
LOGITS, OTHER_LOGITS = np.array([[0.2, -1.0, 1.4], [3.0, 0.0, -3.0]]), np.array([[0.0, 0.5, 1.0], [1.0, 0.0, -1.0]])
NUM_SAMPLES = 100_000

CASES = {
    "gaussian": (gaussian(), GaussianParams(MEAN, LOG_STD), GaussianParams(OTHER_MEAN, OTHER_LOG_STD)),
    "categorical": (categorical(), jnp.asarray(LOGITS), jnp.asarray(OTHER_LOGITS)),
}


@pytest.fixture(params=CASES)
def case(request):
    distribution, p, q = CASES[request.param]
    return distribution, jax.tree.map(jnp.asarray, p), jax.tree.map(jnp.asarray, q)


def draw(distribution, p):
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (NUM_SAMPLES, *x.shape)), p)
    return many, distribution.sample(many, jax.random.key(0))


def test_gaussian_equals_scipy():
    """log_prob and entropy sum over the action's components and take any leading axes."""
    distribution, p = gaussian(), GaussianParams(jnp.asarray(MEAN), jnp.asarray(LOG_STD))
    action = np.array([[0.0, 0.5], [2.2, -0.1]])
    scipy_p = scipy.stats.norm(MEAN, np.exp(LOG_STD))
    np.testing.assert_allclose(distribution.log_prob(p, action), scipy_p.logpdf(action).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(distribution.entropy(p), scipy_p.entropy().sum(-1), rtol=1e-5)


def test_categorical_equals_scipy():
    """log_prob picks the action's entry of the normalised logits."""
    probabilities = scipy.special.softmax(LOGITS, axis=-1)
    result = categorical().log_prob(jnp.asarray(LOGITS), jnp.array([2, 1]))
    np.testing.assert_allclose(result, np.log(probabilities)[[0, 1], [2, 1]], rtol=1e-5)
    np.testing.assert_allclose(
        categorical().entropy(jnp.asarray(LOGITS)), scipy.stats.entropy(probabilities, axis=-1), rtol=1e-5
    )
    np.testing.assert_allclose(
        categorical().kl(jnp.asarray(LOGITS), jnp.asarray(OTHER_LOGITS)),
        scipy.stats.entropy(probabilities, scipy.special.softmax(OTHER_LOGITS, axis=-1), axis=-1),
        rtol=1e-5,
    )


def test_kl_is_the_mean_log_ratio_under_the_first(case):
    """Protects the direction KL(p || q) and its scale, by Monte Carlo."""
    distribution, p, q = case
    many, samples = draw(distribution, p)
    others = jax.tree.map(lambda x: jnp.broadcast_to(x, (NUM_SAMPLES, *x.shape)), q)
    log_ratio = distribution.log_prob(many, samples) - distribution.log_prob(others, samples)
    error = 5 * np.std(log_ratio, axis=0) / np.sqrt(NUM_SAMPLES)
    assert (abs(np.mean(log_ratio, axis=0) - distribution.kl(p, q)) < error).all()
    assert (abs(distribution.kl(p, q) - distribution.kl(q, p)) > error).all(), "the check must see the direction"


def test_entropy_is_the_mean_negative_log_prob_of_samples(case):
    """Protects sampling and entropy together, by Monte Carlo."""
    distribution, p, _ = case
    many, samples = draw(distribution, p)
    surprise = -distribution.log_prob(many, samples)
    error = 5 * np.std(surprise, axis=0) / np.sqrt(NUM_SAMPLES)
    assert (abs(np.mean(surprise, axis=0) - distribution.entropy(p)) < error).all()


def test_kl_of_equals_vanishes_with_its_gradient(case):
    """Protects the trust region's premise: at q = p the divergence and its gradient are zero."""
    distribution, p, _ = case
    np.testing.assert_allclose(distribution.kl(p, p), 0.0, atol=1e-7)
    for leaf in jax.tree.leaves(jax.grad(lambda q: distribution.kl(p, q).sum())(p)):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-6)


def test_extreme_logits_stay_finite():
    """A policy that has become certain must not produce NaN losses or gradients."""
    logits = jnp.array([80.0, -80.0])
    d = categorical()
    for function in (d.entropy, lambda x: d.kl(x, -x), lambda x: d.log_prob(x, jnp.int32(1))):
        value, gradient = jax.value_and_grad(function)(logits)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
