"""Recurrent policies: what they see, and that looking back at data agrees with having acted on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.networks.recurrent import percept_features, recurrent_policy
from metarl_jax.types import ActionSpec, Percept

T, B = 5, 3
VARIANTS = pytest.mark.parametrize("discrete", [True, False])
MEMORIES = pytest.mark.parametrize("memory", ["gru", "lstm"])


def make(discrete=True, **settings):
    return recurrent_policy((2, 2), ActionSpec(3, discrete), **{"hidden_size": 4, **settings})


def percepts(discrete=True, seed=0):
    """``[T, B]`` random percepts."""
    keys = jax.random.split(jax.random.key(seed), 4)
    action = jax.random.randint(keys[1], (T, B), 0, 3) if discrete else jax.random.normal(keys[1], (T, B, 3))
    done = jax.random.bernoulli(keys[3], 0.4, (T, B)).astype(float)
    return Percept(jax.random.normal(keys[0], (T, B, 2, 2)), action, jax.random.normal(keys[2], (T, B)), done)


def shaken(params):
    """Parameters with no zeros among them that nobody would miss."""
    return jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), params)


def act_step_by_step(policy, params, carry, seen):
    """Distributions of each step, stacked, and the last carry."""
    dists = []
    act = jax.jit(policy.act)
    for t in range(T):
        percept = jax.tree.map(lambda x, t=t: x[t], seen)
        _, _, dist_params, carry = act(params, carry, percept, jax.random.key(t))
        dists.append(dist_params)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *dists), carry


@VARIANTS
@pytest.mark.parametrize(
    "settings",
    [
        {"memory": "gru", "heads": "hypernetwork", "head_sizes": (6,), "latent_size": 3},
        {"memory": "lstm", "embedding_sizes": (6, 5), "heads": "state", "state_sizes": (5,)},
        {"memory": "gru", "memory_slots": 7, "slot_size": 3},
        {"memory": "lstm", "embedding_sizes": (6,), "head_sizes": (9, 8), "memory_slots": 7, "heads": "generated"},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_evaluate_sees_what_act_saw(discrete, settings):
    """The scan from a given carry gives the distributions of acting step by step, and the same carry at the end."""
    policy = make(discrete, **settings)
    params = jax.jit(policy.init)(jax.random.key(0))
    if "hypernetwork" in params:
        params["hypernetwork"] = shaken(params["hypernetwork"])
    carry = jax.tree.map(lambda x: x + 0.3, policy.initial_carry(B))
    seen = percepts(discrete)
    expected, last = act_step_by_step(policy, params, carry, seen)
    dist_params, value = jax.jit(policy.evaluate)(params, carry, seen)
    for left, right in zip(jax.tree.leaves(dist_params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)
    assert value.shape == (T, B)
    _, _, carried = jax.jit(policy.unroll)(params, carry, seen)
    for left, right in zip(jax.tree.leaves(carried), jax.tree.leaves(last), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "settings", [{"memory": "gru"}, {"memory": "lstm"}, {"head_sizes": (6,), "memory_slots": 7}], ids=str
)
@pytest.mark.parametrize("field", Percept._fields)
def test_the_past_is_remembered_and_the_future_not_foreseen(settings, field):
    """A change of any part of one percept changes the distribution and the value from that step on, in its lane."""
    policy, seen = make(**settings), percepts()
    params = jax.jit(policy.init)(jax.random.key(0))
    changed = getattr(seen, field).at[2, 1].set((getattr(seen, field)[2, 1] + 1) % 3)
    evaluate = jax.jit(policy.evaluate)
    outputs = [evaluate(params, policy.initial_carry(B), s) for s in (seen, seen._replace(**{field: changed}))]
    for first, second in zip(*outputs, strict=True):
        differs = np.asarray(abs(first - second) > 1e-7).reshape(T, B, -1).any(-1)
        assert differs.tolist() == [[False, t >= 2, False] for t in range(T)]


@VARIANTS
def test_features_by_hand(discrete):
    """Observation, previous action (one-hot if discrete), previous reward, done."""
    action = jnp.array(1) if discrete else jnp.array([0.5, -0.5])
    percept = Percept(jnp.array([[1.0], [2.0]]), action, jnp.array(7.0), jnp.array(1.0))
    expected = [1, 2, 0, 1, 7, 1] if discrete else [1, 2, 0.5, -0.5, 7, 1]
    assert percept_features(percept, (2, 1), ActionSpec(2, discrete)).tolist() == expected


@MEMORIES
@pytest.mark.parametrize("slots", [None, 7])
def test_memory_starts_from_zeros_with_strong_types(memory, slots):
    carry = make(memory=memory, memory_slots=slots).initial_carry(B)
    shapes = {"gru": [(B, 4)], "lstm": [(B, 4)] * 2}[memory] + ([] if slots is None else [(B, 7, 33), (B, 7)])
    leaves = jax.tree.leaves(carry)
    assert [leaf.shape for leaf in leaves] == shapes
    assert not any(leaf.any() or leaf.weak_type for leaf in leaves)


@VARIANTS
def test_act_samples_what_it_says(discrete):
    """log_prob is that of the action under dist_params; another key, another action."""
    policy = make(discrete)
    params, carry = jax.jit(policy.init)(jax.random.key(0)), policy.initial_carry(B)
    percept = jax.tree.map(lambda x: x[0], percepts(discrete))
    draws = [policy.act(params, carry, percept, jax.random.key(seed)) for seed in range(8)]
    action, log_prob, dist_params, _ = draws[0]
    np.testing.assert_allclose(log_prob, policy.distribution.log_prob(dist_params, action), rtol=1e-6)
    assert len({tuple(np.asarray(draw[0]).ravel().tolist()) for draw in draws}) > 1


def test_the_standard_deviation_is_initialised_and_clamped():
    policy = make(discrete=False, init_std=0.5, min_std=0.1)
    params = jax.jit(policy.init)(jax.random.key(0))
    for log_std, std in ((params["log_std"], 0.5), (jnp.full(3, -20.0), 0.1)):
        dist_params, _ = policy.evaluate({**params, "log_std": log_std}, policy.initial_carry(B), percepts(False))
        np.testing.assert_allclose(np.exp(dist_params.log_std), std, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_size", 0), ("init_std", 0.0), ("min_std", -1.0), ("memory_slots", 0), ("slot_size", 0)],
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        make(**{"memory_slots": 2, name: value})


@pytest.mark.parametrize("name", ["embedding_sizes", "head_sizes"])
def test_layers_without_width_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name} = \(3, 0\): must be a list of whole numbers greater than 0"):
        make(**{name: (3, 0)})


def test_the_size_of_slots_that_are_not_there_is_refused():
    with pytest.raises(ValueError, match="slot_size = 8: of no use without memory_slots"):
        make(slot_size=8)


def test_the_layers_of_the_head_see_the_memory_and_the_present():
    """By hand: dense layers over what is remembered and what it was fed, under both heads."""
    policy = make(head_sizes=(6,))
    params = jax.jit(policy.init)(jax.random.key(0))
    seen = jax.tree.map(lambda x: x[:1], percepts())
    logits, value, carry = jax.jit(policy.unroll)(params, policy.initial_carry(B), seen)
    present = percept_features(seen, (2, 2), ActionSpec(3, discrete=True))[0]
    layer = params["shortcut"]["Dense_0"]
    known = np.tanh(np.concatenate([carry.cell, present], axis=1) @ layer["kernel"] + layer["bias"])
    for found, name in ((logits[0], "logits"), (value[0][:, None], "value")):
        head = params[name]["Dense_0"]
        np.testing.assert_allclose(found, known @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head_sizes", [(), (8,)])
def test_what_is_recalled_reaches_the_memory_and_the_heads(head_sizes):
    """What was earned here before, fifty steps ago, still decides; without an associative memory it has faded.

    Without layers the heads see what is remembered only; with them, the memory's last input, too.
    """
    gaps = {}
    for slots in (None, 16):
        policy = make(memory_slots=slots, head_sizes=head_sizes)
        params = jax.jit(policy.init)(jax.random.key(0))
        here = jnp.zeros((50, 1, 2, 2)).at[jnp.array([0, 49]), 0, 0, 0].set(1.0)
        seen = Percept(here, jnp.zeros((50, 1), int), jnp.zeros((50, 1)), jnp.zeros((50, 1)))
        lucky = seen._replace(previous_reward=seen.previous_reward.at[1].set(5.0))
        evaluate = jax.jit(policy.evaluate)
        first, second = (evaluate(params, policy.initial_carry(1), one)[0][-1] for one in (seen, lucky))
        gaps[slots] = float(abs(first - second).max())
    assert gaps[None] < 1e-6
    assert gaps[16] > 1e-2


def test_squashed_actions_stay_inside_and_their_density_is_right():
    """The log-probability of act is that of the distribution at the action taken, which the tanh keeps in (-1, 1)."""
    policy = make(discrete=False, squash=True, init_std=0.5)
    params, seen = jax.jit(policy.init)(jax.random.key(0)), jax.tree.map(lambda x: x[0], percepts(discrete=False))
    action, log_prob, dist_params, _ = jax.jit(policy.act)(params, policy.initial_carry(B), seen, jax.random.key(1))
    assert np.abs(action).max() < 1
    before = np.arctanh(np.asarray(action, np.float64))
    normal = -0.5 * ((before - dist_params.mean) / 0.5) ** 2 - np.log(0.5 * np.sqrt(2 * np.pi))
    expected = (normal - np.log(1 - np.square(action, dtype=np.float64))).sum(-1)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-3)


def test_state_dependent_std_follows_the_memory():
    policy = make(discrete=False, state_dependent_std=True, init_std=0.5)
    params, seen = jax.jit(policy.init)(jax.random.key(0)), percepts(discrete=False)
    (at_first, _) = jax.jit(policy.evaluate)(params, policy.initial_carry(B), seen)
    np.testing.assert_allclose(np.exp(at_first.log_std), 0.5, rtol=1e-6)
    params["log_std"]["kernel"] = jnp.ones_like(params["log_std"]["kernel"])
    dist_params, _ = jax.jit(policy.evaluate)(params, policy.initial_carry(B), seen)
    assert np.ptp(dist_params.log_std, axis=(0, 1)).min() > 0.1


@pytest.mark.parametrize(("name", "value"), [("state_sizes", (3,)), ("latent_size", 3)])
@pytest.mark.parametrize("heads", ["plain", "generated"])
def test_layers_that_the_heads_do_not_have_are_refused(heads, name, value):
    with pytest.raises(ValueError, match=f"{name} = .*: of no use with heads: {heads}; take state or hypernetwork"):
        make(heads=heads, **{name: value})


@pytest.mark.parametrize("option", ["squash", "state_dependent_std"])
def test_options_of_continuous_actions_are_refused_for_discrete_ones(option):
    with pytest.raises(ValueError, match=option):
        make(discrete=True, **{option: True})


def test_what_is_privileged_reaches_the_value_alone_and_is_not_remembered():
    settings = {"hidden_size": 4, "embedding_sizes": (3,), "head_sizes": (5,), "memory_slots": 3, "slot_size": 2}
    policy = recurrent_policy((5,), ActionSpec(3, discrete=True), privileged_size=2, **settings)
    params, carry, unroll = jax.jit(policy.init)(jax.random.key(0)), policy.initial_carry(B), jax.jit(policy.unroll)
    seen = percepts()._replace(observation=jax.random.normal(jax.random.key(5), (T, B, 5)))
    other = seen._replace(observation=seen.observation.at[..., 3:].add(1.0))
    (dist, value, kept), (other_dist, other_value, other_kept) = (
        unroll(params, carry, percept) for percept in (seen, other)
    )
    jax.tree.map(np.testing.assert_array_equal, (dist, kept), (other_dist, other_kept))
    change = params["value"]["Dense_0"]["kernel"][-2:].sum()
    np.testing.assert_allclose(other_value - value, np.full((T, B), change), rtol=1e-4)
    acted, last = act_step_by_step(policy, params, carry, other)
    np.testing.assert_allclose(acted, dist, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), last, kept)
