"""Random MDPs within a band against their definition."""

import jax
import numpy as np
import pytest

from metarl_jax.tasks.discrete.any_mdp import any_mdp

SIZE, LEAP, RETREAT = 12, 3, 4
FAMILY = any_mdp(num_states=SIZE, num_actions=3, horizon=30, max_leap=LEAP, max_retreat=RETREAT, reward_std=0.0)


@pytest.fixture(scope="module")
def tasks():
    """200 of them, in numpy."""
    drawn = jax.jit(jax.vmap(FAMILY.sample))(jax.random.split(jax.random.key(0), 200))
    return jax.tree.map(np.asarray, drawn)


def first_state_only(transition):
    """``[..., S]`` whether every action of a state leads to the start."""
    return (transition[..., 0] == 1.0).all(axis=-1)


def test_one_state_is_the_goal_and_leads_back_to_the_start(tasks):
    reward, transition = tasks
    is_goal = (reward == 1.0).all(axis=-1)
    assert (is_goal.sum(axis=-1) == 1).all()
    assert not is_goal[:, 0].any()
    assert first_state_only(transition)[is_goal].all()
    assert len(np.unique(is_goal.argmax(axis=-1))) == SIZE - 1  # it may be shown by any number but the start's


def test_pitfalls_cost_up_to_1_and_are_nearly_a_tenth_of_the_states_between(tasks):
    """Their probability is uniform on [0, 0.2], but for two in a row; a third of other actions earn or cost little."""
    reward, transition = tasks
    is_end = first_state_only(transition) & (reward[..., :1] == reward).all(axis=-1) & (abs(reward[..., 0]) > 0)
    is_pitfall = is_end & (reward[..., 0] < 0)
    assert is_pitfall.sum() / (200 * (SIZE - 2)) == pytest.approx(0.088, abs=0.015)
    assert (reward[is_pitfall] >= -1.0).all()
    others = reward[~is_end]
    assert np.mean(others != 0.0) == pytest.approx(1 / 3, abs=0.03)
    assert others[others != 0.0].std() == pytest.approx(0.1, abs=0.01)


def test_transitions_are_probabilities_and_reach_no_farther_than_the_band(tasks):
    """At most three ahead and four back: with the state itself, eight, of the start four."""
    transition = tasks.transition
    np.testing.assert_allclose(transition.sum(-1), 1.0, rtol=1e-5)
    reached = (transition > 0.0).any(axis=2).sum(axis=-1)
    assert reached.max() == LEAP + RETREAT + 1
    assert reached[:, 0].max() == LEAP + 1


def test_actions_differ_in_where_they_lead(tasks):
    transition = tasks.transition
    spread = transition[~first_state_only(transition)].std(axis=1).max(axis=-1)
    assert np.median(spread) > 0.2


def test_every_goal_can_be_reached_and_chance_seldom_does(tasks):
    """By some way around the pitfalls; whoever knows it earns far more than who acts anyhow."""
    reward, transition = tasks
    can = transition.max(axis=2) > 0.0
    pitfalls = reward[..., 0] * first_state_only(transition) < -1e-6
    reached = np.eye(SIZE, dtype=bool)[np.zeros(200, int)]
    for _ in range(SIZE):
        reached |= ((reached & ~pitfalls)[:, :, None] & can).any(axis=1)
    assert reached[(reward == 1.0).all(axis=-1)].all()
    optimum = np.asarray(jax.jit(jax.vmap(FAMILY.optimum))(tasks))
    anyhow = transition.mean(axis=2)
    value = np.zeros((200, SIZE))
    for _ in range(30):
        value = reward.mean(axis=2) + (anyhow @ value[..., None])[..., 0]
    assert value[:, 0].mean() < 0.2 * optimum.mean()


def test_an_mdp_has_a_start_and_a_goal():
    with pytest.raises(ValueError, match="num_states = 1: must be at least 2"):
        any_mdp(num_states=1)
