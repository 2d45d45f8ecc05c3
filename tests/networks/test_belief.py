"""Belief policies: the same step by step and all at once; to act, a belief is data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.networks.belief import ENCODER, belief_policy
from metarl_jax.networks.masked import masked_policy
from metarl_jax.networks.normalised import normalised_policy
from metarl_jax.types import ActionSpec, Percept

T, B = 5, 3


def percepts(discrete):
    keys = jax.random.split(jax.random.key(0), 4)
    action = jax.random.randint(keys[1], (T, B), 0, 3) if discrete else jax.random.normal(keys[1], (T, B, 3))
    done = jax.random.bernoulli(keys[3], 0.4, (T, B)).astype(float)
    return Percept(jax.random.normal(keys[0], (T, B, 4)), action, jax.random.normal(keys[2], (T, B)), done)


@pytest.mark.parametrize(("discrete", "settings"), [(True, {"memory": "lstm"}), (False, {"state_dependent_std": True})])
def test_acting_inferring_and_deciding_agree(discrete, settings):
    """Step by step as all at once, and in its two halves."""
    policy = belief_policy((4,), ActionSpec(3, discrete), latent_size=2, hidden_size=4, hidden_sizes=(5,), **settings)
    params, seen = jax.jit(policy.init)(jax.random.key(0)), percepts(discrete)
    whole, value, last = jax.jit(policy.unroll)(params, policy.initial_carry(B), seen)
    carry, act = policy.initial_carry(B), jax.jit(policy.act)
    for t in range(T):
        _, _, dist_params, carry = act(params, carry, jax.tree.map(lambda x, t=t: x[t], seen), jax.random.key(t))
        jax.tree.map(lambda a, b, t=t: np.testing.assert_allclose(a, b[t], rtol=1e-4, atol=1e-6), dist_params, whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), carry, last)
    belief = jax.jit(policy.belief.infer)(params, seen)
    acting = {name: part for name, part in params.items() if name != ENCODER}
    decided = jax.jit(policy.belief.decide)(acting, seen, belief)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), decided, (whole, value))


def test_no_gradient_of_what_is_done_reaches_the_inference():
    """Exactly zero for all of the encoder's parameters, and for none of the others."""
    policy = belief_policy((4,), ActionSpec(3), latent_size=2, hidden_size=4, hidden_sizes=(5,))
    seen, params = percepts(discrete=False), policy.init(jax.random.key(0))

    @jax.jit
    @jax.grad
    def gradient(params):
        dist_params, value = policy.evaluate(params, policy.initial_carry(B), seen)
        return jnp.sum(value) + jnp.sum(policy.distribution.log_prob(dist_params, seen.previous_action))

    found = gradient(params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(found.pop(ENCODER)))
    assert all(leaf.any() for leaf in jax.tree.leaves(found))


def test_an_action_that_has_no_layer_is_not_shown_to_the_inference():
    policy = belief_policy((4,), ActionSpec(3), action_embedding=0, hidden_size=4)
    seen, params = percepts(discrete=False), policy.init(jax.random.key(0))
    infer = jax.jit(policy.belief.infer)
    other = seen._replace(previous_action=seen.previous_action + 1.0)
    np.testing.assert_array_equal(infer(params, seen).mean, infer(params, other).mean)
    rewarded = infer(params, seen._replace(previous_reward=seen.previous_reward + 1.0))
    assert (infer(params, seen).mean != rewarded.mean).any()


def test_privileged_numbers_are_for_the_value_alone():
    policy = belief_policy((4,), ActionSpec(3), hidden_size=4, hidden_sizes=(5,), privileged_size=1)
    seen, params = percepts(discrete=False), policy.init(jax.random.key(0))
    evaluate = jax.jit(policy.evaluate)
    (dist, value), (other_dist, other_value) = (
        evaluate(params, policy.initial_carry(B), seen._replace(observation=observation))
        for observation in (seen.observation, seen.observation.at[..., -1].add(1.0))
    )
    jax.tree.map(np.testing.assert_array_equal, dist, other_dist)
    assert (value != other_value).all()


def test_masks_and_moments_reach_both_halves():
    """In two halves as in one, of a policy that counts observations and may not take its last action."""
    spec = ActionSpec(3, discrete=True)
    policy = normalised_policy(belief_policy((4,), spec, hidden_size=4, hidden_sizes=(5,)), (4,))
    policy = masked_policy(policy, spec, lambda observation: jnp.arange(3) + 0 * observation[..., :3] < 2)
    seen = percepts(discrete=True)
    params = policy.observe(policy.init(jax.random.key(0)), 3.0 + seen.observation, jnp.ones((T, B)), None)
    whole, value = jax.jit(policy.evaluate)(params, policy.initial_carry(B), seen)
    decide = jax.jit(lambda params, seen: policy.belief.decide(params, seen, policy.belief.infer(params, seen)))
    decided = decide(params, seen)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), decided, (whole, value))
    assert (whole[..., 2] < -1e8).all()
