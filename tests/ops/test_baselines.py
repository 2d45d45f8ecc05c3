"""The linear feature baseline against a float64 least-squares solution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.ops.baselines import fit_linear_baseline, linear_features

RIDGE = 1e-5
fit = jax.jit(fit_linear_baseline)


def reference_features(observation):
    num_steps, num_episodes = observation.shape[:2]
    o = np.clip(observation.astype(np.float64).reshape(num_steps, num_episodes, -1), -10, 10)
    t = np.broadcast_to(np.arange(num_steps)[:, None, None] / 100.0, (num_steps, num_episodes, 1))
    return np.concatenate([o, o**2, t, t**2, t**3, np.ones_like(t)], axis=-1)


def reference_fit(observation, target, mask):
    """Ridge regression as an augmented least-squares problem in float64."""
    features = reference_features(observation)
    x, y = features[mask > 0], target.astype(np.float64)[mask > 0]
    size = x.shape[1]
    augmented = np.concatenate([x, np.sqrt(RIDGE) * np.eye(size)])
    weights = np.linalg.lstsq(augmented, np.concatenate([y, np.zeros(size)]), rcond=None)[0]
    return features @ weights


def data(num_steps=40, num_episodes=5, size=2, seed=0):
    rng = np.random.default_rng(seed)
    observation = np.cumsum(rng.normal(0, 0.1, (num_steps, num_episodes, size)), axis=0).astype(np.float32)
    target = (-np.linalg.norm(observation - 0.5, axis=-1) * np.arange(num_steps, 0, -1)[:, None]).astype(np.float32)
    return observation, target, np.ones((num_steps, num_episodes), np.float32)


def unexplained(prediction, target, mask):
    return np.sqrt(np.mean((np.asarray(prediction) - target)[mask > 0] ** 2))


def test_features_follow_the_definition():
    """[clip(o, -10, 10), its square, t, t^2, t^3, 1] with t = step / 100."""
    observation = np.array([[[0.5, -20.0]], [[3.0, 12.0]]], np.float32)
    np.testing.assert_allclose(
        linear_features(jnp.asarray(observation)),
        [[[0.5, -10, 0.25, 100, 0, 0, 0, 1]], [[3, 10, 9, 100, 0.01, 1e-4, 1e-6, 1]]],
        rtol=1e-6,
    )


def test_fit_equals_float64_ridge_regression():
    """Protects the float32 solution on the data it is made for."""
    observation, target, mask = data()
    expected = reference_fit(observation, target, mask)
    np.testing.assert_allclose(fit(observation, target, mask), expected, atol=2e-3 * np.std(target))


def test_masked_steps_change_nothing():
    """What stands in masked steps (NaN too) has no influence on the fit, and time is not shifted by it."""
    observation, target, mask = data()
    mask[25:, ::2] = 0.0
    expected, scale = reference_fit(observation, target, mask), np.std(target)
    observation[mask == 0], target[mask == 0] = np.nan, np.nan
    result = np.asarray(fit(observation, target, mask))
    np.testing.assert_allclose(result[mask > 0], expected[mask > 0], atol=2e-3 * scale)


@pytest.mark.parametrize("kind", ["duplicated", "constant", "zero", "nearly_equal", "large"])
def test_degenerate_features_still_fit_in_float32(kind):
    """Collinear and constant columns give finite predictions as good as float64's, not NaN."""
    observation, target, mask = data()
    observation[..., 1] = {
        "duplicated": observation[..., 0],
        "constant": 3.0,
        "zero": 0.0,
        "nearly_equal": observation[..., 0] * (1 + 1e-6),
        "large": 1e6 * observation[..., 0],
    }[kind]
    result = fit(observation, target, mask)
    assert result.dtype == jnp.float32
    assert np.isfinite(result).all()
    best = unexplained(reference_fit(observation, target, mask), target, mask)
    assert unexplained(result, target, mask) < 1.02 * best + 1e-3 * np.std(target)


@pytest.mark.parametrize("seed", [86, 111, 126, 217])
def test_a_constant_goal_in_the_observation_does_not_break_the_factor(seed):
    """What an oracle sees: columns goal, goal^2 and 1 are collinear, and rounding leaves the Gram matrix indefinite.

    Of these seeds each gave NaN with the least damping alone.
    """
    rng = np.random.default_rng(seed)
    goal, time = rng.uniform(-0.5, 0.5, 2), np.arange(100)
    position = goal * (1 - np.exp(-time / 4.0))[:, None, None] + rng.normal(0, 0.05, (100, 20, 2))
    observation = np.concatenate([position, np.broadcast_to(goal, position.shape)], axis=-1).astype(np.float32)
    mask = (time[:, None] < rng.integers(10, 40, 20)).astype(np.float32)
    target = -np.linalg.norm(position - goal, axis=-1).astype(np.float32)[::-1].cumsum(0)[::-1]
    prediction = fit(observation, target, mask)
    expected = reference_fit(observation, target, mask)
    assert unexplained(prediction, target, mask) < 1.05 * unexplained(expected, target, mask) + 1e-3


def test_fewer_steps_than_features_stay_finite():
    """An under-determined fit interpolates instead of exploding."""
    observation, target, mask = data(num_steps=2, num_episodes=1, size=6)
    result = fit(observation, target, mask)
    np.testing.assert_allclose(result, target, rtol=0.01)


def test_nothing_valid_predicts_zero():
    """A stage without a valid step must not poison the batch."""
    observation, target, mask = data(num_steps=3)
    assert (np.asarray(fit(observation, target, 0 * mask)) == 0).all()


def test_fit_over_devices_is_that_of_all_data():
    """Two devices, each with half of the episodes, predict what one with all of them does."""
    rng = np.random.default_rng(0)
    observation = rng.normal(size=(6, 8, 2)).astype(np.float32)
    target = (observation.sum(-1) + rng.normal(size=(6, 8))).astype(np.float32)
    mask = rng.integers(0, 2, size=(6, 8)).astype(np.float32)
    halves = [np.stack(np.split(x, 2, axis=1)) for x in (observation, target, mask)]
    shared = jax.jit(jax.vmap(lambda *data: fit_linear_baseline(*data, "devices"), axis_name="devices"))(*halves)
    np.testing.assert_allclose(np.concatenate(shared, axis=1), fit(observation, target, mask), rtol=1e-2)


def test_each_task_of_a_batch_has_its_own_fit_without_a_batch_of_factors():
    """Of the latter XLA's threads may wait for ever (see ops.factors)."""
    observation, target, mask = (np.stack([x, 2 * x, 3 * x]) for x in data())
    fit_all = jax.jit(jax.vmap(fit_linear_baseline))
    calls = [line for line in fit_all.lower(observation, target, mask).as_text().splitlines() if "@lapack_" in line]
    assert len(calls) >= 3
    assert all('num_batch_dims = "0"' in line for line in calls), calls
    each = [fit_linear_baseline(*one) for one in zip(observation, target, mask, strict=True)]
    np.testing.assert_allclose(fit_all(observation, target, mask), each, rtol=1e-4, atol=1e-4)


def test_no_gradient_flows_through_a_fit():
    observation, target, mask = data()
    gradients = jax.grad(lambda *data: fit_linear_baseline(*data, mask).sum(), (0, 1))(observation, target)
    assert all((np.asarray(gradient) == 0).all() for gradient in gradients)
