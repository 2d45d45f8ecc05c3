"""Small operations on pytrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.ops import trees

TREE = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}


def test_dot_norm_and_add_scaled():
    """By hand, over all leaves together."""
    assert trees.dot(TREE, TREE) == 25.0
    assert trees.norm(TREE) == 5.0
    moved = trees.add_scaled(TREE, -0.5, TREE)
    assert moved["a"].tolist() == [1.5, 0.0]
    assert moved["b"].tolist() == [[2.0]]


@pytest.mark.parametrize(("max_norm", "expected"), [(10.0, 5.0), (5.0, 5.0), (1.0, 1.0)])
def test_clip_by_norm_only_shortens(max_norm, expected):
    """Never lengthens, keeps the direction."""
    clipped = trees.clip_by_norm(TREE, max_norm)
    np.testing.assert_allclose(trees.norm(clipped), expected, rtol=1e-6)
    np.testing.assert_allclose(clipped["b"].item() / clipped["a"][0], 4.0 / 3.0, rtol=1e-6)


def test_clip_by_norm_differentiates_at_zero():
    """Protects meta-gradients when an inner gradient vanishes: the derivative is the identity's, not NaN."""
    jacobian = jax.jacobian(lambda x: trees.clip_by_norm(x, 1.0))(jnp.zeros(2))
    np.testing.assert_allclose(jacobian, np.eye(2))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_all_finite_sees_every_leaf(bad):
    """One bad entry anywhere is enough; integers count as finite."""
    assert trees.all_finite({**TREE, "count": jnp.array(3)})
    assert not trees.all_finite({**TREE, "c": jnp.array([0.0, bad])})


def test_where_selects_trees_by_one_boolean_or_by_a_batch():
    """NaN on the side that is not chosen does not spread."""
    nan = jax.tree.map(lambda x: jnp.nan * x, TREE)
    assert trees.where(jnp.array(True), TREE, nan)["b"].item() == 4.0
    chosen = trees.where(jnp.array([True, False]), jnp.ones((2, 3)), jnp.full((2, 3), jnp.nan))
    assert chosen[0].tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(chosen[1]).all()


@pytest.mark.parametrize("chunk", [None, 1, 2, 3, 7])
def test_over_tasks_is_vmap_whatever_the_chunk(chunk):
    """A remainder and a chunk larger than the batch are fine."""
    tasks = {"x": jnp.arange(12.0).reshape(3, 4), "y": jnp.arange(3.0)}
    result = trees.over_tasks(lambda task: {"z": task["x"].sum() * task["y"]}, tasks, chunk)
    assert result["z"].tolist() == [0.0, 22.0, 76.0]


def test_mean_over_tasks_averages_the_leading_axis_and_then_devices():
    """Protects the mean over all tasks when they are shared out; vmap stands in for devices."""
    share = jnp.array([[[1.0], [3.0]], [[5.0], [7.0]]])
    assert trees.mean_over_tasks(share[0]).tolist() == [2.0]
    assert jax.vmap(lambda x: trees.mean_over_tasks(x, "devices"), axis_name="devices")(share).ravel().tolist() == [
        4.0,
        4.0,
    ]


def test_pmean_averages_over_a_mapped_axis_only_when_named():
    """None means a single device."""
    x = jnp.array([1.0, 3.0])
    assert jax.vmap(lambda v: trees.pmean(v, "i"), axis_name="i")(x).tolist() == [2.0, 2.0]
    assert trees.pmean(x, None) is x
