"""An agent that acts step by step does what the same agent does in a rollout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.collect.actor import Actor
from metarl_jax.collect.rollout import rollout
from metarl_jax.networks import mlp_policy, recurrent_policy
from metarl_jax.tasks.discrete.bandit import bandit_bernoulli
from metarl_jax.tasks.navigation.goals import navigation_finn
from metarl_jax.types import Agent

NAVIGATION = navigation_finn(horizon=4)
MEMORYLESS = mlp_policy(NAVIGATION.observation_shape, NAVIGATION.action, hidden_sizes=(4,), squash=True)
RECURRENT = recurrent_policy(NAVIGATION.observation_shape, NAVIGATION.action, hidden_size=4)
KEY = jax.random.key(7)


def untrained(policy):
    return Agent(policy.init(jax.random.key(0)), policy.initial_carry(1))


@pytest.mark.parametrize("policy", [MEMORYLESS, RECURRENT])
@pytest.mark.slow
def test_sampled_actions_are_those_of_a_rollout_with_the_same_key(policy):
    """Three episodes side by side, shown what the rollout saw."""
    agent, task = untrained(policy), NAVIGATION.sample(jax.random.key(1))
    played = jax.jit(lambda: rollout(NAVIGATION, policy, agent.params, task, KEY, 3))()
    actor = Actor(NAVIGATION, policy, agent, KEY)
    for observation, action, reward in zip(played.percept.observation, played.action, played.reward, strict=True):
        np.testing.assert_allclose(actor.act(observation), action, rtol=1e-5, atol=1e-6)
        actor.observe(reward)


@pytest.mark.parametrize("policy", [MEMORYLESS, RECURRENT])
def test_deterministic_actions_are_the_modes_of_what_the_policy_evaluates(policy):
    """Two episodes of two steps, one observation at a time, from the memory that adaptation left in its first trial."""
    rng = np.random.default_rng(0)
    observations, rewards = rng.normal(size=(4, 2)), rng.normal(size=4)
    memory = jax.tree.map(lambda x: jnp.stack([x[0] + 0.5, x[0] - 0.5]), policy.initial_carry(1))
    actor = Actor(NAVIGATION, policy, untrained(policy)._replace(carry=memory), KEY)
    actions = []
    for t in range(4):
        actions.append(actor.act(observations[t], deterministic=True))
        actor.observe(rewards[t], done=t == 1)
    action, none = jnp.stack(actions), jnp.zeros((1, 2))
    percept = rollout(NAVIGATION, policy, untrained(policy).params, NAVIGATION.sample(KEY), KEY, 1).percept._replace(
        observation=jnp.asarray(observations, jnp.float32)[:, None],
        previous_action=jnp.concatenate([none, action[:-1]])[:, None],
        previous_reward=jnp.asarray([0.0, *rewards[:-1]], jnp.float32)[:, None],
        done=jnp.array([1.0, 0.0, 1.0, 0.0])[:, None],
    )
    first = jax.tree.map(lambda x: x[:1], memory)
    dist_params, _ = policy.evaluate(untrained(policy).params, first, percept)
    np.testing.assert_allclose(action, policy.distribution.mode(dist_params)[:, 0], rtol=1e-5, atol=1e-6)


def test_a_discrete_action_is_a_number():
    family = bandit_bernoulli(num_arms=3)
    policy = mlp_policy(family.observation_shape, family.action, hidden_sizes=(4,))
    actor = Actor(family, policy, untrained(policy), KEY)
    action = actor.act([0.0])
    assert action.shape == ()
    assert action in range(3)


def test_what_cannot_be_acted_on_is_refused():
    """Wrong shapes, another number of episodes, a memory that was not told, and a reward for nothing."""
    actor = Actor(NAVIGATION, RECURRENT, untrained(RECURRENT), KEY)
    with pytest.raises(ValueError, match=r"reward = 1\.0: there was no action"):
        actor.observe(1.0)
    with pytest.raises(ValueError, match=r"observation\.shape = \(1, 3\): give \(2,\), or several"):
        actor.act(np.zeros(3))
    actor.act(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"reward = None: this policy remembers rewards: call observe"):
        actor.act(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"done = .*: give one number, or 3 of them"):
        actor.observe(0.5, done=np.zeros(2))
    actor.observe(0.5)
    with pytest.raises(ValueError, match=r"observation\.shape = \(2,\): it was \(3, 2\) before"):
        actor.act(np.zeros(2))
