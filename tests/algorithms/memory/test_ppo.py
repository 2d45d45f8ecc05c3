"""PPO on trials: its loss by hand, its minibatches, and the normalisation of advantages."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax.algorithms.memory.ppo import Columns, make_ppo, minibatch_indices, ppo_loss, take_columns
from metarl_jax.algorithms.memory.views import make_evaluate
from metarl_jax.networks.recurrent import recurrent_policy
from metarl_jax.ops.value_losses import value_error
from metarl_jax.types import ActionSpec, Percept

T, N = 6, 4
POLICY = recurrent_policy((2,), ActionSpec(3, discrete=True), hidden_size=3)


@pytest.fixture(scope="module")
def initial():
    return jax.jit(POLICY.init)(jax.random.key(0))


def settings(**keywords):
    defaults = {"clip_eps": 0.1, "critic_coef": 0.7}
    return make_ppo(make_evaluate(POLICY), POLICY.distribution, optax.sgd(0.1), **{**defaults, **keywords})


@pytest.fixture(scope="module")
def columns(initial):
    """Made-up trials, some steps of which do not count, as the initial parameters see them."""
    keys = jax.random.split(jax.random.key(1), 6)
    action = jax.random.randint(keys[0], (T, N), 0, 3)
    observation = jax.random.normal(keys[1], (T, N, 2))
    percept = Percept(observation, jnp.roll(action, 1, axis=0), jnp.zeros((T, N)), jnp.zeros((T, N)))
    logits, value = make_evaluate(POLICY)(initial, percept)
    mask = jnp.ones((T, N)).at[3:, 1].set(0.0)
    advantage, target = 3.0 + 2.0 * jax.random.normal(keys[2], (2, T, N))
    log_prob = POLICY.distribution.log_prob(logits, action)
    return Columns(percept, action, log_prob, mask, advantage * mask, target, value, None)


def by_hand(columns, params):
    """Ratio, entropy and value of every step that counts."""
    logits, value = make_evaluate(POLICY)(params, columns.percept)
    log_p, counts = np.asarray(jax.nn.log_softmax(logits)), np.asarray(columns.mask) > 0
    chosen = np.take_along_axis(log_p, np.asarray(columns.action)[..., None], -1)[..., 0]
    r = np.exp(chosen - np.asarray(columns.log_prob))
    return r[counts], -(np.exp(log_p) * log_p).sum(-1)[counts], value, counts


@pytest.mark.parametrize("robust", [{}, {"huber_delta": 0.5, "value_clip_eps": 0.2}], ids=["squared", "robust"])
def test_loss_by_hand(columns, initial, robust):
    """Clipped surrogate, error of the critic and entropy, from the distributions, on moved parameters."""
    params = jax.tree.map(lambda x: x + 0.5, initial)
    loss, info = ppo_loss(settings(**robust), 0.02)(params, columns)
    r, entropy, value, counts = by_hand(columns, params)
    advantage = np.asarray(columns.advantage)[counts]
    assert (abs(r - 1) > 0.1).any()
    surrogate = np.minimum(r * advantage, np.clip(r, 0.9, 1.1) * advantage).mean()
    of = (robust.get("huber_delta"), robust.get("value_clip_eps"))
    error = value_error(value, columns.value_target, columns.value, *of)[counts].mean()
    np.testing.assert_allclose(loss, -surrogate + 0.7 * error - 0.02 * entropy.mean(), rtol=1e-4)
    np.testing.assert_allclose(info["value_loss"], error, rtol=1e-4)
    np.testing.assert_allclose(info["outer_ratio_error"], abs(r - 1).max(), rtol=1e-3)
    plain = jnp.square(value - columns.value_target)[counts].mean()
    assert bool(robust) == bool(abs(plain - error) > 0.1)


def test_advantages_are_normalised_over_a_minibatch_of_all_devices(columns, initial):
    """Two devices with half of the columns each: mean 0 and deviation 1 over what both show."""
    advantage = np.asarray(columns.advantage)[np.asarray(columns.mask) > 0]
    normal = settings(normalize_advantages="minibatch")
    standard = (columns.advantage - advantage.mean()) / advantage.std() * columns.mask
    expected, _ = jax.jit(ppo_loss(settings(), 0.0))(initial, columns._replace(advantage=standard))
    np.testing.assert_allclose(jax.jit(ppo_loss(normal, 0.0))(initial, columns)[0], expected, rtol=1e-4)
    halves = jax.tree.map(lambda x: jnp.stack([x[:, :2], x[:, 2:]]), columns)
    shared = jax.vmap(lambda half: ppo_loss(normal, 0.0, "devices")(initial, half)[0], axis_name="devices")
    np.testing.assert_allclose(jax.jit(shared)(halves).mean(), expected, rtol=1e-4)


def test_taking_columns_takes_all_of_them(columns):
    carry = jnp.arange(N)
    taken = take_columns(columns._replace(carry=carry), jnp.array([3, 0]))
    np.testing.assert_array_equal(taken.percept.observation, columns.percept.observation[:, [3, 0]])
    np.testing.assert_array_equal(taken.advantage, columns.advantage[:, [3, 0]])
    np.testing.assert_array_equal(taken.carry, [3, 0])


def test_every_epoch_sees_every_trial_once_in_an_order_of_its_own():
    indices = np.asarray(minibatch_indices(jax.random.key(0), 12, 3, 4)).reshape(3, 12)
    assert (np.sort(indices) == np.arange(12)).all()
    assert len({tuple(row) for row in indices}) == 3
    other = np.asarray(minibatch_indices(jax.random.key(1), 12, 3, 4)).reshape(3, 12)
    assert (indices != other).any()


def test_minibatches_that_do_not_divide_the_trials_are_refused():
    with pytest.raises(ValueError, match=r"num_minibatches = 5: must divide the 12 trials"):
        minibatch_indices(jax.random.key(0), 12, 1, 5)
