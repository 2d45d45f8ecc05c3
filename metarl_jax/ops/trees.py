"""Small operations on pytrees of arrays."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax.types import Array, PyTree


def pmean(tree: PyTree, axis_name: str | None) -> PyTree:
    """Average over the devices of a mapped axis; the identity when ``axis_name`` is None.

    Gradients are averaged *after* differentiating the local loss: differentiating through a ``pmean`` gives each
    device only its own share.

    Example:
      >>> pmean({"w": 1.0}, None)
      {'w': 1.0}
    """
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def psum(tree: PyTree, axis_name: str | None) -> PyTree:
    """Sum over the devices of a mapped axis; the identity when ``axis_name`` is None.

    Example:
      >>> psum({"count": 1.0}, None)
      {'count': 1.0}
    """
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def pmax(tree: PyTree, axis_name: str | None) -> PyTree:
    """Largest over the devices of a mapped axis; the identity when ``axis_name`` is None.

    Example:
      >>> pmax({"error": 1.0}, None)
      {'error': 1.0}
    """
    return tree if axis_name is None else jax.lax.pmax(tree, axis_name)


def mean_over_tasks(tree: PyTree, axis_name: str | None = None) -> PyTree:
    """Average the leading task axis ``[M, ...]`` on this device, then over devices.

    Example:
      >>> mean_over_tasks(jnp.array([1.0, 3.0])).item()
      2.0
    """
    return pmean(jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), tree), axis_name)


def over_tasks(function: Callable[[PyTree], PyTree], tasks: PyTree, chunk: int | None) -> PyTree:
    """Apply ``function`` to every entry of the leading task axis, some tasks at a time; stacked ``[M, ...]``.

    Args:
      function: of one task's data.
      tasks: ``[M, ...]``.
      chunk: at most how many tasks are vectorised together, all if None; the largest divisor of M within it is
        taken. Fewer need less memory.

    Example:
      >>> over_tasks(lambda x: 2 * x, jnp.arange(3), 1).tolist()
      [0, 2, 4]
    """
    num_tasks = jax.tree.leaves(tasks)[0].shape[0]
    size = next(n for n in range(min(chunk or num_tasks, num_tasks), 0, -1) if num_tasks % n == 0)
    if size == num_tasks:
        return jax.vmap(function)(tasks)
    return jax.lax.map(function, tasks, batch_size=None if size == 1 else size)


def by_path(tree: PyTree) -> dict[str, Array]:
    """The leaves of a tree by their paths, as in ``mean/Dense_0/kernel``.

    Example:
      >>> by_path({"mean": {"bias": 1.0}, "log_std": 2.0})
      {'log_std': 2.0, 'mean/bias': 1.0}
    """
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def replace(tree: PyTree, leaves: Mapping[str, Array]) -> PyTree:
    """The tree with the leaves at the given paths replaced.

    Example:
      >>> replace({"mean": {"bias": 1.0}, "log_std": 2.0}, {"mean/bias": 3.0})
      {'log_std': 2.0, 'mean': {'bias': 3.0}}
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaves.get(_name(path), leaf), tree)


def is_below(path: str, names: Iterable[str]) -> bool:
    """Whether a path is one of those named, or leads on from one.

    Example:
      >>> is_below("mean/Dense_1/bias", ["mean/Dense_1"]), is_below("mean/Dense_10/bias", ["mean/Dense_1"])
      (True, False)
    """
    return any(path == name or path.startswith(f"{name}/") for name in names)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def cast_like(tree: PyTree, template: PyTree) -> PyTree:
    """The tree with the dtypes of another one, all strong: a weakly typed leaf of a scan's carry is traced twice.

    Typed random keys stay as they are.

    Example:
      >>> jax.eval_shape(lambda: cast_like({"a": 1}, {"a": 2.5}))
      {'a': ShapeDtypeStruct(shape=(), dtype=float32)}
    """

    def cast(leaf: Array, like: Array) -> Array:
        dtype = jnp.asarray(like).dtype
        return leaf if jnp.issubdtype(dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(leaf, dtype)

    return jax.tree.map(cast, tree, template)


def narrow(tree: PyTree, dtype: str) -> PyTree:
    """The tree with its floating-point leaves in another dtype.

    Example:
      >>> jax.tree.map(lambda leaf: leaf.dtype.name, narrow((jnp.ones(2), jnp.arange(2)), "bfloat16"))
      ('bfloat16', 'int32')
    """
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)


def widen(tree: PyTree) -> PyTree:
    """The tree with floating-point leaves of fewer bits than usual in the usual ones.

    Example:
      >>> widen(jnp.ones(2, "bfloat16")).dtype.name
      'float32'
    """
    usual = jnp.zeros(()).dtype
    return jax.tree.map(lambda x: x.astype(usual) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def strong(tree: PyTree) -> PyTree:
    """The tree with its own dtypes, none weak.

    Example:
      >>> strong(jnp.asarray(1.0)).weak_type
      False
    """
    return cast_like(tree, tree)


def add_scaled(tree: PyTree, scale: Array | float, direction: PyTree) -> PyTree:
    """``tree + scale * direction``, leaf by leaf.

    Example:
      >>> add_scaled(jnp.array(1.0), -0.5, jnp.array(2.0)).item()
      0.0
    """
    return jax.tree.map(lambda a, b: a + scale * b, tree, direction)


def dot(left: PyTree, right: PyTree) -> Array:
    """Inner product of two trees of the same structure; ``[]``.

    Example:
      >>> dot({"a": jnp.ones(3)}, {"a": jnp.full(3, 2.0)}).item()
      6.0
    """
    return functools.reduce(jnp.add, jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), left, right)))


def norm(tree: PyTree) -> Array:
    """Euclidean norm of all leaves together; ``[]``.

    Example:
      >>> norm({"a": jnp.array([3.0]), "b": jnp.array([4.0])}).item()
      5.0
    """
    return jnp.sqrt(dot(tree, tree))


def clip_by_norm(tree: PyTree, max_norm: Array | float) -> PyTree:
    """``tree * min(1, max_norm / norm(tree))``, differentiable, zero trees included.

    Example:
      >>> clip_by_norm(jnp.array([3.0, 4.0]), 1.0).round(3).tolist()
      [0.6000000238418579, 0.800000011920929]
    """
    squared = dot(tree, tree)
    is_long = squared > max_norm**2
    scale = jnp.where(is_long, max_norm / jnp.sqrt(jnp.where(is_long, squared, 1.0)), 1.0)
    return jax.tree.map(lambda leaf: scale * leaf, tree)


def all_finite(tree: PyTree) -> Array:
    """Whether every entry of every leaf is finite; boolean ``[]``.

    Example:
      >>> bool(all_finite({"a": jnp.array([1.0, jnp.nan])}))
      False
    """
    return functools.reduce(jnp.logical_and, [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)])


def where(condition: Array, if_true: PyTree, if_false: PyTree) -> PyTree:
    """Choose between two trees by one boolean, or by a leading batch ``[B]`` of booleans.

    Selects, so a NaN on the side not chosen does not spread.

    Example:
      >>> where(jnp.array(True), jnp.array(1.0), jnp.array(jnp.nan)).item()
      1.0
    """

    def select(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(select, if_true, if_false)


def keep_finite(new: PyTree, old: PyTree, condition: Array) -> PyTree:
    """The new tree; where ``condition`` holds, with the old one's entries in place of those that are not finite.

    Example:
      >>> keep_finite(jnp.array([1.0, jnp.nan]), jnp.array([2.0, 3.0]), jnp.array(True)).tolist()
      [1.0, 3.0]
    """

    def keep(a: Array, b: Array) -> Array:
        return jnp.where(condition & ~jnp.isfinite(a), b, a) if jnp.issubdtype(a.dtype, jnp.inexact) else a

    return jax.tree.map(keep, new, old)
