"""Observations of any type of number: what is computed from them is in the precision of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax.algorithms import maml, rl2
from metarl_jax.collect.rollout import rollout, rollout_trial
from metarl_jax.networks import conv_policy, mlp_policy, recurrent_policy
from metarl_jax.ops.baselines import fit_linear_baseline, linear_features
from metarl_jax.tasks.wrappers.oracle import with_oracle
from metarl_jax.types import ActionSpec, Percept, TaskFamily

SHAPE = (3, 3, 2)
TYPES = pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.bool_, jnp.float16, jnp.bfloat16])
ACTIONS = pytest.mark.parametrize(
    "action", [ActionSpec(2), ActionSpec(3, discrete=True)], ids=["continuous", "discrete"]
)
POLICIES = {
    "conv": lambda action: conv_policy(SHAPE, action, channels=(2,), hidden_sizes=(2,)),
    "mlp": lambda action: mlp_policy(SHAPE, action, hidden_sizes=(2,), context_size=1, shared_torso=True),
    "recurrent": lambda action: recurrent_policy(SHAPE, action, hidden_size=2, memory_slots=2),
}


def images(dtype, action):
    """Images of the step's number; the reward is an integer."""

    def show(state):
        return jnp.full(SHAPE, state).astype(dtype)

    def step(task, state, action, key):
        return state + 1, show(state + 1), jnp.int32(1), state >= task + 2

    def sample(key):
        return jax.random.randint(key, (), 0, 2)

    return TaskFamily(sample, sample, lambda task, key: (jnp.int32(0), show(jnp.int32(0))), step, SHAPE, action, 3)


@TYPES
@ACTIONS
@pytest.mark.parametrize("network", POLICIES)
def test_actions_and_rewards_do_not_take_the_type_of_the_observation(dtype, action, network):
    family, policy = images(dtype, action), POLICIES[network](action)

    def play(key):
        task, params = family.sample(key), policy.init(key)
        trial, _ = rollout_trial(family, policy, params, task, key, 2, 2)
        return rollout(family, policy, params, task, key, 2), trial

    for data in jax.eval_shape(play, jax.random.key(0)):
        number = jnp.int32 if action.discrete else jnp.float32
        assert data.action.dtype == data.percept.previous_action.dtype == number
        assert data.percept.observation.dtype == data.final_percept.observation.dtype == dtype
        others = (data.reward, data.log_prob, data.dist_params, data.percept.previous_reward, data.percept.done)
        assert {leaf.dtype for leaf in jax.tree.leaves(others)} == {jnp.dtype("float32")}


@TYPES
def test_methods_learn_from_them(dtype):
    """Traced: a type that does not fit would be an error there."""
    action = ActionSpec(2)
    family, keys = images(dtype, action), jax.random.split(jax.random.key(0), 2)
    methods = (
        maml(family, POLICIES["conv"](action), optax.adam(1e-3), episodes_per_task=2),
        rl2(family, POLICIES["recurrent"](action), optax.adam(1e-3), num_minibatches=1),
    )
    for method in methods:
        before = jax.eval_shape(method.init, keys[0])
        after, info = jax.eval_shape(method.update, before, jax.vmap(family.sample)(keys), keys)
        assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, before)
        assert info["loss"].dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bfloat16])
@pytest.mark.parametrize("network", POLICIES)
def test_the_network_computes_as_on_floats(dtype, network):
    policy = POLICIES[network](ActionSpec(2))
    observation = jnp.asarray(np.random.default_rng(0).integers(0, 200, (3, 4, *SHAPE))).astype(dtype)
    params, carry = jax.jit(policy.init)(jax.random.key(0)), policy.initial_carry(4)
    evaluate = jax.jit(policy.evaluate)
    rest = jnp.zeros((3, 4, 2)), jnp.zeros((3, 4)), jnp.zeros((3, 4))
    seen = evaluate(params, carry, Percept(observation, *rest))
    expected = evaluate(params, carry, Percept(observation.astype(jnp.float32), *rest))
    jax.tree.map(np.testing.assert_array_equal, seen, expected)


@TYPES
def test_the_baseline_squares_them_as_floats(dtype):
    observation = jnp.arange(24).reshape(6, 2, 2).astype(dtype)  # 20 squared is no byte
    same = observation.astype(jnp.float32)
    np.testing.assert_array_equal(linear_features(observation), linear_features(same))
    target, mask = jnp.arange(12.0).reshape(6, 2), jnp.ones((6, 2))
    fit = jax.jit(fit_linear_baseline)
    np.testing.assert_array_equal(fit(observation, target, mask), fit(same, target, mask))


def test_the_oracle_shows_a_task_that_is_no_byte():
    family = images(jnp.uint8, ActionSpec(2))._replace(sample=lambda key: jnp.float32(0.3))
    _, observation = with_oracle(family).reset(jnp.float32(0.3), jax.random.key(0))
    assert observation.dtype == jnp.float32
    assert observation[-1] == jnp.float32(0.3)
