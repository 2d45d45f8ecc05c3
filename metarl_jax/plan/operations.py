"""Floating-point operations that a traced program asks for, on any hardware: loops counted as often as they run."""

import math
from typing import Any, NamedTuple

import jax


class Operations(NamedTuple):
    """How many floating-point operations.

    Attributes:
      products: of matrix products and convolutions, two for each multiplication and addition.
      others: one for each number that another operation computes, or a reduction reads.
    """

    products: float = 0
    others: float = 0


_MOVES = {
    *("broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "slice", "dynamic_slice", "gather"),
    *(
        "dynamic_update_slice",
        "scatter",
        "concatenate",
        "stack",
        "pad",
        "rev",
        "iota",
        "copy",
        "copy_p",
        "stop_gradient",
    ),
    *("convert_element_type", "bitcast_convert_type", "optimization_barrier", "split", "pvary"),
    *("ffi_call", "pure_callback", "platform_index"),
}
"""Primitives that compute nothing."""


def operations(jaxpr: Any) -> Operations:
    """Count what a traced program asks for; of loops whose length depends on data, a single pass.

    Args:
      jaxpr: from ``jax.make_jaxpr``, closed or not.

    Returns:
      The counts, on one device of a mapped program.

    Example:
      >>> jaxpr = jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: x @ y + y, x))
      >>> operations(jaxpr(jax.ShapeDtypeStruct((4, 4), float)))
      Operations(products=384, others=51)
    """
    total = Operations()
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        total = _add(total, _of(equation))
    return total


def _add(a: Operations, b: Operations, times: float = 1) -> Operations:
    return Operations(a.products + times * b.products, a.others + times * b.others)


def _of(equation: Any) -> Operations:
    name, parameters = equation.primitive.name, equation.params
    parts = jax.tree.leaves(list(parameters.values()), is_leaf=_is_jaxpr)
    inner = [operations(part) for part in parts if _is_jaxpr(part)]
    if name == "cond":
        return max(inner, key=sum)
    if inner:
        total = Operations()
        for part in inner:
            total = _add(total, part, parameters["length"] if name == "scan" else 1)
        return total
    return _of_primitive(name, equation)


def _is_jaxpr(value: object) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def _of_primitive(name: str, equation: Any) -> Operations:
    sizes = [math.prod(getattr(variable.aval, "shape", ())) for variable in equation.invars]
    written = sum(math.prod(getattr(variable.aval, "shape", ())) for variable in equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return Operations(products=2 * written * math.prod(equation.invars[0].aval.shape[i] for i in contracted))
    if name.startswith("matmul_"):  # of ops.matmul: [n, i] [i, j], in one of three arrangements
        return Operations(products=2 * math.isqrt(sizes[0] * sizes[1] * written))
    if name == "conv_general_dilated":
        out_channel = equation.params["dimension_numbers"].rhs_spec[0]
        return Operations(products=2 * written * sizes[1] // equation.invars[1].aval.shape[out_channel])
    if name in _MOVES:
        return Operations()
    return Operations(others=sizes[0] if name.startswith(("reduce_", "arg", "cum", "sort")) else written)
