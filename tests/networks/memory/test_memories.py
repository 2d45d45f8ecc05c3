"""What every memory promises: the same numbers step by step and at once, and nothing of what was before a reset."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.networks.memory import MEMORIES, Memory, Seen, splagger

T, B, M, N = 12, 3, 4, 2
OPTIONS = {
    "s5": {"state_size": 3, "num_layers": 1},
    # A ring of five: thirteen steps end at the place where eight do.
    "transformer": {"window": 4, "num_layers": 2, "num_heads": 1},
    "associative": {"memory_slots": 5, "slot_size": 3},
}
ALL = pytest.mark.parametrize("name", [*MEMORIES, "splagger"])


def make(name: str) -> Memory:
    if name == "splagger":
        return splagger(MEMORIES["gru"](5))
    return MEMORIES[name](6, **OPTIONS.get(name, {}))


def draw(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def is_counted(x):
    """Whether these are numbers of places or steps, which are whole."""
    return jnp.issubdtype(x.dtype, jnp.integer)


@jax.jit
def shaken(tree):
    """Moved, so that no number is a zero that nobody would miss."""
    return jax.tree.map(lambda x: x + (1 if is_counted(x) else 0.3 * draw(x.size, x.shape)), tree)


def case(name: str, num_steps: int = T):
    """A memory, parameters, a carry that is not blank, and what is seen, with resets."""
    memory, carry = make(name), shaken(make(name).blank(B))
    features, observation = draw(2, (num_steps, B, M)), draw(3, (num_steps, B, N))
    reset = jnp.asarray(np.random.default_rng(4).uniform(size=(num_steps, B)) < 0.2, float)
    params = jax.jit(memory.init, static_argnums=(1, 2))(jax.random.key(1), M, N)
    return memory, shaken(params), carry, Seen(features, observation, reset)


def stretch(seen: Seen, start: int, stop: int) -> Seen:
    return jax.tree.map(lambda x: x[start:stop], seen)


def assert_close(left, right, **tolerances):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 1e-5, "atol": 1e-5, **tolerances})


@ALL
def test_steps_and_stretches_give_the_numbers_of_the_whole(name):
    """Under vmap and pmap, too; with resets and from a memory that is not blank."""
    memory, params, carry, seen = case(name)
    read = jax.jit(memory.read)
    last, whole = read(params, carry, seen)
    assert whole.shape == (T, B, memory.size)
    for length in (1, 5):
        kept, parts = carry, []
        for start in range(0, T, length):
            kept, remembered = read(params, kept, stretch(seen, start, start + length))
            parts.append(remembered)
        assert_close((kept, jnp.concatenate(parts)), (last, whole))
    twice = jax.tree.map(lambda x: jnp.stack([x, x]), (params, carry, seen))
    assert_close(jax.jit(jax.vmap(memory.read))(*twice), jax.tree.map(lambda x: jnp.stack([x, x]), (last, whole)))
    once = jax.tree.map(lambda x: x[:1], twice)
    assert_close(jax.pmap(memory.read)(*once), jax.tree.map(lambda x: x[None], (last, whole)))


@ALL
def test_a_reset_memory_is_a_blank_one(name):
    """In the lane that is reset, from that step on; without a reset there is something to forget."""
    memory, params, carry, seen = case(name)
    read = jax.jit(memory.read)
    at = seen._replace(reset=jnp.zeros((T, B)).at[4, 1].set(1.0))
    last, found = read(params, carry, at)
    fresh, expected = read(params, memory.blank(B), stretch(at._replace(reset=jnp.zeros((T, B))), 4, T))
    assert_close(found[4:, 1], expected[:, 1])
    assert_close(*(jax.tree.map(lambda x: x[1], kept) for kept in (last, fresh)))
    never = read(params, carry, seen._replace(reset=None))
    assert_close(read(params, carry, seen._replace(reset=jnp.zeros((T, B)))), never)
    assert_close(found[:, [0, 2]], never[1][:, [0, 2]])
    assert abs(found[4:, 1] - never[1][4:, 1]).max() > 1e-3


@ALL
def test_a_blank_memory_is_all_zeros_of_strong_types(name):
    leaves = jax.tree.leaves(make(name).blank(B))
    assert all(len(leaf) == B and not leaf.any() and not leaf.weak_type for leaf in leaves)


@ALL
def test_gradients_are_those_of_finite_differences_in_double_precision(name):
    """Along a random direction in the parameters, the carry and what is seen; and the memory stays in float64."""
    with jax.enable_x64(True):
        memory, params, carry, seen = case(name)
        at = params, carry, seen.features
        along = jax.tree.map(lambda x: draw(x.size + 1, x.shape), at)

        @jax.jit
        def loss(step):
            params, carry, features = jax.tree.map(lambda x, d: x if is_counted(x) else x + step * d, at, along)
            kept, remembered = memory.read(params, carry, seen._replace(features=features))
            return sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves((kept, remembered)))

        found, step = jax.jit(jax.grad(loss))(0.0), 1e-6
        expected = (loss(step) - loss(-step)) / (2 * step)
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@ALL
def test_a_thousand_steps_in_single_precision_are_those_in_double(name):
    """And the last of them depends on the first ones only as far as the memory says so: nothing grows."""
    memory, params, carry, seen = case(name, 1000)
    found = jax.jit(memory.read)(params, carry, seen._replace(reset=None))[1]
    with jax.enable_x64(True):
        narrow = params, carry, seen._replace(reset=None)
        wide = jax.tree.map(lambda x: np.asarray(x, None if is_counted(x) else np.float64), narrow)
        expected = jax.jit(make(name).read)(*wide)[1]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
