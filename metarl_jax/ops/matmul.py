"""Matrix products whose derivatives, of any order, are matrix products without transposed copies.

JAX differentiates a product with respect to its weights as ``dot_general(cotangent, input)`` followed by a transpose,
and the second derivative, which MAML needs, then transposes arrays as long as the data. XLA does not undo that on
CPUs: a meta-gradient spends a third of its time on copies. The three forms below

    nn  x w       [n, i] [i, j] -> [n, j]
    nt  a w^T     [n, j] [i, j] -> [n, i]
    tn  x^T y     [n, i] [n, j] -> [i, j]

are closed under differentiation: the transpose of each with respect to either side is one of the three. They are
JAX primitives, so forward and reverse mode, in any nesting, ``vmap`` and ``jit`` all apply.

XLA's fast CPU kernels contract the left side along its rows, and ``tn`` contracts it down its columns: on CPUs a
transposed copy of a long one costs less than the slow product that it saves, by a twelfth of a whole ProMP update.

Observations and actions of two to four numbers make narrow products, for which a CPU's matrix routines are no good: a
contraction that short is written out as a sum, which fuses with its surroundings, and ``tn`` keeps its narrow side on
the left. On one core that is 30 and 8 times faster, a tenth of a whole ProMP update.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from metarl_jax.types import Array, require

_CONTRACTED = {"nn": (1, 0), "nt": (1, 1), "tn": (0, 0)}
_NARROW, _LONG = 4, 256


def _product(form: str, x: Array, y: Array) -> Array:
    left, right = _CONTRACTED[form]
    if _is_within(x.shape[left], _NARROW):
        columns, rows = jnp.moveaxis(x, left, 0)[:, :, None], jnp.moveaxis(y, right, 0)[:, None, :]
        return sum((a * b for a, b in zip(columns[1:], rows[1:], strict=True)), columns[0] * rows[0])
    if form == "tn" and _is_within(y.shape[1], _NARROW) and not _is_within(x.shape[1], _NARROW):
        return jax.lax.optimization_barrier(_product("tn", y, x)).T
    if form == "tn" and not _is_within(x.shape[0], _LONG - 1):
        return jax.lax.platform_dependent(x, y, cpu=_from_copy, default=partial(_contract, 0, 0))
    return _contract(left, right, x, y)


def _is_within(size: Any, limit: int) -> bool:
    """Whether a size is small; one that is symbolic, as in an exported function, is not."""
    return isinstance(size, int) and size <= limit


def _contract(left: int, right: int, x: Array, y: Array) -> Array:
    return jax.lax.dot_general(x, y, (((left,), (right,)), ((), ())))


def _from_copy(x: Array, y: Array) -> Array:
    """``x^T y`` with the transpose written out: unless it is held back, XLA takes it into the product again."""
    return _contract(1, 0, jax.lax.optimization_barrier(x.T), y)


def _make_primitive(form: str) -> Primitive:
    primitive = Primitive(f"matmul_{form}")

    def implementation(x: Array, y: Array) -> Array:
        return _product(form, x, y)

    def shape(x: Any, y: Any) -> Any:
        left, right = _CONTRACTED[form]
        return x.update(shape=(x.shape[1 - left], y.shape[1 - right]), weak_type=False)

    def batch(arguments: tuple[Array, Array], axes: tuple[Any, Any]) -> tuple[Array, int]:
        return jax.vmap(implementation, in_axes=axes)(*arguments), 0  # an axis is None where not mapped

    primitive.def_impl(implementation)
    primitive.def_abstract_eval(shape)
    mlir.register_lowering(primitive, mlir.lower_fun(implementation, multiple_results=False))
    batching.primitive_batchers[primitive] = batch
    return primitive


_NN, _NT, _TN = (_make_primitive(form) for form in ("nn", "nt", "tn"))
ad.defbilinear(_NN, lambda g, x, w: _NT.bind(g, w), lambda g, x, w: _TN.bind(x, g))
ad.defbilinear(_NT, lambda g, a, w: _NN.bind(g, w), lambda g, a, w: _TN.bind(g, a))
ad.defbilinear(_TN, lambda g, x, y: _NT.bind(y, g), lambda g, x, y: _NN.bind(x, g))


def matmul(x: Array, w: Array) -> Array:
    """``x @ w`` for any leading axes of ``x``, fast to differentiate twice.

    Args:
      x: ``[..., i]``.
      w: ``[i, j]``.

    Returns:
      ``[..., j]``.

    Example:
      >>> matmul(jnp.ones((2, 3)), jnp.ones((3, 1))).tolist()
      [[3.0], [3.0]]
    """
    dtype = jnp.promote_types(x.dtype, w.dtype)
    flat = x.reshape(-1, x.shape[-1]).astype(dtype)
    return _NN.bind(flat, w.astype(dtype)).reshape(*x.shape[:-1], w.shape[1])


def dense_dot_general(x: Array, w: Array, dimension_numbers: Any, precision: Any = None, **_: Any) -> Array:
    """:func:`matmul` with the signature that ``flax.linen.Dense(dot_general=...)`` calls.

    Args:
      x: ``[..., i]``.
      w: ``[i, j]``.
      dimension_numbers: always the last axis of ``x`` with the first of ``w``.
      precision: must be left out.

    Returns:
      ``[..., j]``.

    Raises:
      ValueError: if asked for anything else.
    """
    require(precision is None, "precision", precision, "leave it out")
    is_matmul = dimension_numbers == (((x.ndim - 1,), (0,)), ((), ()))
    require(is_matmul, "dimension_numbers", dimension_numbers, "only x @ w is supported: take another dot_general")
    return matmul(x, w)
