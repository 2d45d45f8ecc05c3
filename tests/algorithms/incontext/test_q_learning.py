"""The tabular learner: by hand, step by step, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.algorithms.incontext.q_learning import q_learning
from metarl_jax.checks import Refusal
from metarl_jax.collect.rollout import rollout_trial
from metarl_jax.ops.returns import episode_return
from metarl_jax.tasks import bandit_bernoulli, dark_key_door, dark_room, navigation_finn, tabular_mdp
from metarl_jax.tasks.wrappers.ends import with_ends

FAMILY = tabular_mdp(num_states=3, num_actions=2, horizon=3)
SETTINGS = {"step_size": 0.2, "source_discount": 0.7, "initial_value": 1.5, "ucb_coef": 0.4, "epsilon": 0.3}


def ends_in_its_last_state(task, state, action, key):
    state, observation, reward, _ = FAMILY.step(task, state, action, key)
    return state, observation, reward, observation[-1] > 0


ENDING = FAMILY._replace(step=ends_in_its_last_state)


def play(family, learner, episodes, num_learners=2, seed=0):
    key_task, key = jax.random.split(jax.random.key(seed))
    world, task = with_ends(family), family.sample(key_task)
    return jax.jit(lambda: rollout_trial(world, learner, (), task, key, episodes, num_learners))()


@pytest.mark.parametrize(("family", "max_states"), [(FAMILY, 3), (FAMILY, 2), (ENDING, 3)])
def test_by_hand(family, max_states):
    """A dictionary of observations, the rest of them in the last row, and Q-learning in numpy from the steps taken."""
    settings = {**SETTINGS, "exploring_episodes": 4, "max_states": max_states}
    played, learned = play(family, q_learning(FAMILY, **settings), 6)
    assert (played.taken.min() == 0.0) == (family is ENDING)
    for b in range(2):
        rows: dict[int, int] = {}
        value, visits, last = np.full((max_states, 2), 1.5), np.zeros((max_states, 2)), None
        for t in range(18):
            seen = int(np.argmax(played.percept.observation[t, b, :3]))
            if seen not in rows and len(rows) == max_states:
                rows = {old: row for old, row in rows.items() if row < max_states - 1}  # it takes the last row
            row = rows.setdefault(seen, len(rows))
            if last is not None and played.taken[t - 1, b]:
                is_first = t % 3 == 0
                following = last[0] if is_first else row
                visits[last] += 1
                to_come = 0.7 * value[following].max() if is_first or played.discount[t - 1, b] else 0.0
                target = played.reward[t - 1, b] + to_come
                value[last] += max(0.2, 1 / visits[last]) * (target - value[last])
            with np.errstate(divide="ignore"):
                bonus = np.sqrt(np.log1p(visits[row].sum()) / visits[row]) if visits[row].sum() else np.full(2, np.inf)
            score = value[row] + 0.4 * bonus
            exploring = 0.3 * max(0.0, 1 - (t // 3) / 4)
            best = score == score.max()
            wanted = exploring / 2 + (1 - exploring) * best / best.sum()
            np.testing.assert_allclose(np.exp(played.dist_params[t, b]), wanted, atol=1e-5)
            last = row, int(played.action[t, b])
        np.testing.assert_allclose(learned.value[b], value, rtol=1e-4)
        np.testing.assert_array_equal(learned.visits[b], visits)


def test_where_episodes_end_no_value_is_above_what_can_be_earned():
    """A key and a door pay 1 each, once; who never earned in a last step, whose outcome nobody sees, values no more."""
    family = dark_key_door(size=2, horizon=8)
    learner = q_learning(family, epsilon=0.2)
    played, learned = play(family, learner, 10, num_learners=16)
    np.testing.assert_array_equal(learned.visits.sum(axis=(1, 2)), played.taken[:-1].sum(axis=0))
    assert played.taken.mean() < 0.9
    bounded = played.reward.reshape(10, 8, 16)[:, -1].sum(axis=0) == 0
    assert bounded.sum() > 8
    value, has_key = learned.value[bounded], learned.known[bounded, :, 2]
    assert (value.max(axis=-1) <= 2.0 - has_key).all()
    assert value.max() > 1.0


def test_on_a_bandit_it_tries_every_arm_and_then_finds_the_best():
    family = bandit_bernoulli(num_arms=5)
    learner = q_learning(family, source_discount=0.0, ucb_coef=0.5, max_states=1)
    played, learned = play(family, learner, 200, num_learners=20)
    assert (np.sort(played.action[:5], axis=0) == np.arange(5)[:, None]).all()
    best = jnp.argmax(family.sample(jax.random.split(jax.random.key(0))[0]).mean_reward)
    assert (played.action[-50:] == best).mean() > 0.7
    np.testing.assert_allclose(learned.visits.sum(axis=(1, 2)), 199)


def test_who_expects_too_much_finds_the_goal_of_a_dark_room():
    """Optimistic values lead it to every cell; then it goes straight to the goal, as one told it."""
    family = dark_room(size=4, horizon=16, num_held_out=4)
    learner = q_learning(family, step_size=1.0, initial_value=10.0, max_states=16)
    played, _ = play(family, learner, 40, seed=3)
    returns = jax.vmap(episode_return)(*(x.reshape(40, 16, 2) for x in (played.reward, played.mask)))
    optimum = family.optimum(family.sample(jax.random.split(jax.random.key(3))[0]))
    assert returns[0].max() < optimum
    assert returns[-1].min() == optimum


def test_continuous_actions_are_refused():
    with pytest.raises(Refusal, match="these learners take discrete actions"):
        q_learning(navigation_finn())
