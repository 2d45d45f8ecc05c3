"""The gradient check: its exact values agree with enumeration, and it finds the biases that theory predicts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.diagnostics.gradient_check import (
    ESTIMATORS,
    all_paths,
    check_gradients,
    exact_return,
    path_log_probs,
    path_surrogates,
    random_process,
)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@partial(jax.jit, static_argnums=0)
def hessian_biases(horizon):
    process, logits = random_process(jax.random.key(3), 2, 2, horizon), jax.random.normal(jax.random.key(4), (2, 2))
    paths = all_paths(process)
    probability = jnp.exp(path_log_probs(process, logits, paths))
    exact = jax.hessian(lambda x: exact_return(process, x))(logits)

    def bias(estimator):
        surrogates = path_surrogates(estimator, process, logits, paths)
        mean = jax.hessian(lambda x: probability @ surrogates(x))(logits)
        return jnp.abs(mean - exact).max() / jnp.abs(exact).max()

    return {name: bias(name) for name in ESTIMATORS}


@pytest.mark.slow
def test_dynamic_programming_equals_the_sum_over_all_trajectories():
    """Two ways to the expected return that share nothing."""
    process, logits = random_process(jax.random.key(1), 2, 2, 3), jax.random.normal(jax.random.key(2), (2, 2))
    paths = all_paths(process)
    probability = np.exp(path_log_probs(process, logits, paths))
    assert len(probability) == 4**3
    np.testing.assert_allclose(probability.sum(), 1.0)
    total = np.asarray(process.reward)[paths.states, paths.actions].sum(axis=1)
    np.testing.assert_allclose(exact_return(process, logits), probability @ total, rtol=1e-12)


@pytest.mark.parametrize("horizon", [1, 2])
@pytest.mark.slow
def test_biases_are_what_theory_says(horizon):
    """log_likelihood is always biased, LVC only beyond horizon 1, the others never."""
    biases = hessian_biases(horizon)
    assert biases["log_likelihood"] > 0.1
    assert (biases["likelihood_ratio"] > 1e-3) == (horizon > 1)
    for name in ("dice", "loaded_dice", "taypo2"):
        assert biases[name] < 1e-8


@pytest.mark.slow
def test_meta_gradients_get_better_with_more_samples():
    """Spreads fall as one over the square root of the sample; unbiased Hessians make nearly unbiased meta-gradients."""
    row = check_gradients(["taypo2"], sample_sizes=[20, 320], repeats=200)["estimators"]["taypo2"]
    np.testing.assert_allclose(row["hessian_spread"][0] / row["hessian_spread"][1], 4.0, rtol=1e-6)
    assert 3.0 < row["meta_gradient_spread"][0] / row["meta_gradient_spread"][1] < 5.0
    standard_error = row["meta_gradient_spread"][1] / np.sqrt(200)
    assert row["meta_gradient_bias"][1] < 4.0 * standard_error + 0.02


def test_unknown_estimators_are_refused():
    with pytest.raises(ValueError, match=r"estimators = \['lvc'\]: must be a list of any of log_likelihood"):
        check_gradients(["lvc"])
