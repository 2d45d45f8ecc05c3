"""MLP policies: shapes, one distribution for acting and evaluating, the floor under the standard deviation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.networks.mlp import mlp_policy
from metarl_jax.types import ActionSpec, Percept

OBSERVATION_SHAPE = (2, 3)


def make(discrete=False, **settings):
    settings = {"hidden_sizes": (5, 4), **settings}
    policy = mlp_policy(OBSERVATION_SHAPE, ActionSpec(3, discrete), **settings)
    return policy._replace(act=jax.jit(policy.act), evaluate=jax.jit(policy.evaluate))


def initial(policy):
    return jax.jit(policy.init)(jax.random.key(0))


def percept(*leading, discrete=False):
    observation = jax.random.normal(jax.random.key(9), (*leading, *OBSERVATION_SHAPE))
    action = jnp.zeros(leading, int) if discrete else jnp.zeros((*leading, 3))
    return Percept(observation, action, jnp.zeros(leading), jnp.zeros(leading))


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("critic", [None, (6,)])
def test_act_and_evaluate_agree_and_have_the_documented_shapes(discrete, critic):
    """The log-probability stored when acting is the one that the losses compute: ratios start at 1."""
    policy = make(discrete, critic_hidden_sizes=critic)
    assert policy.has_critic == (critic is not None)
    params = initial(policy)
    assert set(params) == ({"logits"} if discrete else {"mean", "log_std"}) | ({"value"} if critic else set())
    seen = percept(4, discrete=discrete)
    action, log_prob, dist_params, carry = policy.act(params, policy.initial_carry(4), seen, jax.random.key(1))
    assert action.shape == ((4,) if discrete else (4, 3))
    assert log_prob.shape == (4,)
    assert carry == ()

    sequence = jax.tree.map(lambda x: jnp.stack([x, x]), seen)
    evaluated, value = policy.evaluate(params, (), sequence)
    assert value.shape == (2, 4)
    assert (np.asarray(value) != 0).any() == (critic is not None)
    for one, two in zip(jax.tree.leaves(dist_params), jax.tree.leaves(evaluated), strict=True):
        assert two.shape == (2, *one.shape)
        np.testing.assert_allclose(two[1], one, rtol=1e-5, atol=1e-6)
    replayed = policy.distribution.log_prob(evaluated, jnp.stack([action, action]))
    np.testing.assert_allclose(replayed[0], log_prob, rtol=1e-5, atol=1e-5)


def test_actions_of_a_batch_are_drawn_independently():
    """One key serves a batch; equal observations must still give different actions."""
    policy = make()
    seen = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), percept(4))
    action, *_ = policy.act(initial(policy), (), seen, jax.random.key(1))
    assert len(np.unique(action[:, 0])) == 4


def test_init_std_is_the_standard_deviation_of_actions():
    """Protects the unit of the hyperparameter."""
    policy = make(init_std=0.5)
    _, _, dist_params, _ = policy.act(initial(policy), (), percept(1), jax.random.key(1))
    np.testing.assert_allclose(jnp.exp(dist_params.log_std), 0.5, rtol=1e-6)


def test_standard_deviation_is_clamped_wherever_it_is_used():
    """Adaptation may push log_std anywhere: acting and evaluating both see the same floor."""
    policy = make(min_std=0.1)
    params = initial(policy)
    for log_std, expected in ((-50.0, 0.1), (np.log(0.05), 0.1), (np.log(0.2), 0.2)):
        adapted = {**params, "log_std": jnp.full(3, log_std)}
        _, log_prob, acted, _ = policy.act(adapted, (), percept(4), jax.random.key(1))
        evaluated, _ = policy.evaluate(adapted, (), percept(2, 4))
        np.testing.assert_allclose(jnp.exp(acted.log_std), expected, rtol=1e-5)
        np.testing.assert_allclose(jnp.exp(evaluated.log_std), expected, rtol=1e-5)
        assert np.isfinite(log_prob).all()


def test_the_default_floor_is_a_millionth():
    """The published clamp: log_std >= log 1e-6."""
    policy = make()
    evaluated, _ = policy.evaluate({**initial(policy), "log_std": jnp.full(3, -50.0)}, (), percept(1, 1))
    np.testing.assert_allclose(jnp.exp(evaluated.log_std), 1e-6, rtol=1e-4)


def test_the_network_is_layers_with_one_activation():
    """Against numpy; the output layer is linear, biases start at zero."""
    policy = make(hidden_sizes=(4,), activation="relu")
    params = initial(policy)
    first, second = params["mean"]["Dense_0"], params["mean"]["Dense_1"]
    assert not first["bias"].any()
    assert not second["bias"].any()
    seen = percept(1, 5)
    flat = np.asarray(seen.observation).reshape(1, 5, 6)
    expected = np.maximum(flat @ np.asarray(first["kernel"]), 0) @ np.asarray(second["kernel"])
    np.testing.assert_allclose(policy.evaluate(params, (), seen)[0].mean, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "settings", [{"init_std": 0.0}, {"init_std": -1.0}, {"min_std": 0.0}, {"min_std": float("nan")}, {"min_std": 2.0}]
)
def test_impossible_standard_deviations_are_refused(settings):
    """The message names the setting and the value."""
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=rf"{name} = {value}"):
        make(**settings)
