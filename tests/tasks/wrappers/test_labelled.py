"""Observations with the optimal action behind: the family is otherwise the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.tasks import navigation_corner, navigation_finn, tabular_mdp
from metarl_jax.tasks.discrete.tabular import optimal_action_values
from metarl_jax.tasks.wrappers.labelled import with_optimal_actions, without_label


@pytest.mark.parametrize("family", [tabular_mdp(num_states=3, horizon=3), navigation_finn(horizon=3)])
def test_it_plays_as_the_family_and_tells_what_is_optimal(family):
    labelled = with_optimal_actions(family)
    keys = jax.random.split(jax.random.key(0), 6)
    task = family.sample(keys[0])
    (state, plain), (timed, told) = (one.reset(task, keys[1]) for one in (family, labelled))
    for t, key in enumerate(keys[2:5]):
        seen, label = without_label(told, family.observation_shape, family.action)
        np.testing.assert_array_equal(seen, plain)
        np.testing.assert_allclose(label, family.optimal_action(task, state, jnp.array(t)), rtol=1e-6)
        np.testing.assert_array_equal(labelled.optimal_action(task, timed, jnp.array(t)), label)
        assert told.shape == labelled.observation_shape
        state, plain, *rest = family.step(task, state, label, key)
        timed, told, *others = labelled.step(task, timed, label, key)
        np.testing.assert_array_equal(rest, others)
        np.testing.assert_array_equal(labelled.must_be_finite(timed), family.must_be_finite(state))
    assert timed.time == 3


def test_time_counts():
    """In the last step of an MDP the optimal action is that of the reward alone."""
    family = tabular_mdp(num_states=3, horizon=3)
    labelled = with_optimal_actions(family)
    task = family.sample(jax.random.key(1))
    timed, told = labelled.reset(task, jax.random.key(2))
    for t in range(3):
        state = int(jnp.argmax(told[:3]))
        assert told[3] == jnp.argmax(optimal_action_values(task, 3)[t, state])
        timed, told, *_ = labelled.step(task, timed, jnp.array(0), jax.random.key(t))


def test_a_family_that_does_not_know_its_optimal_actions_is_refused():
    with pytest.raises(Refusal, match=r"nobody knows the optimal .*: set tasks\.name to a family that has them"):
        with_optimal_actions(navigation_corner())
