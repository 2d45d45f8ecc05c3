"""Posteriors of bandits' arms against numbers worked out by hand, and against simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.studies.references.posterior import Pulls, bernoulli_posterior, gaussian_posterior

KEYS = jax.random.split(jax.random.key(0), 20_000)


def draws(posterior, pulls):
    return np.asarray(jax.jit(jax.vmap(lambda key: posterior.draw(pulls, key)))(KEYS))


def test_bernoulli():
    """Paid 2 times in 3, and never pulled: Beta(3, 2) and Beta(1, 1)."""
    pulls = Pulls(jnp.array([3.0, 0.0]), jnp.array([2.0, 0.0]))
    np.testing.assert_allclose(bernoulli_posterior().mean(pulls), [3 / 5, 1 / 2], rtol=1e-6)
    drawn = draws(bernoulli_posterior(), pulls)
    np.testing.assert_allclose(drawn.mean(0), [3 / 5, 1 / 2], atol=0.01)
    np.testing.assert_allclose(drawn.var(0), [6 / (25 * 6), 1 / 12], rtol=0.05)


def test_gaussian():
    """Precisions 1/4 of the prior and 1 of a reward: after 3 pulls that paid 6.5 together, N(2, 4/13)."""
    posterior = gaussian_posterior(mean_std=2.0, reward_std=1.0)
    pulls = Pulls(jnp.array([3.0, 0.0]), jnp.array([6.5, 0.0]))
    np.testing.assert_allclose(posterior.mean(pulls), [2.0, 0.0], rtol=1e-6)
    drawn = draws(posterior, pulls)
    np.testing.assert_allclose(drawn.mean(0), [2.0, 0.0], atol=0.05)
    np.testing.assert_allclose(drawn.var(0), [4 / 13, 4.0], rtol=0.05)


@pytest.mark.parametrize("name", ["mean_std", "reward_std"])
def test_impossible_settings_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name} = 0\.0"):
        gaussian_posterior(**{name: 0.0})
