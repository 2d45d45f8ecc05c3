"""Action distributions against scipy and Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from metarl_jax.ops.distributions import SQUASH_REACH, GaussianParams, categorical, gaussian, tanh_gaussian
from metarl_jax.types import Distribution

MEAN, LOG_STD = np.array([[0.3, -1.0], [2.0, 0.0]]), np.array([[0.1, -0.7], [0.4, -2.0]])
OTHER_MEAN, OTHER_LOG_STD = np.array([[0.0, -0.8], [1.5, 0.2]]), np.array([[0.3, -0.5], [0.2, -1.5]])
LOGITS, OTHER_LOGITS = np.array([[0.2, -1.0, 1.4], [3.0, 0.0, -3.0]]), np.array([[0.0, 0.5, 1.0], [1.0, 0.0, -1.0]])
NUM_SAMPLES = 100_000

CASES = {
    "gaussian": (gaussian(), GaussianParams(MEAN, LOG_STD), GaussianParams(OTHER_MEAN, OTHER_LOG_STD)),
    "tanh_gaussian": (tanh_gaussian(), GaussianParams(MEAN / 2, LOG_STD - 0.7), GaussianParams(OTHER_MEAN, LOG_STD)),
    "categorical": (categorical(), jnp.asarray(LOGITS), jnp.asarray(OTHER_LOGITS)),
}


@pytest.fixture(params=CASES)
def case(request):
    distribution, p, q = CASES[request.param]
    return Distribution(*map(jax.jit, distribution)), jax.tree.map(jnp.asarray, p), jax.tree.map(jnp.asarray, q)


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


def test_the_mode_is_the_most_likely_action():
    """The mean; the tanh of it, as far as samples reach; the largest logit."""
    p = GaussianParams(jnp.array([0.3, -9.0]), jnp.array([0.1, -0.7]))
    np.testing.assert_array_equal(gaussian().mode(p), p.mean)
    np.testing.assert_allclose(tanh_gaussian().mode(p), [np.tanh(0.3), -np.tanh(SQUASH_REACH)], rtol=1e-6)
    np.testing.assert_array_equal(categorical().mode(jnp.asarray(LOGITS)), [2, 0])


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


END = np.tanh(SQUASH_REACH)


def test_squashed_log_prob_equals_scipy():
    """Change of variables within the range, the probability of the clipped tail at its ends, in double precision."""
    with jax.enable_x64():
        p = GaussianParams(jnp.asarray(MEAN), jnp.asarray(LOG_STD))
        action = np.array([[0.0, 0.5], [0.9995, -0.9]])
        u = scipy.stats.norm(MEAN, np.exp(LOG_STD))
        expected = (u.logpdf(np.arctanh(action)) - np.log(1 - action**2)).sum(-1)
        np.testing.assert_allclose(tanh_gaussian().log_prob(p, jnp.asarray(action)), expected, rtol=1e-12)
        ends = jnp.asarray([[END, -END], [1.0, -1.0]])
        expected = u.logsf(SQUASH_REACH)[:, 0] + u.logcdf(-SQUASH_REACH)[:, 1]
        np.testing.assert_allclose(tanh_gaussian().log_prob(p, ends), expected, rtol=1e-8)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.3), (4.0, 2.0)])
def test_squashed_density_and_ends_add_up_to_one(mean, std):
    """Nothing is lost, whether or not the policy is saturated."""
    with jax.enable_x64():
        u = np.linspace(-SQUASH_REACH, SQUASH_REACH, 20_001)[1:-1, None]
        p = GaussianParams(jnp.full(1, mean), jnp.full(1, np.log(std)))
        density = np.exp(tanh_gaussian().log_prob(p, jnp.tanh(u)))
        ends = np.exp(tanh_gaussian().log_prob(p, jnp.array([[END], [-END]])))
        total = np.trapezoid(density * (1 - np.tanh(u[:, 0]) ** 2), u[:, 0])
        np.testing.assert_allclose(total + ends.sum(), 1.0, atol=1e-3 * std if mean > 1 else 1e-6)


@pytest.mark.parametrize("std", [0.1, 1.0, 2.0])
def test_squashed_entropy_equals_the_integral(std):
    """The quadrature against a fine sum over the range of the action's logit."""
    u = np.linspace(-40.0, 40.0, 400_001)
    for mean in (0.0, 0.7, 3.0):
        q = scipy.stats.norm(mean, std)
        log_slope = 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))
        expected = np.trapezoid(q.pdf(u) * (log_slope - q.logpdf(u)), u)
        p = GaussianParams(jnp.full(1, mean), jnp.full(1, np.log(std)))
        np.testing.assert_allclose(tanh_gaussian().entropy(p), expected, atol=1e-3)


def test_squashed_samples_stay_inside_and_keep_their_probability():
    """A sample that is clipped in single precision gets the probability of the end, not a density."""
    p = GaussianParams(jnp.full((NUM_SAMPLES, 1), 4.0), jnp.full((NUM_SAMPLES, 1), np.log(2.0)))
    action = tanh_gaussian().sample(p, jax.random.key(0))
    clipped = np.asarray(abs(action[:, 0])) >= np.float32(END)
    expected = scipy.stats.norm(4.0, 2.0).sf(SQUASH_REACH)
    assert abs(action).max() < 1
    np.testing.assert_allclose(clipped.mean(), expected, atol=0.01)
    log_prob = tanh_gaussian().log_prob(p, action)
    np.testing.assert_allclose(log_prob[clipped & (action[:, 0] > 0)], np.log(expected), rtol=1e-5)


def test_the_squashed_score_has_mean_zero_even_in_saturation():
    """What keeps policy gradients unbiased where a third of the actions is clipped."""
    p = GaussianParams(jnp.full((NUM_SAMPLES, 1), 4.0), jnp.full((NUM_SAMPLES, 1), np.log(2.0)))
    action = tanh_gaussian().sample(p, jax.random.key(0))
    for score in jax.grad(lambda p: tanh_gaussian().log_prob(p, action).sum())(p):
        assert abs(score.mean()) < 5 * score.std() / np.sqrt(NUM_SAMPLES)


@jax.jit
@jax.vmap
def squashed_to_second_order(mean, log_std, action):
    """The log-density, its gradient by all three, and the second derivatives by mean and deviation."""

    def log_prob(mean, log_std, action):
        return tanh_gaussian().log_prob(GaussianParams(mean[None], log_std[None]), action[None])

    given = mean, log_std, action
    return log_prob(*given), jax.grad(log_prob, (0, 1, 2))(*given), jax.hessian(log_prob, (0, 1))(*given)


@pytest.mark.parametrize("action", [-1.0, 0.3, 1.0])
@pytest.mark.slow
def test_squashed_derivatives_are_finite_everywhere(action):
    """Of first and second order, however far the mean and however small the standard deviation."""
    means, log_stds = np.meshgrid([-1e4, -7.0, 0.0, 7.0, 1e4], [np.log(1e-3), 0.0, 3.0])
    arguments = (np.ravel(x).astype(np.float32) for x in (means, log_stds, np.full_like(means, action)))
    for leaf in jax.tree.leaves(squashed_to_second_order(*arguments)):
        assert np.isfinite(leaf).all()
    _, (slope, *_), _ = squashed_to_second_order(*np.float32([[1e4], [0.0], [1.0]]))
    assert slope == 0, "moving further into saturation must gain nothing"


def test_squashed_divergence_is_that_of_the_gaussians():
    """Tanh is invertible: it changes no divergence."""
    p, q = (GaussianParams(*map(jnp.asarray, pair)) for pair in ((MEAN, LOG_STD), (OTHER_MEAN, OTHER_LOG_STD)))
    np.testing.assert_array_equal(tanh_gaussian().kl(p, q), gaussian().kl(p, q))
