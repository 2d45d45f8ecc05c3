"""Observations that tell of the end: the family is otherwise the same."""

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.tasks import dark_key_door
from metarl_jax.tasks.discrete.dark_key_door import KeyDoorTask
from metarl_jax.tasks.wrappers.ends import with_ends, without_end

FAMILY = dark_key_door(size=2)
TASK = KeyDoorTask(*jnp.array([[0, 0], [0, 0], [1, 0]]))
STAY, RIGHT, LEFT = jnp.array([0, 2, 4])


def test_it_plays_as_the_family_and_tells_of_the_end():
    """The key in the first step, the door in the second, which ends the episode."""
    told_family, key = with_ends(FAMILY), jax.random.key(0)
    (state, plain), (same, told) = (one.reset(TASK, key) for one in (FAMILY, told_family))
    assert told.tolist() == [*plain.tolist(), 0.0]
    for action, ends in [(STAY, 0.0), (RIGHT, 1.0), (LEFT, 0.0)]:
        state, plain, *rest = FAMILY.step(TASK, state, action, key)
        same, told, *others = told_family.step(TASK, same, action, key)
        assert told.shape == told_family.observation_shape
        own, ended = without_end(told, FAMILY.observation_shape)
        np.testing.assert_array_equal(own, plain)
        assert ended == ends == told[-1]
        np.testing.assert_array_equal(rest, others)
        jax.tree.map(np.testing.assert_array_equal, same, state)


def test_an_end_without_an_observation_is_told():
    """What is not finite could not be shown, and nobody would see the end; elsewhere it says that the task failed."""

    def step(task, state, action, key):
        return state, jnp.array([[jnp.nan], [1.0]]), 0.0, action == 0

    family = with_ends(FAMILY._replace(step=step, observation_shape=(2, 1)))
    for action, shown in [(STAY, [0.0, 1.0, 1.0]), (RIGHT, [np.nan, 1.0, 0.0])]:
        np.testing.assert_array_equal(family.step(TASK, (), action, jax.random.key(0))[1], shown)


def test_valid_actions_are_those_of_the_familys_own_observation():
    valid = with_ends(FAMILY._replace(valid_actions=lambda own: own[..., :1] < jnp.arange(5))).valid_actions
    np.testing.assert_array_equal(valid(jnp.array([[3.0, 0.0, 0.0, 0.0, 1.0]])), [[False] * 4 + [True]])
    assert with_ends(FAMILY).valid_actions is None
