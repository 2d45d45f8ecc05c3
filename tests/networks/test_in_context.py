"""The in-context policy: what it remembers step by step is what it is told of a context."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.algorithms.incontext.behaviour import without_labels
from metarl_jax.algorithms.incontext.dpt import in_order, shuffled
from metarl_jax.checks import Refusal
from metarl_jax.collect.rollout import rollout_trial
from metarl_jax.networks.in_context import in_context_policy
from metarl_jax.tasks.discrete.tabular import tabular_mdp
from metarl_jax.tasks.wrappers.labelled import with_optimal_actions
from metarl_jax.types import ActionSpec, Percept

EPISODES, TRIALS = 4, 3
FAMILY = tabular_mdp(num_states=3, num_actions=2, horizon=2)
POLICY = in_context_policy(FAMILY.observation_shape, FAMILY.action, context_length=5, size=4, num_layers=2, num_heads=2)


@pytest.fixture(scope="module")
def played():
    """``(params, trials [T, B], carry)`` that the policy has played itself; its context is full before they end."""
    params = jax.jit(POLICY.init)(jax.random.key(0))
    play = jax.jit(lambda task: rollout_trial(*player, params, task, jax.random.key(1), EPISODES, TRIALS))
    player = with_optimal_actions(FAMILY), without_labels(POLICY, FAMILY)
    return params, *play(FAMILY.sample(jax.random.key(2)))


def test_acting_and_being_asked_about_a_context_are_the_same(played):
    """Step by step from a ring of keys and values, and all steps at once."""
    params, trials, _ = played
    examples = in_order(trials, FAMILY)
    asked = jax.jit(POLICY.from_context)(params, *examples.shown)
    np.testing.assert_allclose(asked, trials.dist_params, atol=1e-5)
    assert np.ptp(asked, axis=0).min() > 1e-3, "what it has seen matters"


def test_recorded_trials_are_remembered_as_they_were_played(played):
    params, trials, carry = played
    percept = trials.percept._replace(observation=trials.percept.observation[..., :-1])
    dist_params, value, unrolled = jax.jit(POLICY.unroll)(params, POLICY.initial_carry(TRIALS), percept)
    np.testing.assert_allclose(dist_params, trials.dist_params, atol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), unrolled, carry)
    assert not value.any()


def test_what_is_further_back_than_the_context_is_forgotten(played):
    """Of the transitions, whose effects are kept in later ones, the last ``num_layers * context_length`` matter."""
    params, trials, _ = played
    one = in_context_policy(
        FAMILY.observation_shape, FAMILY.action, context_length=2, size=4, num_layers=1, num_heads=2
    )
    params = {**params, "context": {k: v for k, v in params["context"].items() if k != "block_1"}}
    (context, query), *_ = in_order(trials, FAMILY)
    changed = context._replace(observation=context.observation.at[0].add(1.0))
    plain, other = (jax.jit(one.from_context)(params, c, query) for c in (context, changed))
    differs = (jnp.abs(plain - other) > 1e-5).any(axis=(1, 2))
    assert differs.tolist() == [False, True, True] + [False] * (EPISODES * FAMILY.horizon - 3)


def test_the_order_of_transitions_does_not_matter_to_one_layer(played):
    """They have no positions: in one layer the last query sees them as a set."""
    params, trials, _ = played
    one = in_context_policy(FAMILY.observation_shape, FAMILY.action, size=4, num_layers=1, num_heads=2)
    params = {**params, "context": {k: v for k, v in params["context"].items() if k != "block_1"}}
    (context, query), *_ = in_order(trials, FAMILY)
    backwards = jax.tree.map(lambda x: jnp.concatenate([x[-2::-1], x[-1:]]), context)
    plain, other = (jax.jit(one.from_context)(params, c, query) for c in (context, backwards))
    np.testing.assert_allclose(plain[-1], other[-1], atol=1e-6)
    assert not np.allclose(plain[3], other[3], atol=1e-6)


def test_what_does_not_count_is_not_seen(played):
    """A transition of an episode that failed: whatever it holds, NaN too."""
    params, trials, _ = played
    (context, query), *_ = in_order(trials, FAMILY)
    invalid = context._replace(valid=context.valid.at[1].set(0.0))
    broken = invalid._replace(observation=invalid.observation.at[1].set(jnp.nan))
    plain, left_out, other = (jax.jit(POLICY.from_context)(params, c, query) for c in (context, invalid, broken))
    np.testing.assert_array_equal(left_out, other)
    assert not np.allclose(plain[2:], left_out[2:], atol=1e-5)


def test_shuffling_moves_whole_transitions(played):
    """In every trial the same transitions, and the same queries with their answers."""
    _, trials, _ = played
    examples = in_order(trials, FAMILY)
    mixed = shuffled(examples, jax.random.key(3))
    for part in (lambda e: e.shown[0], lambda e: (e.shown[1], e.action, e.mask)):
        rows = [
            np.concatenate([np.asarray(x, float).reshape(8, TRIALS, -1) for x in jax.tree.leaves(part(e))], axis=-1)
            for e in (examples, mixed)
        ]
        for b in range(TRIALS):
            before, after = (sorted(map(tuple, row[:, b])) for row in rows)
            assert before == after
        assert not np.array_equal(*rows)


def test_continuous_actions_have_a_standard_deviation():
    policy = in_context_policy((2,), ActionSpec(3), size=4, num_layers=1, num_heads=1, init_std=0.5)
    params = policy.init(jax.random.key(0))
    percept = Percept(jnp.zeros((2, 2)), jnp.zeros((2, 3)), jnp.zeros(2), jnp.ones(2))
    act = jax.jit(policy.act)
    action, _, dist_params, _ = act(params, policy.initial_carry(2), percept, jax.random.key(1))
    assert action.shape == (2, 3)
    np.testing.assert_allclose(dist_params.log_std, np.log(0.5), rtol=1e-6)


def test_heads_divide_the_width():
    with pytest.raises(Refusal, match="num_heads = 3: must divide size = 8"):
        in_context_policy((1,), ActionSpec(2, discrete=True), size=8, num_heads=3)
