"""Attention: blocks of a transformer over a sequence or a set; mask, positions and what is past are the caller's."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from metarl_jax.networks.mlp import dense
from metarl_jax.types import Array, PyTree

Attend = Callable[[PyTree, Array, Array, Array], tuple[Array, PyTree]]
"""``(past, query, key, value [..., heads, n, h]) -> (mixed [..., heads, n, h], past)`` of one layer."""
Scheme = Literal["pre_norm", "t_fixup"]

_LONGEST_WAVE = 10_000.0  # of rotary positions, in steps over 2 pi


def attention(query: Array, key: Array, value: Array, mask: Array | None = None) -> Array:
    """Softmax attention (Vaswani et al., 2017), every head by itself.

    Args:
      query: ``[..., heads, q, h]``.
      key: ``[..., heads, k, h]``.
      value: ``[..., heads, k, h]``.
      mask: True where a query sees a key, of which each has to see one; broadcast against ``[..., heads, q, k]``, so
        one for each entry of a batch has an axis for the heads. None: all see all.

    Returns:
      ``[..., heads, q, h]``.

    Example:
      >>> x = jnp.arange(3.0).reshape(1, 3, 1)
      >>> attention(jnp.zeros_like(x), x, x, jnp.tril(jnp.ones((3, 3), bool))).ravel().tolist()
      [0.0, 0.5, 1.0]
    """
    return mixture(likeness(query, key), value, mask)


def likeness(query: Array, key: Array) -> Array:
    """The scores of :func:`attention`, ``[..., heads, q, k]``: products of queries and keys over the root of ``h``.

    Example:
      >>> likeness(jnp.ones((1, 2, 4)), jnp.ones((1, 3, 4)))[0, 0].tolist()
      [2.0, 2.0, 2.0]
    """
    return jnp.einsum("...qh,...kh->...qk", query, key) / math.sqrt(query.shape[-1])


def mixture(scores: Array, value: Array, mask: Array | None = None) -> Array:
    """The values' mean, weighted by the softmax of scores.

    Args:
      scores: ``[..., heads, q, k]``.
      value: of :func:`attention`.
      mask: likewise.

    Returns:
      ``[..., heads, q, h]``.

    Example:
      >>> mixture(jnp.zeros((1, 1, 2)), jnp.array([[[1.0], [3.0]]])).tolist()
      [[[2.0]]]
    """
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    return nn.softmax(scores) @ value


class Turns(NamedTuple):
    """Cosines and sines ``[n, h / 2]`` of the angles of rotary positions."""

    cos: Array
    sin: Array


def turns(positions: np.ndarray, size: int) -> Turns:
    """The angles of rotary positions (Su et al., 2021).

    Args:
      positions: ``[n]``, on the host: the angles are exact however long the sequence is.
      size: ``h`` of what is turned; even.

    Example:
      >>> turns(np.arange(3), 4).cos.shape
      (3, 2)
    """
    half = size // 2
    angles = np.multiply.outer(positions, _LONGEST_WAVE ** (-np.arange(half) / half))
    return Turns(jnp.asarray(np.cos(angles), float), jnp.asarray(np.sin(angles), float))


def rotate(x: Array, by: Turns) -> Array:
    """Rotary positions: the product of two that are turned so depends on how far apart they are.

    Args:
      x: ``[..., n, h]`` queries or keys.
      by: of their positions.

    Returns:
      Of the same shape and type.

    Example:
      >>> x = jnp.ones((1, 2))
      >>> turned = [rotate(x, turns(np.array([position]), 2)).ravel() for position in (0, 3, 1000, 1003)]
      >>> bool(jnp.isclose(turned[0] @ turned[1], turned[2] @ turned[3]))
      True
    """
    half = x.shape[-1] // 2
    left, right = x[..., :half], x[..., half:]
    cos, sin = by.cos.astype(x.dtype), by.sin.astype(x.dtype)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each added to what came in.

    Attributes:
      num_heads: heads, which share the width of the input evenly.
      scheme: as in :class:`Transformer`.
      gain: what the initial weights beside those of queries and keys are multiplied by.
    """

    num_heads: int
    scheme: Scheme
    gain: float

    @nn.compact
    def __call__(self, x: Array, past: PyTree, attend: Attend) -> tuple[Array, PyTree]:
        """Map ``[..., n, size]`` to the same shape, and the layer's past to what is past then."""
        size = x.shape[-1]
        seen = _norm(self.scheme)(x)
        heads = (*x.shape[:-1], self.num_heads, size // self.num_heads)
        query, key, value = (
            jnp.swapaxes(dense(size, name, gain)(seen).reshape(heads), -3, -2)
            for name, gain in (("query", 1.0), ("key", 1.0), ("value", self.gain))
        )
        mixed, past = attend(past, query, key, value)
        x = x + dense(size, "mix", self.gain)(jnp.swapaxes(mixed, -3, -2).reshape(x.shape))
        hidden = nn.gelu(dense(4 * size, "widen", self.gain)(_norm(self.scheme)(x)))
        return x + dense(size, "narrow", self.gain)(hidden), past


class Transformer(nn.Module):
    """A linear embedding and blocks over ``n`` things, which have no positions but those that ``attend`` gives them.

    Attributes:
      size: width; divided evenly by the heads.
      num_layers: blocks.
      num_heads: heads of each.
      scheme: ``pre_norm`` normalises layers' inputs (Xiong et al., 2020) and the output; ``t_fixup`` nothing, and it
        starts from smaller weights instead (Huang et al., 2020).

    Example:
      >>> import jax
      >>> net, x = Transformer(size=8, num_layers=2, num_heads=2), jnp.ones((5, 3, 4))
      >>> net.apply(net.init(jax.random.key(0), x), x, mask=jnp.tril(jnp.ones((3, 3), bool))).shape
      (5, 3, 8)
    """

    size: int
    num_layers: int
    num_heads: int
    scheme: Scheme = "pre_norm"

    @nn.compact
    def read(self, x: Array, past: tuple[PyTree, ...], attend: Attend) -> tuple[Array, tuple[PyTree, ...]]:
        """Map ``[..., n, m]`` to ``[..., n, size]``, and the past of each layer to what is past then."""
        is_plain = self.scheme == "pre_norm"
        first, gain = (1.0, 1.0) if is_plain else ((9 * self.num_layers) ** -0.25, 0.67 * self.num_layers**-0.25)
        x, kept = dense(self.size, "embedding", first)(x), []
        for layer, before in enumerate(past):
            x, after = Block(self.num_heads, self.scheme, gain, name=f"block_{layer}")(x, before, attend)
            kept.append(after)
        return _norm(self.scheme)(x), tuple(kept)

    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Map ``[..., n, m]`` to ``[..., n, size]``; see :func:`attention` for the mask."""

        def attend(past: PyTree, query: Array, key: Array, value: Array) -> tuple[Array, PyTree]:
            return attention(query, key, value, mask), past

        return self.read(x, ((),) * self.num_layers, attend)[0]


def _norm(scheme: Scheme) -> Callable[[Array], Array]:
    """Layer normalisation, or nothing."""
    if scheme == "t_fixup":
        return lambda x: x
    return nn.LayerNorm(use_fast_variance=False, param_dtype=float)
