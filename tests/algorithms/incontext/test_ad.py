"""Algorithm distillation: the histories that it is shown, its gradient, and that it learns to learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax.algorithms.incontext.ad import ad, kept_history, make_play
from metarl_jax.algorithms.incontext.core import Examples
from metarl_jax.algorithms.incontext.q_learning import q_learning
from metarl_jax.checks import Refusal
from metarl_jax.collect.rollout import rollout_trial
from metarl_jax.networks import mlp_policy, recurrent_policy
from metarl_jax.tasks import bandit_bernoulli, navigation_finn, tabular_mdp
from metarl_jax.tasks.wrappers.ends import with_ends
from metarl_jax.types import Percept
from tests.differences import assert_an_update_follows_the_gradient

FAMILY = tabular_mdp(num_states=3, num_actions=2, horizon=2)
SOURCE = q_learning(FAMILY, epsilon=0.5, max_states=3)


@pytest.fixture(scope="module")
def played():
    task = FAMILY.sample(jax.random.key(0))
    played = jax.jit(lambda: rollout_trial(with_ends(FAMILY), SOURCE, (), task, jax.random.key(1), 6, 2)[0])()
    own = played.percept.observation[..., :-1]
    return played._replace(percept=played.percept._replace(observation=own))


def test_a_whole_history_is_the_trial(played):
    examples = kept_history(played, 6, 1)
    jax.tree.map(np.testing.assert_array_equal, examples, Examples(played.percept, played.action, played.mask))


@pytest.mark.parametrize("keep_every", [2, 3])
def test_where_episodes_are_left_out_the_kept_ones_follow_each_other(played, keep_every):
    """The first step of a kept episode shows what the one kept before it ended with, as a trial would."""
    examples = kept_history(played, 6, keep_every)
    kept = range(0, 6, keep_every)
    action, reward = jnp.zeros(2, int), jnp.zeros(2)
    for place, episode in enumerate(kept):
        for t in range(2):
            here, there = place * 2 + t, episode * 2 + t
            wanted = Percept(played.percept.observation[there], action, reward, played.percept.done[there])
            for shown, right in zip(examples.shown, wanted, strict=True):
                np.testing.assert_array_equal(shown[here], right)
            action, reward = played.action[there], played.reward[there]
            np.testing.assert_array_equal(examples.action[here], action)
    assert len(examples.mask) == 2 * len(kept)


def ends_at_once(task, state, action, key):
    return *FAMILY.step(task, state, action, key)[:3], jnp.array(True)


def test_histories_show_what_the_family_shows_and_the_learner_when_they_end():
    """Every step is an end: it learns rewards, and nothing of what follows; the rest of the episode stands still."""
    family = FAMILY._replace(step=ends_at_once)
    learner = {"max_states": 3, "epsilon": 0.5, "initial_value": 5.0}
    played = jax.jit(make_play(family, "q_learning", learner, 3, 2))(
        family.sample(jax.random.key(0)), jax.random.key(1)
    )
    assert played.percept.observation.shape == (6, 2, 3)
    assert played.final_percept.observation.shape == (2, 3)
    np.testing.assert_array_equal(played.percept.observation.sum(axis=-1), 1.0)
    np.testing.assert_array_equal(played.mask, np.tile([[1.0], [0.0]], (3, 2)))


def test_a_source_of_the_users_own_sees_what_the_family_shows():
    own = mlp_policy(FAMILY.observation_shape, FAMILY.action)  # refuses another shape
    played = jax.eval_shape(make_play(FAMILY, own, {}, 3, 2), FAMILY.sample(jax.random.key(0)), jax.random.key(1))
    assert played.percept.observation.shape == (6, 2, 3)


def test_all_that_the_source_plays_is_counted():
    policy = recurrent_policy(FAMILY.observation_shape, FAMILY.action, hidden_size=3)
    algorithm = ad(FAMILY, policy, optax.sgd(0.1), episodes_per_trial=2, keep_every=3, max_states=3)
    keys = jax.random.split(jax.random.key(0))
    _, info = jax.jit(algorithm.update)(algorithm.init(keys[0]), jax.vmap(FAMILY.sample)(keys), keys)
    assert info["steps_taken"] == 2 * 2 * 3 * FAMILY.horizon
    assert info["return"].shape == (6,) == (algorithm.adaptation.stages_per_update,)
    assert info["cross_entropy"].shape == (2,)
    assert algorithm.adaptation.trained == 1


def test_the_gradient_is_that_of_finite_differences():
    """Through the whole memory."""
    policy = recurrent_policy(FAMILY.observation_shape, FAMILY.action, hidden_size=3)
    settings = {"episodes_per_trial": 3, "epsilon": 0.5, "max_states": 3}
    assert_an_update_follows_the_gradient(FAMILY, lambda: ad(FAMILY, policy, optax.sgd(1.0), **settings))


def test_refusals():
    family = navigation_finn()
    with pytest.raises(Refusal, match="give ad a source of your own"):
        ad(family, recurrent_policy((2,), family.action), optax.sgd(0.1))
    with pytest.raises(Refusal, match="adapts by remembering"):
        ad(FAMILY, mlp_policy(FAMILY.observation_shape, FAMILY.action), optax.sgd(0.1))
    with pytest.raises(
        Refusal,
        match=r"epsilon = 0\.7: must be left out: it is of source q_learning, .*, not of one of your own",
    ):
        ad(FAMILY, recurrent_policy((3,), FAMILY.action), optax.sgd(0.1), source=SOURCE, epsilon=0.7)


@pytest.mark.slow
def test_who_imitates_a_learner_learns():
    """On two arms, after so many updates it earns in its last pulls what its source earns, and at first no more."""
    family = bandit_bernoulli(num_arms=2)
    policy = recurrent_policy(family.observation_shape, family.action, hidden_size=16)
    settings = {"episodes_per_trial": 12, "source_discount": 0.0, "ucb_coef": 0.5, "max_states": 1}
    algorithm = ad(family, policy, optax.adam(1e-2), **settings)

    @jax.jit
    def train(state, key):
        def update(state, t):
            keys = jax.random.split(jax.random.fold_in(key, t), 128)
            state, info = algorithm.update(state, jax.vmap(family.sample)(keys), keys)
            return state, info["return"]

        return jax.lax.scan(update, state, jnp.arange(300))

    state, of_source = train(algorithm.init(jax.random.key(0)), jax.random.key(1))
    keys = jax.random.split(jax.random.key(2), 2000)
    adapt = jax.jit(jax.vmap(lambda key: algorithm.adapt(state.params, family.sample(key), key)[1]["return"].mean(1)))
    own, of_source = adapt(keys).mean(axis=0), of_source.mean(axis=0)
    np.testing.assert_allclose(own[0], 0.5, atol=0.04)
    assert of_source[-4:].mean() > 0.6
    np.testing.assert_allclose(own[-4:].mean(), of_source[-4:].mean(), atol=0.02)
