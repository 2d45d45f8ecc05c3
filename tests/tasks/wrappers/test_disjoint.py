"""Held-out tasks in regions of their own, for any family of many tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from metarl_jax.config import ConfigError, config_from_dict
from metarl_jax.runs.build import build
from metarl_jax.tasks import FAMILIES
from metarl_jax.tasks.navigation.point import NavigationTask
from metarl_jax.tasks.wrappers.disjoint import NUM_CELLS, _middle, with_disjoint_tasks

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


def test_velocities_are_held_out_in_whole_cells():
    """Along one number the cells are intervals: stretches of it are training's alone, others held out."""
    apart = with_disjoint_tasks(FAMILIES["swimmer_velocity"](min_velocity=0.0, max_velocity=1.0))
    train, held_out = (np.asarray(jax.vmap(sample)(KEYS)) for sample in (apart.sample, apart.sample_held_out))
    is_held_out = np.concatenate([np.zeros(len(train), bool), np.ones(len(held_out), bool)])
    drawn = np.concatenate([train, held_out])
    stretches = np.split(np.sort(drawn), 1 + np.flatnonzero(np.diff(is_held_out[np.argsort(drawn)])))
    assert 2 <= len(stretches) <= NUM_CELLS
    assert all(len(stretch) > 50 for stretch in stretches)
    lengths = [np.ptp(stretch) * NUM_CELLS for stretch in stretches]
    np.testing.assert_allclose(lengths, np.round(lengths), atol=0.1)  # whole numbers of cells
    assert np.round(lengths).sum() == NUM_CELLS


def test_of_many_numbers_two_divide_the_space():
    """A tabular MDP has hundreds: two of its mean rewards decide, and both sets fill many cells many times."""
    apart = with_disjoint_tasks(FAMILIES["tabular_mdp"](num_states=3, num_actions=2))

    def plane(sample):
        numbers = jax.vmap(lambda key: ravel_pytree(sample(key))[0])(KEYS)
        return np.asarray(numbers)[:, :2]

    train, held_out = plane(apart.sample), plane(apart.sample_held_out)
    assert np.median(nearest(held_out[:1000], train[:3000])) > 1.3 * np.median(nearest(train[3000:], train[:3000]))


def test_a_family_with_nearly_all_tasks_in_one_place_is_refused():
    """Otherwise the search for a held-out task might never end."""

    def sample(key):
        spike = 1e-3 * jax.random.normal(key)
        return NavigationTask(jnp.stack([jnp.where(jax.random.uniform(key) < 5e-3, 1e3, spike)] * 2))

    family = FAMILIES["navigation_finn"]()._replace(sample=sample, sample_held_out=sample)
    with pytest.raises(ValueError, match="disjoint = True: most tasks of this family are in one cell"):
        with_disjoint_tasks(family)


def test_the_same_key_gives_the_same_task():
    apart = with_disjoint_tasks(FAMILIES["navigation_finn"]()._replace(bayes_optimum=np.zeros))
    assert apart.bayes_optimum is None  # of all tasks, not of those held out
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


def test_validation_takes_half_of_the_held_out_cells_and_nothing_of_training():
    family = FAMILIES["swimmer_velocity"](min_velocity=0.0, max_velocity=1.0)
    two, three = with_disjoint_tasks(family), with_disjoint_tasks(family, validation=True)

    def cells(sample):
        return set(np.floor(np.asarray(jax.jit(jax.vmap(sample))(KEYS)) * NUM_CELLS + 0.01).astype(int).tolist())

    held_out, validation = cells(three.sample_held_out), cells(three.sample_validation)
    assert min(len(held_out), len(validation)) > 0
    assert not held_out & validation
    assert held_out | validation == cells(two.sample_held_out)
    np.testing.assert_array_equal(*(jax.vmap(apart.sample)(KEYS) for apart in (two, three)))
    asked = {"evaluation": {"every": 1, "validation_tasks": 2}, "algorithm": {"name": "maml"}}
    tasks = {"name": "navigation_finn", "disjoint": True}
    assert build(config_from_dict({"tasks": tasks, **asked})).family.sample_validation is not None


def test_a_single_held_out_cell_cannot_be_shared_with_validation():
    with pytest.raises(ValueError, match=r"disjoint = True: a single cell .* leave evaluation.validation_tasks out"):
        _middle(np.array([0.1, 0.1, 0.7]))
