"""What devices keep each of their own, ``TrainState.local``: dealt out to them, and put together again.

Checkpoints, and everything outside the device program, see it whole, so they do not depend on the number of devices.
"""

import jax

from metarl_jax.checks import require
from metarl_jax.types import Array, PyTree


def deal(local: PyTree, num_devices: int) -> PyTree:
    """Share the items out evenly, in order: ``[N, ...] -> [devices, N / devices, ...]``.

    Args:
      local: every leaf with a leading axis of items.
      num_devices: that share them.

    Returns:
      The shares.

    Raises:
      Refusal: if a leaf has no such axis, or its items cannot be shared evenly.

    Example:
      >>> deal({"seen": jax.numpy.arange(4)}, 2)["seen"].tolist()
      [[0, 1], [2, 3]]
    """

    def of_leaf(path: tuple[object, ...], leaf: Array) -> Array:
        name = f"state.local{jax.tree_util.keystr(path)}"
        require(leaf.ndim > 0, name, leaf, "has no axis of items: keep what is the same on all devices in state.aux")
        remedy = f"so many items cannot be shared evenly by {num_devices} devices: use a number that divides them"
        require(leaf.shape[0] % num_devices == 0, name, leaf.shape[0], remedy)
        return leaf.reshape(num_devices, leaf.shape[0] // num_devices, *leaf.shape[1:])

    return jax.tree_util.tree_map_with_path(of_leaf, local)


def join(shares: PyTree) -> PyTree:
    """Put the shares together: ``[devices, n, ...] -> [devices n, ...]``.

    Args:
      shares: of all devices, in order.

    Returns:
      What was dealt.

    Example:
      >>> join(deal(jax.numpy.arange(4), 2)).tolist()
      [0, 1, 2, 3]
    """
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), shares)
