"""A policy's view of recorded trials: truncation, and chunks that go on from what was remembered."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.algorithms.memory.views import make_chunks, make_evaluate
from metarl_jax.networks.recurrent import recurrent_policy
from metarl_jax.types import ActionSpec, Percept

T, N = 6, 4
POLICIES = {
    name: recurrent_policy((2,), ActionSpec(3, discrete=True), hidden_size=3, **settings)
    for name, settings in {
        "cell": {},
        "associative": {"head_sizes": (5,), "memory_slots": 4, "slot_size": 2},
        "linear": {"memory": "s5", "num_layers": 1, "state_size": 2},
    }.items()
}


@pytest.fixture(scope="module", params=POLICIES)
def case(request):
    """``(policy, params, percept [T, N, ...])``, episodes of two steps."""
    policy, rng = POLICIES[request.param], np.random.default_rng(0)
    percept = Percept(
        jnp.asarray(rng.normal(size=(T, N, 2))),
        jnp.asarray(rng.integers(0, 3, size=(T, N))),
        jnp.asarray(rng.normal(size=(T, N))),
        jnp.asarray(np.arange(T)[:, None] % 2 * np.ones(N) == 0, float),
    )
    return policy, jax.jit(policy.init)(jax.random.key(0)), percept


@pytest.mark.parametrize("length", [1, 2, 4, 6, 100])
def test_truncation_changes_gradients_and_not_values(case, length):
    """Of lengths 1, 2, 4 (with a rest of 2): the value at the last step does not reach back beyond its stretch."""
    policy, params, percept = case
    _, whole = jax.jit(make_evaluate(policy))(params, percept)
    evaluate = make_evaluate(policy, length)

    def last_value(observation):
        return evaluate(params, percept._replace(observation=observation))[1][-1].sum()

    value, reach = jax.jit(jax.value_and_grad(last_value))(percept.observation)
    np.testing.assert_allclose(value, whole[-1].sum(), rtol=1e-5)
    first = {1: 5, 2: 4, 4: 4, 6: 0, 100: 0}[length]
    assert (np.abs(reach).sum(axis=(1, 2)) > 0).tolist() == [t >= first for t in range(T)]


def test_what_is_recalled_before_a_chunk_is_what_the_steps_before_it_left(case):
    policy, params, percept = case
    chunks, (_, whole) = make_chunks(policy, 2), jax.jit(make_evaluate(policy))(params, percept)
    value, carry = jax.jit(chunks.recall)(params, percept)
    np.testing.assert_allclose(value, whole, rtol=1e-5)
    first, rest = (jax.tree.map(lambda x, part=part: x[part], percept) for part in (slice(4), slice(4, None)))
    _, _, after = jax.jit(policy.unroll)(params, policy.initial_carry(N), first)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[2], y, rtol=1e-5, atol=1e-6), carry, after)
    np.testing.assert_allclose(jax.jit(chunks.evaluate)(params, after, rest)[1], whole[4:], rtol=1e-5, atol=1e-6)
