"""The oracle's observations: the task beside what everybody sees, the same dynamics and rewards."""

import jax
import numpy as np
import pytest

from metarl_jax.collect.rollout import rollout
from metarl_jax.config import ConfigError, config_from_dict
from metarl_jax.networks.mlp import mlp_policy
from metarl_jax.runs.build import build
from metarl_jax.tasks.navigation.goals import navigation_finn
from metarl_jax.tasks.navigation.momentum import navigation_momentum
from metarl_jax.tasks.navigation.point import NavigationTask
from metarl_jax.tasks.navigation.walls import navigation_walls
from metarl_jax.tasks.wrappers.oracle import with_critic_oracle, with_oracle

TASK = NavigationTask(np.array([0.3, -0.2], np.float32))


def test_every_observation_shows_the_goal_and_nothing_else_changes():
    hidden, shown = navigation_finn(horizon=4), with_oracle(navigation_finn(horizon=4))
    state, key = hidden.reset(TASK, jax.random.key(0))[0], jax.random.key(1)
    action = np.array([0.5, 1.0], np.float32)
    expected, got = hidden.step(TASK, state, action, key), shown.step(TASK, state, action, key)
    np.testing.assert_array_equal(got[1], np.concatenate([expected[1], TASK.goal]))
    assert got[2] == expected[2]
    policy = mlp_policy(shown.observation_shape, shown.action, hidden_sizes=(4,))
    data = rollout(shown, policy, policy.init(key), TASK, key, 3)
    assert data.percept.observation.shape == (4, 3, 4)
    assert (data.percept.observation[..., 2:] == TASK.goal).all()


@pytest.mark.parametrize(("make", "size"), [(navigation_momentum, 4 + 2), (navigation_walls, 2 + 2 + 4)])
def test_all_numbers_of_a_task_are_shown(make, size):
    """Momentum: the goal. Walls: the goal and both gaps, in that order."""
    family = with_oracle(make())
    task = family.sample(jax.random.key(0))
    _, observation = family.reset(task, jax.random.key(1))
    assert observation.shape == family.observation_shape == (size,)
    shown = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(task)])
    np.testing.assert_array_equal(observation[-len(shown) :], shown)


def test_what_is_for_a_critic_alone_stays_last():
    """The second coordinate is privileged: the policy's own numbers, the goal, then that."""
    family = with_oracle(navigation_finn()._replace(privileged_size=1))
    _, observation, *_ = family.step(TASK, np.zeros(2), np.array([0.5, 1.0]), jax.random.key(0))
    np.testing.assert_allclose(observation, [0.05, 0.3, -0.2, 0.1], rtol=1e-6)


def test_a_critic_alone_can_be_told():
    """The task comes last, behind what is privileged; the policy's own numbers and its best return stay as they are."""
    hidden = navigation_finn()._replace(privileged_size=1, bayes_optimum=np.zeros)
    family = with_critic_oracle(hidden)
    assert (family.privileged_size, family.task_size, family.bayes_optimum) == (3, 2, hidden.bayes_optimum)
    _, observation, *_ = family.step(TASK, np.zeros(2), np.array([0.5, 1.0]), jax.random.key(0))
    np.testing.assert_allclose(observation, [0.05, 0.1, 0.3, -0.2], rtol=1e-6)


def test_who_is_told_the_task_is_not_measured_by_what_is_possible_untold():
    family = navigation_finn()._replace(bayes_optimum=np.zeros)
    assert with_oracle(family).bayes_optimum is None
    assert with_oracle(family).optimum is family.optimum


def test_a_config_turns_it_on():
    tree = {"tasks": {"name": "navigation_finn", "oracle": True}, "algorithm": {"name": "maml"}}
    assert build(config_from_dict(tree)).family.observation_shape == (4,)
    tree["tasks"]["oracle"] = False
    assert build(config_from_dict(tree)).family.observation_shape == (2,)


@pytest.mark.parametrize(
    ("tasks", "algorithm", "policy", "remedy"),
    [
        ({"oracle": True}, "rl2", "recurrent", "tasks.oracle shows the task to the value too: leave one out"),
        ({}, "maml", "mlp", "'maml': it adapts by a value that would know the task, in meta-testing too: leave it out"),
        ({}, "dpt", "in_context", "use mlp, recurrent or belief, or leave out tasks.critic_oracle"),
    ],
)
def test_a_critic_is_told_where_adaptation_does_not_need_it(tasks, algorithm, policy, remedy):
    tree = {"tasks": {"name": "navigation_finn", "critic_oracle": True}}
    others = {"algorithm": {"name": algorithm}, "policy": {"name": policy}}
    rl2 = {"algorithm": {"name": "rl2"}, "policy": {"name": "recurrent", "hidden_size": 4}}
    assert build(config_from_dict(tree | rl2)).family.task_size == 2
    with pytest.raises(ConfigError, match=remedy):
        build(config_from_dict({"tasks": tree["tasks"] | tasks} | others))
