"""Bandits against their definition."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.tasks.discrete.bandit import BanditTask, bandit_bernoulli, bandit_gaussian, optimal_value

KEY = jax.random.key(0)
FAMILIES = pytest.mark.parametrize("make", [bandit_bernoulli, bandit_gaussian])


def pull(family, mean_reward, arms, seed=0):
    """Rewards of one pull of each arm listed."""
    task, arms = BanditTask(jnp.array(mean_reward)), jnp.asarray(arms)
    keys = jax.random.split(jax.random.key(seed), arms.shape[0])
    return np.asarray(jax.jit(jax.vmap(lambda arm, key: family.step(task, (), arm, key)[2]))(arms, keys))


def test_bernoulli_pays_one_as_often_as_the_task_says():
    """Each arm its own probability; only 0 and 1."""
    p = np.array([0.1, 0.9, 0.5])
    rewards = pull(bandit_bernoulli(num_arms=3), p, np.tile([0, 1, 2], 2000)).reshape(2000, 3)
    assert set(np.unique(rewards)) == {0.0, 1.0}
    np.testing.assert_allclose(rewards.mean(0), p, atol=0.05)


def test_gaussian_pays_the_mean_plus_noise_of_the_given_width():
    means = np.array([-3.0, 2.0])
    rewards = pull(bandit_gaussian(num_arms=2, reward_std=0.5), means, np.tile([0, 1], 2000)).reshape(2000, 2)
    np.testing.assert_allclose(rewards.mean(0), means, atol=0.05)
    np.testing.assert_allclose(rewards.std(0), 0.5, atol=0.03)


def test_tasks_are_drawn_from_the_published_distributions():
    """Uniform probabilities; standard normal means, scaled by ``mean_std``; arms independent; training as testing."""
    keys = jax.random.split(KEY, 4000)
    for sample in (bandit_bernoulli().sample, bandit_bernoulli().sample_held_out):
        p = np.asarray(jax.vmap(sample)(keys).mean_reward)
        assert p.shape == (4000, 5)
        np.testing.assert_allclose(np.quantile(p, [0.1, 0.5, 0.9], axis=0).T, [[0.1, 0.5, 0.9]] * 5, atol=0.03)
        assert (abs(np.corrcoef(p.T) - np.eye(5)) < 0.06).all()
    means = np.asarray(jax.vmap(bandit_gaussian(mean_std=2.0).sample)(keys).mean_reward)
    np.testing.assert_allclose(means.mean(0), 0.0, atol=0.12)
    np.testing.assert_allclose(means.std(0), 2.0, atol=0.08)


@pytest.mark.parametrize(("make", "expected"), [(bandit_bernoulli, 5 / 6), (bandit_gaussian, 1.16296)])
def test_optimum_over_tasks(make, expected):
    """The mean of the largest of five uniform and of five standard normal numbers (standard error 0.005)."""
    optimum = jax.vmap(lambda key: optimal_value(make().sample(key)))(jax.random.split(KEY, 20_000))
    np.testing.assert_allclose(optimum.mean(), expected, atol=0.02)


def test_the_optimum_of_an_episode_is_the_best_of_all_arms():
    """Without noise, what each arm pays is its mean."""
    means = [-2.0, 0.5, 0.25]
    assert bandit_gaussian(reward_std=0.0).optimum(BanditTask(jnp.array(means))) == 0.5
    assert pull(bandit_gaussian(num_arms=3, reward_std=0.0), means, [0, 1, 2]).max() == 0.5
    assert bandit_bernoulli().optimum(BanditTask(jnp.array([0.25, 0.75]))) == 0.75


def test_the_optimal_action_is_the_best_arm():
    task = BanditTask(jnp.array([0.5, -2.0, 0.75]))
    assert bandit_gaussian(num_arms=3).optimal_action(task, (), jnp.array(0)) == 2


@FAMILIES
def test_one_step_and_no_information(make):
    """Horizon 1, never a termination, and an observation that is the same whatever happened."""
    family = make(num_arms=4)
    assert family.horizon == 1
    assert family.action == (4, True)
    seen = set()
    for i in range(4):
        task = family.sample(jax.random.key(i))
        state, first = family.reset(task, jax.random.key(10 + i))
        _, after, _, terminated = family.step(task, state, jnp.array(i), jax.random.key(20 + i))
        assert first.shape == family.observation_shape
        assert not terminated
        seen |= {tuple(first.tolist()), tuple(after.tolist())}
    assert len(seen) == 1


@FAMILIES
@pytest.mark.parametrize("bad", [-1, 5, 2**31 - 1])
def test_an_arm_that_does_not_exist_pays_nan_in_its_own_lane(make, bad):
    """Not the reward of another arm, and the neighbours' rewards are what they were."""
    good = pull(make(), [0.1, 0.9, 0.5, 0.3, 0.7], [0, 1, 4])
    mixed = pull(make(), [0.1, 0.9, 0.5, 0.3, 0.7], [0, bad, 4])
    assert np.isnan(mixed).tolist() == [False, True, False]
    np.testing.assert_array_equal(mixed[[0, 2]], good[[0, 2]])


@FAMILIES
def test_an_action_that_is_not_a_number_pays_nan_in_its_own_lane(make):
    rewards = pull(make(), [0.1, 0.9, 0.5, 0.3, 0.7], [1.0, np.nan, np.inf, -np.inf, 4.0])
    assert np.isnan(rewards).tolist() == [False, True, True, True, False]


@FAMILIES
def test_a_new_task_does_not_recompile(make):
    family = make()
    run = jax.jit(chex.assert_max_traces(lambda task: family.step(task, (), jnp.array(0), KEY), n=1))
    for i in range(3):
        run(family.sample(jax.random.key(i)))
    chex.clear_trace_counter()


@pytest.mark.parametrize("settings", [{"num_arms": 0}, {"mean_std": -1.0}, {"reward_std": -0.5}])
def test_impossible_settings_are_refused(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        bandit_gaussian(**settings)
