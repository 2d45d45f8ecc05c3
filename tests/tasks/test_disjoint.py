"""Held-out tasks in regions of their own, for any family of many tasks."""

import jax
import numpy as np
import pytest

from metarl_jax.config import ConfigError, config_from_dict
from metarl_jax.experiment import build
from metarl_jax.tasks import FAMILIES
from metarl_jax.tasks.disjoint import HELD_OUT_SHARE, NUM_CELLS, with_disjoint_tasks

KEYS = jax.random.split(jax.random.key(1), 4000)


def goals(sample):
    return np.asarray(jax.jit(jax.vmap(sample))(KEYS).goal)


def nearest(of, among):
    """Distance from each of ``of`` to the nearest of ``among``."""
    return np.sqrt(((of[:, None] - among[None]) ** 2).sum(-1)).min(axis=1)


def test_no_held_out_goal_lies_among_the_training_goals():
    """Further draws are as near to training goals as these to each other; held-out cells keep most of them apart."""
    family = FAMILIES["navigation_finn"]()
    apart = with_disjoint_tasks(family)
    train, held_out = goals(apart.sample), goals(apart.sample_held_out)
    distance, usual = nearest(held_out, train), nearest(goals(family.sample)[:2000], goals(family.sample)[2000:])
    assert np.median(distance) > 1.5 * np.median(usual)
    # Together they are the family's own distribution: both sets cover the square evenly.
    for drawn in (train, held_out):
        np.testing.assert_allclose(drawn.mean(axis=0), 0.0, atol=0.06)
        np.testing.assert_allclose(drawn.std(axis=0), 1 / np.sqrt(12), atol=0.04)


def test_a_fifth_of_the_velocities_is_held_out():
    """Along one number the cells are intervals: no training velocity in a held-out one."""
    apart = with_disjoint_tasks(FAMILIES["swimmer_velocity"](min_velocity=0.0, max_velocity=1.0))
    train, held_out = (np.asarray(jax.vmap(sample)(KEYS)) for sample in (apart.sample, apart.sample_held_out))
    order = np.argsort(np.concatenate([train, held_out]))
    changes = np.count_nonzero(np.diff((order >= len(train)).astype(int)))
    assert 0 < changes <= 2 * NUM_CELLS * HELD_OUT_SHARE + 6  # thousands, were they mixed
    assert np.ptp(train) > 0.9


def test_the_same_key_gives_the_same_task():
    apart = with_disjoint_tasks(FAMILIES["navigation_finn"]())
    np.testing.assert_array_equal(goals(apart.sample), goals(apart.sample))
    assert apart.sample_beyond is not None


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ({"name": "navigation_corner"}, "this family has only 4 tasks: too few to hold some out"),
        ({"name": "crippled_joint"}, "held-out tasks are disjoint as they are; leave it out"),
    ],
)
def test_families_without_a_space_to_divide_say_so(tasks, reason):
    config = config_from_dict({"tasks": {**tasks, "disjoint": True}, "algorithm": {"name": "maml"}})
    with pytest.raises(ConfigError, match=rf"^tasks\.disjoint = True: .*{reason}"):
        build(config)


def test_a_config_can_ask_for_it():
    tree = {"tasks": {"name": "navigation_finn", "disjoint": True, "oracle": True}, "algorithm": {"name": "maml"}}
    family = build(config_from_dict(tree)).family
    assert family.observation_shape == (4,)
    assert family.sample_held_out is not family.sample
