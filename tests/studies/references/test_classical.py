"""Reference algorithms against the published totals of Duan et al. (2016).

A total's standard error over 2,000 tasks is 0.05 for 10 pulls and 0.4 for 100; the published ones come from 1,000.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.studies.references.classical import (
    Experience,
    epsilon_greedy,
    greedy,
    opsrl,
    optimistic,
    play_bandit,
    psrl,
    thompson,
    ucb1,
)
from metarl_jax.studies.references.posterior import Pulls, gaussian_posterior
from metarl_jax.tasks.discrete.bandit import BanditTask, bandit_bernoulli, bandit_gaussian
from metarl_jax.tasks.discrete.tabular import TabularTask, tabular_mdp
from tests.helpers import OPTIMISED

TASKS = jax.vmap(bandit_bernoulli().sample)(jax.random.split(jax.random.key(1), 2000))
KEYS = jax.random.split(jax.random.key(0), 2000)


def total(rule, num_pulls):
    """Mean total reward over the tasks."""
    play = jax.vmap(lambda task, key: jnp.sum(play_bandit(rule, task, key, num_pulls)))
    return jax.jit(play, compiler_options=OPTIMISED)(TASKS, KEYS).mean()


@pytest.mark.parametrize(
    ("rule", "num_pulls", "published", "tolerance"),
    [
        (epsilon_greedy(1.0), 10, 5.0, 0.2),
        (epsilon_greedy(1.0), 100, 49.9, 1.0),
        (thompson(), 10, 5.7, 0.2),
        (thompson(), 100, 74.7, 1.2),
        (ucb1(), 10, 6.7, 0.2),
        (ucb1(), 100, 78.0, 1.2),
    ],
    ids=["random-10", "random-100", "thompson-10", "thompson-100", "ucb1-10", "ucb1-100"],
)
@pytest.mark.slow
def test_published_totals(rule, num_pulls, published, tolerance):
    np.testing.assert_allclose(total(rule, num_pulls), published, atol=tolerance)


def test_a_little_exploration_costs_a_little_of_a_short_trial():
    """Greedy beats random by far; exploring one time in three lies between."""
    random, some, none = (total(rule, 10) for rule in (epsilon_greedy(1.0), epsilon_greedy(0.33), greedy()))
    assert random + 0.5 < some < none - 0.2
    assert 6.3 < none < 6.8


def test_greedy_is_epsilon_greedy_with_epsilon_0():
    np.testing.assert_allclose(total(epsilon_greedy(0.0), 10), total(greedy(), 10), rtol=1e-6)


def test_ucb1_bonus_by_hand():
    """Pulls (3, 1), paid (2, 0): means 3/5 and 1/3, bonuses sqrt(2 log 5 / 4) and sqrt(2 log 5 / 2): they cross."""
    pulls = Pulls(jnp.array([3.0, 1.0]), jnp.array([2.0, 0.0]))
    crossing = (3 / 5 - 1 / 3) / (np.sqrt(np.log(5)) - np.sqrt(np.log(5) / 2))
    assert ucb1(crossing - 0.01)(pulls, jax.random.key(0)) == 0
    assert ucb1(crossing + 0.01)(pulls, jax.random.key(0)) == 1


def test_thompson_chooses_as_often_as_an_arm_is_best():
    """Beta(2, 1) against Beta(1, 1): the first is larger with probability 2/3."""
    pulls = Pulls(jnp.array([1.0, 0.0]), jnp.array([1.0, 0.0]))
    arms = jax.vmap(lambda key: thompson()(pulls, key))(KEYS)
    np.testing.assert_allclose(arms.mean(), 1 / 3, atol=0.04)


def test_rewards_come_one_by_one_and_the_rule_learns_from_them():
    """With one arm that always pays and one that never does, greedy errs at most once."""
    rewards = play_bandit(greedy(), BanditTask(jnp.array([0.0, 1.0])), jax.random.key(0), 6)
    assert rewards.tolist() == [0, 1, 1, 1, 1, 1]


@pytest.fixture(scope="module")
def gaussian_totals():
    """``{name: mean total reward of 10 and of 100 pulls}`` on Gaussian bandits, over 2,000 tasks."""
    family, posterior = bandit_gaussian(), gaussian_posterior()
    tasks = jax.vmap(family.sample)(jax.random.split(jax.random.key(1), 2000))
    rules = {
        "random": epsilon_greedy(1.0, posterior),
        "thompson": thompson(posterior),
        "ucb1": ucb1(0.4, posterior),
        "greedy": greedy(posterior),
    }

    def totals(rule):
        play = jax.jit(
            jax.vmap(lambda task, key: play_bandit(rule, task, key, 100, family)), compiler_options=OPTIMISED
        )
        rewards = play(tasks, KEYS)
        return rewards[:, :10].sum(1).mean(), rewards.sum(1).mean()

    return {name: totals(rule) for name, rule in rules.items()}


def test_gaussian_totals(gaussian_totals):
    """Nothing is published. Over 20,000 tasks: 0, 4.1, 6.0, 5.8 for 10 pulls (standard error here 0.15)."""
    for name, expected in {"random": 0.0, "thompson": 4.1, "ucb1": 6.0, "greedy": 5.8}.items():
        np.testing.assert_allclose(gaussian_totals[name][0], expected, atol=0.5)


def test_exploring_pays_in_a_long_gaussian_trial(gaussian_totals):
    """On the same tasks: greedy sticks with the first arm that is not bad; 116 is what one earns who knows the best."""
    random, drawn, optimistic, never = (gaussian_totals[name][1] for name in ("random", "thompson", "ucb1", "greedy"))
    assert random + 80 < never
    assert never + 5 < drawn + 2 < optimistic < 116


def test_ucb1_bonus_by_hand_on_gaussian_arms():
    """Pulls (3, 1) that paid 4 and 0: means 4/4 and 0/2, the bonuses as above."""
    pulls = Pulls(jnp.array([3.0, 1.0]), jnp.array([4.0, 0.0]))
    crossing = 1.0 / (np.sqrt(np.log(5)) - np.sqrt(np.log(5) / 2))
    assert ucb1(crossing - 0.01, gaussian_posterior())(pulls, jax.random.key(0)) == 0
    assert ucb1(crossing + 0.01, gaussian_posterior())(pulls, jax.random.key(0)) == 1


@pytest.fixture(scope="module")
def psrl_returns():
    """``[tasks, n]`` over 200 tasks of the published distribution."""
    tasks = jax.vmap(tabular_mdp().sample)(jax.random.split(jax.random.key(1), 200))
    play = jax.jit(jax.vmap(lambda task, key: psrl(task, key, 10, 10)), compiler_options=OPTIMISED)
    return play(tasks, KEYS[:200])


def test_psrl_total(psrl_returns):
    """Published: 138.1. Ours is about 134 (standard error 2): within 4 %, but not it. Random earns 100.1."""
    np.testing.assert_allclose(psrl_returns.sum(1).mean(), 138.1, rtol=0.06)


def test_psrl_learns_from_episode_to_episode(psrl_returns):
    """From a random policy's 10 towards the optimum's 21.8."""
    means = psrl_returns.mean(0)
    np.testing.assert_allclose(means[0], 10.0, atol=1.0)
    assert means[4] > means[0] + 2
    assert means[-1] > means[4] + 1


@pytest.mark.slow
def test_optimism_over_drawn_processes_earns_no_less(psrl_returns):
    """Published 144.1 against 138.1; ours over 600 tasks 135.3 against 133.5 (standard error of each 1.1)."""
    tasks = jax.vmap(tabular_mdp().sample)(jax.random.split(jax.random.key(1), 200))
    play = jax.jit(jax.vmap(lambda task, key: opsrl(task, key, 10, 10)), compiler_options=OPTIMISED)
    returns = play(tasks, KEYS[:200])
    assert returns.sum(1).mean() > psrl_returns.sum(1).mean()
    np.testing.assert_allclose(returns.sum(1).mean(), 135.3, atol=4.0)


def test_optimism_tries_what_is_least_known():
    """Of arms tried once and a thousand times, which paid the same, it takes nearly always the first."""
    known = Experience(jnp.array([[[1.0], [1000.0]]]), jnp.array([[1.0, 1000.0]]))
    policies = jax.vmap(lambda key: optimistic(known, key, 1, 20))(KEYS[:200])
    assert (policies == 0).mean() > 0.99
    assert 0.4 < (jax.vmap(lambda key: optimistic(known, key, 1, 1))(KEYS[:200]) == 0).mean() < 0.6
    returns = opsrl(TabularTask(jnp.ones((1, 2)), jnp.ones((1, 2, 1))), KEYS[0], 3, 4)
    assert returns.shape == (3,)


def test_psrl_finds_the_better_action():
    """One state, rewards 0 and 5: after some episodes it plays the second action only."""
    task = TabularTask(jnp.array([[0.0, 5.0]]), jnp.ones((1, 2, 1)))
    returns = jax.jit(lambda: psrl(task, jax.random.key(0), 20, 10))()
    np.testing.assert_allclose(returns[10:].mean(), 50.0, atol=3.0)


@pytest.mark.parametrize(("make", "name"), [(ucb1, "exploration"), (epsilon_greedy, "epsilon")])
def test_impossible_settings_are_refused(make, name):
    with pytest.raises(ValueError, match=f"{name} = -0.1"):
        make(-0.1)
