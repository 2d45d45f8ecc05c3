"""The associative memory: what it recalls, written out as loops, and that it may be read step by step or at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.networks.memory.associative import associative_memory
from metarl_jax.networks.memory.protocol import Seen

T, B, SLOTS = 9, 2, 6


@pytest.fixture(scope="module")
def case():
    memory = associative_memory(slots=SLOTS, slot_size=3)
    keys = jax.random.split(jax.random.key(0), 3)
    seen = Seen(jax.random.normal(keys[2], (T, B, 5)), jax.random.normal(keys[1], (T, B, 4)))
    return memory, memory.init(keys[0], 5, 4), seen


def written_out(params, observation, features):
    """One lane, from the definition: a shrunken mean of what followed observations like this one."""
    hidden, output = (params["value"][f"Dense_{i}"] for i in (0, 1))
    values = np.maximum(features @ hidden["kernel"] + hidden["bias"], 0) @ output["kernel"] + output["bias"]
    scores = np.exp(observation @ params["address"])
    address = scores / scores.sum(axis=1, keepdims=True)
    reads = []
    for t in range(T):
        total, visits = np.zeros(3), 0.0
        for u in range(t):  # what was seen at u + 1 came of the observation at u
            alike = address[t] @ address[u]
            total, visits = total + alike * values[u + 1], visits + alike
        reads.append([*(total / (1 + visits)), visits / (1 + visits)])
    return np.array(reads)


def test_it_recalls_what_followed_observations_like_this_one(case):
    memory, params, seen = case
    _, read = jax.jit(memory.read)(params, memory.blank(B), seen)
    params = jax.tree.map(np.asarray, params)
    for lane in range(B):
        expected = written_out(params, np.asarray(seen.observation[:, lane]), np.asarray(seen.features[:, lane]))
        np.testing.assert_allclose(read[:, lane], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("length", [1, 4, 5])
def test_stretches_of_any_length_give_the_same(case, length):
    """One step at a time, as when acting, or the whole trial at once, as when learning."""
    memory, params, seen = case
    whole = jax.jit(memory.read)(params, memory.blank(B), seen)
    table, reads, read = memory.blank(B), [], jax.jit(memory.read)
    for start in range(0, T, length):
        table, found = read(params, table, jax.tree.map(lambda x, start=start: x[start : start + length], seen))
        reads.append(found)
    for left, right in zip(jax.tree.leaves((table, jnp.concatenate(reads))), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_states_do_not_mix_and_nothing_fades():
    """With sharp addresses a state recalls its own mean only, however long ago, and counts its visits."""
    memory = associative_memory(slots=SLOTS, slot_size=1)
    dense = {"kernel": jnp.array([[1.0, -1.0]]), "bias": jnp.zeros(2)}  # relu(x) - relu(-x) = x
    params = {
        "address": 50.0 * jnp.eye(SLOTS),
        "value": {"Dense_0": dense, "Dense_1": {"kernel": jnp.array([[1.0], [-1.0]]), "bias": jnp.zeros(1)}},
    }
    states = jnp.array([0, 1, 0, 2, 2, 2, 2, 0])
    came_of = jnp.array([9.0, 4.0, -7.0, 2.0, 1.0, 1.0, 1.0, 1.0])  # came_of[t + 1] came of states[t]
    seen = Seen(came_of[:, None, None], jax.nn.one_hot(states, SLOTS)[:, None])
    _, read = jax.jit(memory.read)(params, memory.blank(1), seen)
    np.testing.assert_allclose(read[-1, 0], [(4.0 + 2.0) / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(read[4, 0], [1.0 / 2, 1 / 2], rtol=1e-6)
    np.testing.assert_allclose(read[1, 0], [0.0, 0.0], atol=1e-12)


def test_gradients_reach_both_kinds_of_parameters(case):
    memory, params, seen = case

    def loss(params):
        return jnp.square(memory.read(params, memory.blank(B), seen)[1]).sum()

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params)):
        assert jnp.isfinite(leaf).all()
        assert (leaf != 0).any()
