"""DPT: what it is asked and told, its gradient, and the exact posterior that it comes to."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax.algorithms.incontext.behaviour import by_habit, draw_habits
from metarl_jax.algorithms.incontext.core import cross_entropy
from metarl_jax.algorithms.incontext.dpt import dpt, in_order, make_play
from metarl_jax.checks import Refusal
from metarl_jax.collect.rollout import rollout
from metarl_jax.networks import in_context_policy, recurrent_policy
from metarl_jax.tasks import bandit_bernoulli, dark_key_door, navigation_corner, navigation_finn, tabular_mdp
from metarl_jax.tasks.discrete.tabular import optimal_action_values
from metarl_jax.tasks.wrappers.labelled import with_optimal_actions
from tests.differences import assert_an_update_follows_the_gradient
from tests.helpers import OPTIMISED

EPISODES, TRIALS = 3, 2
FAMILY = tabular_mdp(num_states=3, num_actions=2, horizon=2)
POLICY = in_context_policy(FAMILY.observation_shape, FAMILY.action, size=4, num_layers=1, num_heads=2)


def test_each_step_is_asked_about_with_what_was_before_it():
    """The optimal action is that of the state and the time; a transition is two steps of the trial."""
    task = FAMILY.sample(jax.random.key(0))
    play = jax.jit(make_play(FAMILY, POLICY, "random", EPISODES, TRIALS))
    played = play((), task, jax.random.key(1))
    examples = in_order(played, FAMILY)
    context, query = examples.shown
    best = np.argmax(optimal_action_values(task, FAMILY.horizon), axis=-1)
    state = np.argmax(query, axis=-1)
    num_steps = EPISODES * FAMILY.horizon
    for t, b in itertools.product(range(num_steps), range(TRIALS)):
        assert examples.action[t, b] == best[t % FAMILY.horizon, state[t, b]]
        assert context.outcome.previous_action[t, b] == played.action[t, b]
        assert context.outcome.previous_reward[t, b] == played.reward[t, b]
        if t + 1 < num_steps:
            np.testing.assert_array_equal(context.outcome.observation[t, b], query[t + 1, b])
        assert context.outcome.done[t, b] == (t % FAMILY.horizon == FAMILY.horizon - 1)
    np.testing.assert_array_equal(context.observation, query)


def test_the_gradient_is_that_of_finite_differences():
    """Of the loss of a shuffled context."""
    settings = {"episodes_per_trial": EPISODES, "episodes_per_task": TRIALS}
    assert_an_update_follows_the_gradient(FAMILY, lambda: dpt(FAMILY, POLICY, optax.sgd(1.0), **settings))


def test_cross_entropy_is_told_by_the_length_of_the_context():
    """The loss is the mean over steps that count; the parts are means of a stretch each."""
    params = jax.jit(POLICY.init)(jax.random.key(0))
    play = jax.jit(make_play(FAMILY, POLICY, "random", EPISODES, TRIALS))
    examples = in_order(play((), FAMILY.sample(jax.random.key(0)), jax.random.key(1)), FAMILY)
    examples = examples._replace(mask=examples.mask.at[:3, 0].set(0.0))
    from_context = jax.jit(POLICY.from_context)
    loss, info = cross_entropy(lambda params, shown: from_context(params, *shown), POLICY, EPISODES)(params, examples)
    log_p = np.asarray(jax.nn.log_softmax(from_context(params, *examples.shown)))
    surprise = -np.take_along_axis(log_p, np.asarray(examples.action)[..., None], -1)[..., 0]
    mask = np.asarray(examples.mask) > 0
    np.testing.assert_allclose(loss, surprise[mask].mean(), rtol=1e-5)
    for part, name in ((slice(0, 2), 0), (slice(2, 4), 1), (slice(4, 6), 2)):
        np.testing.assert_allclose(info["cross_entropy"][name], surprise[part][mask[part]].mean(), rtol=1e-5)


@pytest.mark.parametrize("family", [bandit_bernoulli(num_arms=3), navigation_finn(horizon=2)], ids=["arms", "moves"])
def test_a_share_of_the_mixed_actions_is_optimal(family):
    """That of each trial; the rest have the distribution of random ones."""
    habits = draw_habits("mixed", family, 50, jax.random.key(0))
    assert 0.0 <= habits.optimal_share.min() < 0.1 < 0.9 < habits.optimal_share.max() <= 1.0
    task = family.sample(jax.random.key(1))
    act = jax.jit(lambda habits: rollout(with_optimal_actions(family), by_habit(family), habits, task, key, 50))
    key = jax.random.key(2)
    for share, wanted in ((0.0, False), (1.0, True)):
        played = act(habits._replace(optimal_share=jnp.full(50, share)))
        assert np.allclose(played.action, in_order(played, family).action) == wanted


def test_concentrated_actions_favour_an_arm_that_has_nothing_to_do_with_the_task():
    family = bandit_bernoulli(num_arms=4)
    chances = np.exp(draw_habits("concentrated", family, 2000, jax.random.key(0)).centre)
    np.testing.assert_allclose(chances.sum(axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(chances.mean(axis=0), 0.25, atol=0.03)
    assert np.isclose((chances.max(axis=-1) > 0.999).mean(), 1 / 11, atol=0.03)


@pytest.mark.parametrize("family", [FAMILY, dark_key_door(size=2, horizon=8)], ids=["tabular", "ends early"])
def test_its_own_trials_stay_in_order(family):
    """What it did then is what it would do now, given what was before, and what was shown after an early end."""
    policy = in_context_policy(family.observation_shape, family.action, size=4, num_layers=1, num_heads=2)
    params = jax.jit(policy.init)(jax.random.key(0))
    play = jax.jit(make_play(family, policy, "policy", EPISODES, 8))
    played = play(params, family.sample(jax.random.key(1)), jax.random.key(2))
    assert played.mask.all() == (family is FAMILY)
    asked = jax.jit(policy.from_context)(params, *in_order(played, family).shown)
    np.testing.assert_allclose(asked, played.dist_params, atol=1e-5)


def test_invalid_actions_are_neither_played_nor_predicted():
    """Of three arms the first is never allowed, whoever plays."""
    family = bandit_bernoulli(num_arms=3)
    family = family._replace(
        valid_actions=lambda seen: jnp.broadcast_to(jnp.arange(3) > 0, (*seen.shape[:-1], 3)),
        optimal_action=lambda task, state, time: 1 + jnp.argmax(task.mean_reward[1:]),
    )
    labelled, task = with_optimal_actions(family), family.sample(jax.random.key(0))
    assert labelled.valid_actions(jnp.zeros((2, 2))).tolist() == 2 * [[False, True, True]]
    for kind in ("random", "concentrated", "mixed"):
        habits = draw_habits(kind, family, 100, jax.random.key(1))
        played = rollout(labelled, by_habit(family), habits, task, jax.random.key(2), 100)
        assert played.action.min() == 1


def test_refusals():
    policy = in_context_policy((2,), navigation_corner().action, size=4)
    with pytest.raises(Refusal, match="nobody knows the optimal actions"):
        dpt(navigation_corner(), policy, optax.sgd(0.1))
    with pytest.raises(Refusal, match="behaviour = 'concentrated': actions are continuous"):
        dpt(navigation_finn(), policy, optax.sgd(0.1), behaviour="concentrated")
    with pytest.raises(Refusal, match=r"set policy\.name to in_context"):
        dpt(FAMILY, recurrent_policy((3,), FAMILY.action), optax.sgd(0.1))


def posterior_entropies(num_pulls):
    """Of which of two Bernoulli arms is better, after 0, 1, ... pulls of random arms; exact.

    ``P(p_1 > p_2)`` for Beta(a, b) and Beta(c, d) is ``sum_{i < a} B(c + i, d + b) / ((b + i) B(1 + i, b) B(c, d))``.
    """

    def log_beta(a, b):
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    def first_is_better(a, b, c, d):
        terms = (math.exp(log_beta(c + i, d + b) - log_beta(1 + i, b) - log_beta(c, d)) / (b + i) for i in range(a))
        return sum(terms)

    entropies = []
    for pulls in range(num_pulls + 1):
        total = 0.0
        for first, won, won_too in itertools.product(range(pulls + 1), repeat=3):
            second = pulls - first
            if won <= first and won_too <= second:
                # An arm pays 0, 1, ..., m times in m pulls, equally likely.
                chance = math.comb(pulls, first) / 2**pulls / (first + 1) / (second + 1)
                p = first_is_better(1 + won, 1 + first - won, 1 + won_too, 1 + second - won_too)
                total -= chance * (p * math.log(p) + (1 - p) * math.log(1 - p))
        entropies.append(total)
    return np.array(entropies)


@pytest.mark.slow
def test_it_comes_to_the_exact_posterior():
    """On two arms the least cross-entropy after j pulls is the entropy of the posterior over the better arm."""
    pulls = 4
    family = bandit_bernoulli(num_arms=2)
    policy = in_context_policy(family.observation_shape, family.action, size=16, num_layers=2, num_heads=2)
    optimizer = optax.adam(optax.linear_schedule(5e-3, 0.0, 300))
    algorithm = dpt(family, policy, optimizer, episodes_per_trial=pulls + 1)

    @partial(jax.jit, compiler_options=OPTIMISED)
    def train(state, key):
        def update(state, t):
            keys = jax.random.split(jax.random.fold_in(key, t), 512)
            state, info = algorithm.update(state, jax.vmap(family.sample)(keys), keys)
            return state, info["cross_entropy"]

        return jax.lax.scan(update, state, jnp.arange(400))

    _, reached = train(algorithm.init(jax.random.key(0)), jax.random.key(1))
    exact = posterior_entropies(pulls)
    assert (np.diff(exact) < -0.01).all()
    np.testing.assert_allclose(reached[-100:].mean(axis=0), exact, atol=0.012)
