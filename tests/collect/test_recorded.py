"""Episodes that were recorded say what the rollout saw that they are recorded from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.algorithms.memory.core import remember
from metarl_jax.collect.recorded import recorded_trajectory
from metarl_jax.collect.rollout import rollout, rollout_trial
from metarl_jax.inner import make_inner_loop
from metarl_jax.networks import mlp_policy, recurrent_policy
from metarl_jax.tasks.discrete.tabular import tabular_mdp
from metarl_jax.tasks.navigation.goals import NavigationTask, navigation_finn
from metarl_jax.types import Episodes, Params, Trajectory

# Saturated moves and a goal one move away: some episodes terminate.
FAMILY = navigation_finn(horizon=6, action_scale=0.05)
TASK = NavigationTask(jnp.array([0.1, 0.1]))
POLICY = mlp_policy(FAMILY.observation_shape, FAMILY.action, hidden_sizes=(4,), critic_hidden_sizes=(3,))
NOTHING = -1e30
"""What stands behind an episode's end, where nobody may look."""


def record(played: Trajectory) -> Episodes:
    """``[T, B, ...]`` as somebody would write it down who knows when each episode ended."""
    length = played.taken.sum(0).astype(jnp.int32)
    steps = jnp.arange(played.reward.shape[0] + 1)[:, None]
    observation = jnp.concatenate([played.percept.observation, played.final_percept.observation[None]])

    def known(x, last):
        is_known = (steps[: len(x)] <= last).reshape(len(x), -1, *[1] * (x.ndim - 2))
        return jnp.where(is_known, x, jnp.asarray(NOTHING, x.dtype))

    terminated = (played.discount == 0).any(0).astype(float)
    return Episodes(
        known(observation, length),
        known(played.action, length - 1),
        known(played.reward, length - 1),
        length,
        terminated,
    )


@pytest.fixture(scope="module")
def initial() -> Params:
    return jax.jit(POLICY.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def played(initial: Params) -> Trajectory:
    return jax.jit(lambda: rollout(FAMILY, POLICY, initial, TASK, jax.random.key(3), 8))()


def test_a_recorded_rollout_is_the_rollout_wherever_it_counts(played: Trajectory, initial: Params) -> None:
    again = jax.jit(lambda params, played: recorded_trajectory(POLICY, params, record(played)))(initial, played)
    assert 0 < played.discount.min(0).sum() < 8  # some terminated, some did not
    for name in ("mask", "taken", "reward", "discount"):
        np.testing.assert_array_equal(getattr(again, name), getattr(played, name), name)
    counts = played.mask > 0
    for got, wanted in zip(
        jax.tree.leaves((again.percept, again.action, again.dist_params, again.log_prob)),
        jax.tree.leaves((played.percept, played.action, played.dist_params, played.log_prob)),
        strict=True,
    ):
        np.testing.assert_allclose(got[counts], wanted[counts], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(again.final_percept.observation, played.final_percept.observation)


@pytest.mark.parametrize("settings", [{"baseline": "critic"}, {"inner_rule": "momentum", "baseline": "linear_feature"}])
def test_learning_from_what_was_recorded_is_adapting(settings: dict) -> None:
    """``k`` stages of ``k`` steps, also where fewer are given than the method goes through."""
    loop = make_inner_loop(FAMILY, POLICY, num_inner_steps=2, episodes_per_task=5, inner_lr=(0.3, 0.1), **settings)
    params = loop.init(jax.random.key(0))
    adapted, stages = jax.jit(loop.collect)(params, TASK, jax.random.key(1))
    episodes = jax.tree.map(lambda *x: jnp.stack(x), *(record(batch.trajectory) for batch in stages[:2]))
    learn = jax.jit(loop.learn)
    for got, wanted in zip(*map(jax.tree.leaves, (learn(params, episodes), adapted)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    first = learn(params, jax.tree.map(lambda x: x[:1], episodes))
    assert not np.allclose(first["log_std"], adapted["log_std"])


def test_a_memory_of_recorded_trials_is_that_of_the_trials() -> None:
    family = tabular_mdp(num_states=3, num_actions=4, horizon=3)
    policy = recurrent_policy(family.observation_shape, family.action, hidden_size=3, memory_slots=4)
    params, task = policy.init(jax.random.key(0)), family.sample(jax.random.key(1))
    played, carry = jax.jit(lambda: rollout_trial(family, policy, params, task, jax.random.key(2), 2, 5))()
    by_episode = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), (played.percept.observation, played.action))
    last = jnp.stack([by_episode[0][1, 0], played.final_percept.observation])[:, None]  # the first one's is not seen
    episodes = Episodes(
        jnp.concatenate([by_episode[0], last], axis=1),
        by_episode[1],
        played.reward.reshape(2, 3, 5),
        jnp.full((2, 5), 3, jnp.int32),
        jnp.zeros((2, 5)),
    )
    remembered = jax.jit(lambda: remember(policy, params, episodes))()
    for got, wanted in zip(*map(jax.tree.leaves, (remembered.carry, carry)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_an_episode_that_was_not_recorded_counts_for_nothing(played: Trajectory, initial: Params) -> None:
    empty = record(played)._replace(length=jnp.array([0, 6, 1, 2, 3, 4, 5, 6]))
    assert recorded_trajectory(POLICY, initial, empty).mask.sum(0).tolist() == empty.length.tolist()
