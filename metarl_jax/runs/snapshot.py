"""A pytree of arrays as named NumPy arrays with checksums, and back: what a checkpoint stores.

Host memory only; writing files is the business of ``metarl_jax.runs.checkpoint``.
"""

import json
import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from metarl_jax.checks import Refusal, some
from metarl_jax.types import Array, PyTree

FORMAT_VERSION = 1


class CheckpointError(Refusal):
    """A checkpoint cannot be written or none can be used; the message says what was tried and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__("", None, message)


class CheckpointWriteError(CheckpointError):
    """A checkpoint cannot be written; those written before are intact."""


class Snapshot(NamedTuple):
    """Private host copies of the leaves of a pytree, by path (``.params['w']``).

    Attributes:
      values: the arrays; of a typed PRNG key its data.
      leaves: a JSON object per leaf. ``type``: what it is in the pytree (``float32[3,2]``, ``key<fry>[]``);
        ``dtype``, ``shape`` and ``crc32`` of the stored array; ``key_impl``: the generator of a key, else null.
    """

    values: dict[str, np.ndarray]
    leaves: dict[str, dict[str, Any]]


def take_snapshot(tree: PyTree) -> Snapshot:
    """Copy a pytree to the host; later donation or mutation of its arrays does not reach the copy.

    Args:
      tree: arrays and typed keys. Arrays that span processes must be fully replicated.

    Returns:
      The snapshot.

    Example:
      >>> take_snapshot({"w": np.ones(2, np.float32)}).leaves["['w']"]["type"]
      'float32[2]'
    """
    values, leaves = {}, {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        key_impl = str(jax.random.key_impl(leaf)) if _is_key(leaf) else None
        # np.array copies; np.asarray may be a view of a CPU buffer that the caller donates.
        value = np.array(jax.random.key_data(leaf) if key_impl else leaf)
        values[name] = value
        leaves[name] = {
            "type": describe(leaf),
            "dtype": value.dtype.name,
            "shape": list(value.shape),
            "crc32": zlib.crc32(value.tobytes()),
            "key_impl": key_impl,
        }
    return Snapshot(values, leaves)


def empty_values(leaves: dict[str, dict[str, Any]]) -> dict[str, np.ndarray]:
    """Arrays of the stored shapes and dtypes, to read into.

    Example:
      >>> empty_values({"w": {"shape": [0, 3], "dtype": "float32"}})
      {'w': array([], shape=(0, 3), dtype=float32)}
    """
    return {name: np.empty(leaf["shape"], jax.numpy.dtype(leaf["dtype"])) for name, leaf in leaves.items()}


def damaged_leaf(snapshot: Snapshot) -> str | None:
    """Path of the first array whose bytes are not those that were saved, or None.

    Example:
      >>> snapshot = take_snapshot({"w": np.ones(2)})
      >>> snapshot.values["['w']"][0] = 2
      >>> damaged_leaf(snapshot)
      "['w']"
    """
    for name, leaf in snapshot.leaves.items():
        if zlib.crc32(np.asarray(snapshot.values[name]).tobytes()) != leaf["crc32"]:
            return name
    return None


def make_item(snapshot: Snapshot, record: dict[str, Any], score: float | None) -> dict[str, Any]:
    """The JSON object stored beside the arrays, with a checksum of its own.

    Args:
      snapshot: the arrays.
      record: whatever the caller keeps with them.
      score: higher is better; a non-finite number is stored as null.

    Returns:
      ``format_version``, ``score``, ``record``, ``leaves`` and ``crc32`` (of the other four).

    Raises:
      ValueError: if the record is not JSON.

    Example:
      >>> make_item(take_snapshot({}), {"seed": 0}, float("nan"))["score"] is None
      True
    """
    finite = float(score) if score is not None and math.isfinite(score) else None
    item = {"format_version": FORMAT_VERSION, "score": finite, "record": record, "leaves": snapshot.leaves}
    try:
        text = _canonical(item)
    except (TypeError, ValueError) as error:
        raise Refusal("record", record, f"must be JSON, without NaN or infinity ({error})") from error
    return {**json.loads(text), "crc32": zlib.crc32(text)}


def parse_item(text: bytes) -> dict[str, Any]:
    """The object that ``make_item`` made, without the checksum.

    Raises:
      ValueError: if the text is damaged (``KeyError`` and ``TypeError`` can occur too).

    Example:
      >>> parse_item(json.dumps(make_item(take_snapshot({}), {"seed": 3}, None)).encode())["record"]
      {'seed': 3}
    """
    item: dict[str, Any] = json.loads(text)
    if item.pop("crc32") != zlib.crc32(_canonical(item)):
        raise ValueError("the checksum of its record differs")
    return item


def misfit(item: dict[str, Any], like: PyTree) -> str:
    """Why an undamaged item cannot be restored into a template, and the remedy; empty if it can.

    Args:
      item: from ``parse_item``.
      like: pytree of arrays or ``jax.ShapeDtypeStruct``.

    Returns:
      The end of a sentence.

    Example:
      >>> misfit(make_item(take_snapshot({"w": np.ones(2)}), {}, None), {"w": np.ones(3)})[:57]
      "of another network, optimiser or algorithm: ['w'] is floa"
    """
    if item["format_version"] != FORMAT_VERSION:
        return (
            f"it has format {item['format_version']} and this version of metarl_jax reads format {FORMAT_VERSION}: "
            "use the version that wrote it"
        )
    saved = {name: leaf["type"] for name, leaf in item["leaves"].items()}
    wanted = {jax.tree_util.keystr(path): describe(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(like)}
    if saved == wanted:
        return ""
    if _in_single(saved) == _in_single(wanted):
        was_double = any("64[" in saved[name] for name in saved if saved[name] != wanted[name])
        there, here = ("double", "single") if was_double else ("single", "double")
        return (
            f"it was saved in {there} precision and this process computes in {here}: "
            f"start it with JAX_ENABLE_X64={int(was_double)}"
        )
    found = [
        f"{name} is {saved.get(name, 'absent')} in the checkpoint and {wanted.get(name, 'absent')} here"
        for name in saved | wanted
        if saved.get(name) != wanted.get(name)
    ]
    return (
        f"of another network, optimiser or algorithm: {some(found, '; ')}. "
        "Use the configuration it was saved with, or start a new run"
    )


def replicate(tree: PyTree) -> PyTree:
    """Put a copy of every array on every device of every process.

    Args:
      tree: arrays, equal on every process.

    Returns:
      The tree of ``jax.Array``.

    Example:
      >>> replicate({"w": np.ones(2)})["w"].is_fully_replicated
      True
    """
    return jax.device_put(tree, NamedSharding(Mesh(np.array(jax.devices()), ("device",)), PartitionSpec()))


def rebuild(snapshot: Snapshot, like: PyTree, place: Callable[[PyTree], PyTree] = replicate) -> PyTree:
    """The saved pytree, on the devices.

    Args:
      snapshot: equal on every process.
      like: gives the structure; see ``misfit``.
      place: puts it on the devices, or as much of it as is wanted; typed keys it sees as their data.

    Returns:
      A pytree of ``jax.Array`` and typed keys.

    Example:
      >>> rebuild(take_snapshot({"w": np.ones(2)}), {"w": np.zeros(2)})["w"].tolist()
      [1.0, 1.0]
    """

    def wrap(path: tuple[Any, ...], array: Array) -> Array:
        key_impl = snapshot.leaves[jax.tree_util.keystr(path)]["key_impl"]
        return jax.random.wrap_key_data(array, impl=key_impl) if key_impl else array

    values = jax.tree_util.tree_map_with_path(lambda path, _: snapshot.values[jax.tree_util.keystr(path)], like)
    return jax.tree_util.tree_map_with_path(wrap, place(values))


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _in_single(types: dict[str, str]) -> dict[str, str]:
    return {name: kind.replace("64[", "32[") for name, kind in types.items()}


def describe(leaf: Any) -> str:
    """What a leaf is, as a checkpoint says it.

    Example:
      >>> describe(np.ones((3, 2), np.float32))
      'float32[3,2]'
    """
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"


def _canonical(item: dict[str, Any]) -> bytes:
    return json.dumps(item, sort_keys=True, allow_nan=False).encode()
