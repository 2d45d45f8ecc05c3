"""Returns and advantages against hand-computed streams, and their masks."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metarl_jax.ops import returns
from metarl_jax.ops.returns import (
    device_weight,
    discounted_return,
    episode_return,
    generalized_advantage,
    masked_mean,
    normalize,
    trial_advantage,
)

NAN = np.nan


def column(*values):
    return jnp.array(values, float)[:, None]


jitted = jax.jit(generalized_advantage)


@pytest.fixture
def accelerated(monkeypatch):
    """What is chosen on accelerators is chosen here."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *given, cpu, default: default(*given))


@pytest.fixture(params=["eager", "jit", "accelerator"])
def advantage(request):
    if request.param == "accelerator":
        request.getfixturevalue("accelerated")
    return jitted if request.param == "jit" else generalized_advantage


# Rewards 1, 2, 3; values 0.5, 1, 1.5; gamma 0.5; lambda 0.5; final value 4.
def test_time_limit_bootstraps_from_the_final_value(advantage):
    """Truncation: delta = (1, 1.75, 3.5), A_2 = 3.5, A_1 = 1.75 + 3.5 / 4, A_0 = 1 + 2.625 / 4."""
    one = column(1, 1, 1)
    result = advantage(column(1, 2, 3), column(0.5, 1, 1.5), jnp.array([4.0]), one, one, 0.5, 0.5)
    np.testing.assert_allclose(result[:, 0], [1.65625, 2.625, 3.5], rtol=1e-6)


def test_termination_at_the_last_step_ignores_the_final_value(advantage):
    """Termination: delta_2 = 3 - 1.5, whatever the final value is, NaN included."""
    result = advantage(
        column(1, 2, 3), column(0.5, 1, 1.5), jnp.array([NAN]), column(1, 1, 0), column(1, 1, 1), 0.5, 0.5
    )
    np.testing.assert_allclose(result[:, 0], [1 + (1.75 + 1.5 / 4) / 4, 1.75 + 1.5 / 4, 1.5], rtol=1e-6)


def test_early_termination_cuts_the_episode_and_its_rest_is_zero(advantage):
    """Terminated at t = 1: delta_1 = 2 - 1; nothing after it counts, be it NaN."""
    result = advantage(
        column(1, 2, NAN), column(0.5, 1, NAN), jnp.array([NAN]), column(1, 0, 1), column(1, 1, 0), 0.5, 0.5
    )
    np.testing.assert_allclose(result[:, 0], [1 + 1 / 4, 1, 0], rtol=1e-6)


def test_episodes_side_by_side_do_not_mix(advantage):
    """NaN in one lane stays there."""
    one = jnp.ones((3, 2))
    reward = jnp.array([[1.0, 1], [2, NAN], [3, 1]])
    value = jnp.array([[0.5, 0], [1, 0], [1.5, 0]])
    result = advantage(reward, value, jnp.array([4.0, 0]), one, one, 0.5, 0.5)
    np.testing.assert_allclose(result[:, 0], [1.65625, 2.625, 3.5], rtol=1e-6)
    assert np.isnan(result[:2, 1]).all()


def test_discounted_return_by_hand():
    """G_2 = 3 + 4/2, G_1 = 2 + 5/2, G_0 = 1 + 4.5/2; terminated at t = 1: G_1 = 2, G_0 = 2."""
    one = column(1, 1, 1)
    np.testing.assert_allclose(
        discounted_return(column(1, 2, 3), jnp.array([4.0]), one, one, 0.5)[:, 0], [3.25, 4.5, 5.0]
    )
    np.testing.assert_allclose(
        discounted_return(column(1, 2, NAN), jnp.array([4.0]), column(1, 0, 1), column(1, 1, 0), 0.5)[:, 0],
        [2.0, 2.0, 0.0],
    )


def test_masked_values_do_not_reach_gradients():
    """NaN in masked steps must not leak through the backward pass either."""
    discount, mask = column(1, 0, 1), column(1, 1, 0)

    def total(value, final_value):
        return jnp.sum(generalized_advantage(column(1, 2, NAN), value, final_value, discount, mask, 0.5, 0.5))

    by_value, by_final = jax.grad(total, argnums=(0, 1))(column(0.5, 1, NAN), jnp.array([NAN]))
    # A_0 + A_1 = (1 + V_1/2 - V_0) + 5/4 (2 - V_1)
    np.testing.assert_allclose(by_value[:, 0], [-1.0, -0.75, 0.0])
    assert by_final.item() == 0.0


numbers = st.floats(-10, 10, width=32)


@st.composite
def episodes(draw):
    num_steps = 6  # one shape, one compilation
    reward, value = (draw(arrays(np.float32, (num_steps, 2), elements=numbers)) for _ in range(2))
    final_value = draw(arrays(np.float32, 2, elements=numbers))
    ends = [draw(st.integers(1, num_steps + 1)) for _ in range(2)]
    steps = np.arange(num_steps)[:, None]
    mask = (steps < np.array(ends)).astype(np.float32)
    discount = (steps != np.array(ends) - 1).astype(np.float32)
    return reward, value, final_value, discount, mask, draw(st.floats(0, 1, width=32))


@settings(deadline=None, max_examples=40)
@given(episodes())
def test_lambda_one_is_the_return_minus_the_value(data):
    """At lambda = 1 the estimate is the Monte-Carlo return minus the value, in whatever way episodes end."""
    reward, value, final_value, discount, mask, gamma = data
    expected = np.zeros_like(reward, np.float64)
    for b in range(reward.shape[1]):
        gain = final_value[b]
        for t in reversed(range(len(reward))):
            gain = reward[t, b] + gamma * discount[t, b] * gain if mask[t, b] else gain
            expected[t, b] = (gain - value[t, b]) * mask[t, b]
    result = jitted(reward, value, final_value, discount, mask, gamma, 1.0)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-3)


@settings(deadline=None, max_examples=40)
@given(episodes())
def test_lambda_zero_is_the_temporal_difference(data):
    """At lambda = 0 only the next value counts."""
    reward, value, final_value, discount, mask, gamma = data
    following = np.concatenate([value[1:], final_value[None]])
    expected = (reward + gamma * discount * following - value) * mask
    result = jitted(reward, value, final_value, discount, mask, gamma, 0.0)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_masked_mean_and_episode_return_skip_masked_steps():
    """Protects against averaging over padding: the divisor is the number of valid steps."""
    x, mask = jnp.array([[1.0, 5.0], [2.0, NAN], [NAN, NAN]]), jnp.array([[1.0, 1], [1, 0], [0, 0]])
    np.testing.assert_allclose(masked_mean(x, mask), 8.0 / 3.0, rtol=1e-6)
    np.testing.assert_allclose(episode_return(x, mask), [3.0, 5.0])
    assert masked_mean(jnp.array([NAN]), jnp.array([0.0])) == 0.0


def test_normalize_uses_the_standard_deviation_of_valid_steps():
    """Mean 4 and std 3 (not variance 9) of (1, 7); padding stays 0 and does not count."""
    result = normalize(jnp.array([1.0, 7.0, NAN]), jnp.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(result, [-1.0, 1.0, 0.0], rtol=1e-6)
    result = normalize(jnp.array([1.0, 4.0, 4.0, 7.0]), jnp.ones(4))
    np.testing.assert_allclose(result, np.array([-3, 0, 0, 3]) / np.sqrt(4.5), rtol=1e-6)


def test_normalize_is_finite_where_nothing_varies():
    """A constant or empty batch gives zeros, not NaN."""
    assert normalize(jnp.full(3, 2.0), jnp.ones(3)).tolist() == [0.0, 0.0, 0.0]
    assert normalize(jnp.full(3, NAN), jnp.zeros(3)).tolist() == [0.0, 0.0, 0.0]


@given(
    arrays(np.float32, (9, 3), elements=st.floats(-5, 5, width=32)),
    arrays(np.float32, (9, 3), elements=st.floats(-5, 5, width=32)),
    arrays(bool, (9, 3)),
    arrays(bool, (9, 3)),
)
@settings(max_examples=30, deadline=None)
def test_in_pairs_it_is_as_step_by_step(reward, value, goes_on, alive):
    """What accelerators compute, with its derivatives, is what CPUs do but for rounding, for episodes and trials."""
    for expected, found in both_ways(reward, value, goes_on, alive):
        for mine, right in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_allclose(mine, right, rtol=1e-5, atol=1e-4)


@jax.jit
def both_ways(reward, value, goes_on, alive):
    """Of episodes and of trials: values and derivatives, step by step and in pairs."""

    def with_derivatives(way, *given):
        result, back = jax.vjp(way, *given)
        return result, back(reward)

    episodes = (
        with_derivatives(way, value, 0.7 * goes_on * alive) for way in (returns._step_by_step, returns._in_pairs)
    )
    trials = (
        with_derivatives(lambda r, v, rates, way=way: way(r, v, alive, *rates), reward, value, jnp.array([0.9, 0.8]))
        for way in (returns._trial_step_by_step, returns._trial_in_pairs)
    )
    return tuple(episodes), tuple(trials)


@pytest.mark.parametrize("way", [returns.generalized_advantage, returns.trial_advantage])
def test_accelerators_do_not_wait_for_every_step(way):
    """There, a loop's round takes longer than its work."""
    ones = jnp.ones((100, 2))
    rest = (ones[0], ones, ones) if way is returns.generalized_advantage else (ones,)
    traced = jax.jit(lambda x: way(x, x, *rest, 0.9, 0.9)).trace(ones)
    for platform, has_loop in {"cpu": True, "cuda": False, "tpu": False}.items():
        assert ("while" in traced.lower(lowering_platforms=(platform,)).as_text()) == has_loop


@pytest.mark.parametrize("way", [returns.generalized_advantage, returns.trial_advantage])
def test_the_number_of_steps_may_be_symbolic(way):
    """As in an exported function, which is for all platforms at once."""
    steps = jax.ShapeDtypeStruct(jax.export.symbolic_shape("t, b"), float)
    last = jax.ShapeDtypeStruct(steps.shape[1:], float)
    if way is returns.generalized_advantage:
        exported = lambda x, end: way(x, x, end, x, x, 0.9, 0.9)  # noqa: E731
    else:
        exported = lambda x, end: way(x, x, x, 0.9, 0.9)  # noqa: E731
    jax.export.export(jax.jit(exported), platforms=("cpu", "cuda", "tpu"))(steps, last)


@pytest.mark.parametrize("platform", ["cpu", "accelerator"])
def test_trial_advantage_is_that_of_the_valid_steps_in_a_row(platform, request) -> None:
    """Masked steps taken out, it is plain GAE with nothing after the end; NaN in them does no harm."""
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(2, 7, 1)).astype(np.float32)
    mask = np.array([1, 1, 0, 1, 0, 0, 1], np.float32)[:, None]
    valid = mask[:, 0] > 0
    ones = np.ones((4, 1), np.float32)
    expected = generalized_advantage(reward[valid], value[valid], np.zeros(1), ones, ones, 0.9, 0.5)
    reward[~valid] = value[~valid] = np.nan
    if platform == "accelerator":
        request.getfixturevalue("accelerated")
    advantage = trial_advantage(reward, value, mask, 0.9, 0.5)
    np.testing.assert_allclose(advantage[valid], expected, rtol=1e-5)
    assert (advantage[~valid] == 0).all()


def test_a_mean_over_devices_is_that_of_all_data() -> None:
    """Devices with 3, 0 and 1 valid steps, also where a single one is valid on all of them together."""
    x = np.arange(9.0, dtype=np.float32).reshape(3, 3)
    for mask in (np.array([[1, 1, 1], [0, 0, 0], [0, 1, 0]], np.float32), np.eye(3, dtype=np.float32) * [1, 0, 0]):
        shared = jax.vmap(lambda a, m: masked_mean(a, m, "devices"), axis_name="devices")(x, mask)
        np.testing.assert_allclose(shared, x[mask > 0].mean(), rtol=1e-6)
        weighted = jax.vmap(lambda a, m: device_weight(m, "devices") * masked_mean(a, m), axis_name="devices")(x, mask)
        np.testing.assert_allclose(weighted.mean(), x[mask > 0].mean(), rtol=1e-6)
    nothing = jax.vmap(lambda m: device_weight(m, "devices"), axis_name="devices")(np.zeros((3, 3), np.float32))
    assert np.isfinite(nothing).all()


def test_normalize_over_devices_is_that_of_all_data() -> None:
    """Two devices with different numbers of valid steps."""
    x = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.float32)
    shared = jax.vmap(lambda a, m: normalize(a, m, "devices"), axis_name="devices")(x, mask)
    np.testing.assert_allclose(shared, normalize(x, mask), rtol=1e-4, atol=1e-6)


def test_shapes_that_would_broadcast_silently_are_refused():
    ones, row = jnp.ones((3, 2)), jnp.ones(2)
    for arguments in ((ones, row, row, ones, ones), (ones, ones, ones, ones, ones), (ones, ones, row, row, ones)):
        with pytest.raises(AssertionError, match="shape"):
            generalized_advantage(*arguments, 0.9, 0.9)
    with pytest.raises(AssertionError, match="shape"):
        masked_mean(ones, row)
    with pytest.raises(AssertionError, match="shape"):
        trial_advantage(ones, ones, row, 0.9, 0.9)
