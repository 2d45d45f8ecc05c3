"""Every family that needs no physics engine, through the same protocol: the same key, any action, any neighbour."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.flatten_util import ravel_pytree

from metarl_jax.tasks import FAMILIES
from tests.helpers import traced

PLAIN = sorted(
    name
    for name, family in FAMILIES.items()
    if family.__module__.startswith(("metarl_jax.tasks.discrete", "metarl_jax.tasks.navigation"))
)
LANES, STEPS = 3, 4
BAD = 1  # the lane whose actions are arbitrary
EACH = pytest.mark.parametrize("name", PLAIN)

# Anything that fits into the array, and numbers that an off-by-one would let through.
NUMBERS = st.floats(width=32, allow_subnormal=False) | st.sampled_from([-1.0, 0.0, 4.0, 5.0, np.nan, np.inf, -np.inf])


@functools.cache
def player(name):
    """``(task_key, actions [STEPS, LANES, ...]) -> (states, observations, rewards, terminated)``, compiled once."""
    family = FAMILIES[name]()

    def play(task_key, actions):
        tasks = jax.vmap(family.sample)(jax.random.split(task_key, LANES))
        state, _ = jax.vmap(family.reset)(tasks, jax.random.split(jax.random.fold_in(task_key, 1), LANES))

        def step(state, action_and_key):
            action, key = action_and_key
            state, *seen = jax.vmap(family.step)(tasks, state, action, jax.random.split(key, LANES))
            return state, (state, *seen)

        keys = jax.random.split(jax.random.fold_in(task_key, 2), STEPS)
        return jax.lax.scan(step, state, (actions, keys))[1]

    shape = (STEPS,) if family.action.discrete else (STEPS, family.action.size)
    return family, jax.jit(play), shape


@EACH
def test_the_number_of_tasks_is_given_where_there_are_few(name):
    family = FAMILIES[name]()
    sample = jax.jit(jax.vmap(lambda key: ravel_pytree(family.sample(key))[0]))
    tasks = sample(jax.random.split(jax.random.key(0), 500))
    distinct = len(np.unique(tasks, axis=0))
    assert family.num_tasks == (distinct if distinct < 30 else None)
    assert family.num_tasks is None or family.sample_held_out is family.sample


@EACH
@given(data=st.data(), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=30, deadline=None)
def test_any_action_is_finite_or_refused_and_stays_in_its_lane(name, data, seed):
    """Numbers or NaN as the reward, a finite state whatever happens, and neighbours that do not notice."""
    family, play, shape = player(name)
    wild = data.draw(arrays(np.float32, shape, elements=NUMBERS))
    actions = np.ones((STEPS, LANES, *shape[1:]), np.float32)
    calm = play(jax.random.key(seed), jnp.asarray(actions))
    actions[:, BAD] = wild
    states, observations, rewards, terminated = outcome = play(jax.random.key(seed), jnp.asarray(actions))

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((states, observations)))
    assert not np.isinf(rewards).any()
    assert terminated.dtype == bool
    if family.action.discrete:
        is_refused = ~((wild >= 0) & (wild < family.action.size))
    else:
        is_refused = np.isnan(wild).any(-1)
    np.testing.assert_array_equal(np.isnan(rewards[:, BAD]), is_refused)
    others = [lane for lane in range(LANES) if lane != BAD]
    for leaf, expected in zip(jax.tree.leaves(outcome), jax.tree.leaves(calm), strict=True):
        np.testing.assert_array_equal(leaf[:, others], expected[:, others])


@EACH
def test_the_same_key_gives_the_same_episode_and_another_key_another_task(name):
    family, play, shape = player(name)
    actions = jnp.ones((STEPS, LANES, *shape[1:]), jnp.float32)
    first, again = (jax.tree.leaves(play(jax.random.key(7), actions)) for _ in range(2))
    for leaf, expected in zip(first, again, strict=True):
        np.testing.assert_array_equal(leaf, expected)
    tasks = jax.jit(jax.vmap(family.sample))(jax.random.split(jax.random.key(0), 20))
    assert all(len(np.unique(leaf, axis=0)) > 1 for leaf in jax.tree.leaves(tasks))


@EACH
def test_shapes_and_dtypes_are_those_declared(name):
    family, _, shape = player(name)

    def once(key):
        task = family.sample_held_out(key)
        state, observation = family.reset(task, key)
        action = jnp.zeros(shape[1:], jnp.int32 if family.action.discrete else jnp.float32)
        return state, observation, *family.step(task, state, action, key)

    state, observation, following, seen, reward, terminated = traced(once, jax.random.key(0))
    assert observation.shape == seen.shape == family.observation_shape
    assert (reward.shape, terminated.shape, terminated.dtype) == ((), (), bool)
    before, after = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (state, following))
    assert before == after


@pytest.mark.parametrize("name", [name for name in PLAIN if FAMILIES[name]().optimal_action])
def test_the_optimal_action_earns_the_optimum(name):
    """On average over tasks and episodes; without chance, in each."""
    family = FAMILIES[name]()

    def difference(key):
        key_task, key_reset, key_steps = jax.random.split(key, 3)
        task = family.sample(key_task)

        def step(carry, time):
            state, alive = carry
            action = family.optimal_action(task, state, time)
            state, _, reward, terminated = family.step(task, state, action, jax.random.fold_in(key_steps, time))
            return (state, alive & ~terminated), jnp.where(alive, reward, 0.0)

        start = family.reset(task, key_reset)[0], jnp.array(True)
        return jax.lax.scan(step, start, jnp.arange(family.horizon))[1].sum() - family.optimum(task)

    differences = np.asarray(jax.jit(jax.vmap(difference))(jax.random.split(jax.random.key(0), 300)), np.float64)
    assert abs(differences.mean()) <= 4 * differences.std() / np.sqrt(300) + 1e-4


@pytest.mark.parametrize("world", ["brax", "gymnax", "playground"])
def test_the_adapters_keep_the_names_of_version_0_1(world):
    old = importlib.import_module(f"metarl_jax.tasks.{world}_adapter")
    new = importlib.import_module(f"metarl_jax.tasks.adapters.{world}")
    assert all(getattr(old, name) is getattr(new, name) for name in old.__all__)
