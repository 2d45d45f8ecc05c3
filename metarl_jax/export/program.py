"""From a function of JAX to a program that :mod:`metarl_jax.export.policy` evaluates with numpy alone."""

import enum
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jax.interpreters.partial_eval import dce_jaxpr

from metarl_jax.checks import Refusal
from metarl_jax.export import policy as numpy_side
from metarl_jax.export.artefacts import is_readable, readable

_CALLS = frozenset(
    {"jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2"}
    | {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin", "composite"}
)
_WITHOUT_EFFECT = frozenset(
    {"sharding", "out_sharding", "weak_type", "precision", "accuracy", "name"}
    | {"_split_transpose", "linear", "unroll", "impl", "indices_are_sorted", "unique_indices", "is_stable"}
)
"""Settings of operations that change no result."""
_SAID_BY_NAME = {f"scatter-{change}": {"update_jaxpr"} for change in ("add", "max", "min", "mul", "sub")}
"""Settings that the name of the operation says already."""
_ONLY = {
    "conv_general_dilated": {"batch_group_count": 1},
    "reduce_precision": {"exponent_bits": 8, "mantissa_bits": 7},
}
"""Settings of which numpy's program knows one value."""
_BFLOAT16 = np.dtype(jnp.bfloat16)
_ACT_WITH = "act with the jax.export artefact"


class NotInNumpy(Refusal):
    """An operation of the policy that the numpy program does not know."""


class _Equation(NamedTuple):
    operation: str
    inputs: list[Any]
    outputs: list[int]
    settings: dict[str, Any]


class _Writer:
    """Numbers the variables, and keeps the arrays that a function closes over; of one that may draw, or may not."""

    def __init__(self, constants: dict[str, np.ndarray], is_random: bool) -> None:
        self.constants, self.is_random = constants, is_random
        self._numbers: Iterator[int] = count()

    def number(self) -> int:
        return next(self._numbers)

    def constant(self, value: Any) -> str | list[Any]:
        array = np.asarray(value, _type_name(value.dtype))
        if array.ndim == 0:
            return _literal(array)
        name = f"constants/{len(self.constants)}"
        self.constants[name] = array
        return name


def write_program(
    function: Callable[..., Any],
    named: Iterable[str],
    arguments: tuple[Any, ...],
    constants: dict[str, np.ndarray],
    *,
    rounded: Collection[str] = (),
    is_random: bool = True,
) -> dict[str, Any]:
    """The program of a function.

    Args:
      function: any that JAX can trace.
      named: what all leaves of the arguments are called, in their order.
      arguments: what to trace it with.
      constants: gets the arrays that the function closes over, by name.
      rounded: names of leaves whose numbers bfloat16 has, if it is their type; the program rounds the others.
      is_random: it may draw random numbers.

    Returns:
      A JSON object. What is bfloat16 in JAX is float32 in it, rounded after every operation.

    Raises:
      NotInNumpy: naming the operation, setting or type that numpy does not know.

    Example:
      >>> program = write_program(lambda x: 2.0 * x + 1.0, ["x"], (jax.ShapeDtypeStruct((3,), "float32"),), {})
      >>> numpy_side.run(program, {"x": np.arange(3, dtype=np.float32)}, None)[0].tolist()
      [1.0, 3.0, 5.0]
    """
    writer, closed = _Writer(constants, is_random), jax.make_jaxpr(function)(*arguments)
    equations: list[_Equation] = []
    inputs: list[Any] = []
    for name, kind in zip(named, closed.in_avals, strict=True):
        if not jnp.issubdtype(kind.dtype, jax.dtypes.prng_key):
            _type_name(kind.dtype)  # or it is refused
        is_rounded = name in rounded or not _is_bfloat16(kind)
        inputs.append(name if is_rounded else _append_rounding(writer, name, equations))
    return _program(writer, closed, inputs, equations)


def _program(writer: _Writer, closed: ClosedJaxpr, inputs: list[Any], equations: list[_Equation]) -> dict[str, Any]:
    """Of a function whose inputs the equations make."""
    jaxpr, _ = dce_jaxpr(closed.jaxpr, True, instantiate=True)  # loops and branches too make only what is used
    outputs = _inline(writer, jaxpr, [*map(writer.constant, closed.consts), *inputs], equations)
    return {"equations": [_to_json(writer, equation) for equation in _needed(equations, outputs)], "outputs": outputs}


def _inline(writer: _Writer, jaxpr: Jaxpr, inputs: list[Any], equations: list[_Equation]) -> list[Any]:
    """Append the equations of a function and of all that it calls; its outputs."""
    names = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))

    def read(atom: Any) -> Any:
        if not isinstance(atom, Literal):
            return names[atom]
        kind: Any = atom.aval
        return writer.constant(np.asarray(atom.val, kind.dtype))

    for equation in jaxpr.eqns:
        arguments, operation = [read(atom) for atom in equation.invars], equation.primitive.name
        if operation in _CALLS:
            called = next(
                equation.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in equation.params
            )
            inner = called if isinstance(called, ClosedJaxpr) else ClosedJaxpr(called, [])
            given = [*map(writer.constant, inner.consts), *arguments]
            outputs = _inline(writer, inner.jaxpr, given, equations)
        else:
            outputs = _append(writer, equation, arguments, equations)
        names.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _append(writer: _Writer, equation: JaxprEqn, arguments: list[Any], equations: list[_Equation]) -> list[int]:
    """Append one equation, and what rounds its outputs of bfloat16; its outputs."""
    operation, settings = equation.primitive.name, equation.params
    kinds: list[Any] = [atom.aval for atom in (*equation.invars, *equation.outvars)]
    taken, made = ([_is_bfloat16(atom.aval) for atom in atoms] for atoms in (equation.invars, equation.outvars))
    outputs = [writer.number() for _ in equation.outvars]
    if operation == "bitcast_convert_type" and len({kind.dtype.itemsize for kind in kinds}) > 1:
        operation += " between sizes"
    elif operation == "bitcast_convert_type" and any(made) and not any(taken):
        operation, settings = "bfloat16_from_bits", {}
    elif operation in ("bitcast_convert_type", "nextafter") and any(taken):
        operation = f"{operation} of bfloat16"  # its bits, which a float32 does not have
    equations.append(_Equation(operation, arguments, outputs, settings))
    return [
        _append_rounding(writer, output, equations) if is_rounded else output
        for is_rounded, output in zip(made, outputs, strict=True)
    ]


def _append_rounding(writer: _Writer, atom: Any, equations: list[_Equation]) -> int:
    after = writer.number()
    equations.append(_Equation("reduce_precision", [atom], [after], dict(_ONLY["reduce_precision"])))
    return after


def _is_bfloat16(kind: Any) -> bool:
    return getattr(kind, "dtype", None) == _BFLOAT16


def _needed(equations: list[_Equation], outputs: list[Any]) -> list[_Equation]:
    """Without what no output depends on."""
    wanted, kept = {atom for atom in outputs if isinstance(atom, int)}, []
    for equation in reversed(equations):
        if wanted & set(equation.outputs):
            wanted |= {atom for atom in equation.inputs if isinstance(atom, int)}
            kept.append(equation)
    return kept[::-1]


def _to_json(writer: _Writer, equation: _Equation) -> list[Any]:
    """An equation as numpy evaluates it, with the settings that it takes."""
    name, settings = equation.operation, _of_any_version(equation.settings)
    function = numpy_side.OPERATIONS.get(name) or numpy_side.CONTROL.get(name)
    if name == "random_bits":
        rule = "the most likely action must not draw random numbers (all that a while loop draws counts)"
        remedy = f"{rule}: {_ACT_WITH}"
        _require_known(writer.is_random, name, remedy)
        taken: set[str] = {"bit_width", "shape"}
    else:
        _require_known(function is not None, name, f"numpy's program does not know this operation: {_ACT_WITH}")
        assert function is not None  # for the type checker
        taken = _keywords(function)
    fixed = _ONLY.get(name, {})
    without_effect = _WITHOUT_EFFECT | _SAID_BY_NAME.get(name, set())
    unknown = [
        key
        for key, value in settings.items()
        if (value != fixed[key] if key in fixed else key not in taken | without_effect and value not in (None, ()))
    ]
    named = f"{name}({', '.join(sorted(unknown))})"
    _require_known(not unknown, named, f"numpy's program does not know this setting: {_ACT_WITH}")
    no_rows = f"numpy's program does not know a loop of no steps: {_ACT_WITH}"
    _require_known(name != "scan" or settings["length"] > 0, "scan(length=0)", no_rows)
    kept = {key: _setting(writer, value) for key, value in settings.items() if key in taken}
    return [name, equation.inputs, equation.outputs, kept]


def _require_known(is_known: bool, name: str, remedy: str) -> None:
    if not is_known:
        raise NotInNumpy("policy", name, remedy)


def _of_any_version(settings: dict[str, Any]) -> dict[str, Any]:
    """In newer versions of JAX a scan says how its arguments are nested, not how many of each kind there are."""
    if "ft_in" not in settings:
        return settings
    shared, carry, _ = settings["ft_in"].unpack()
    rest = {name: value for name, value in settings.items() if name not in ("ft_in", "ft_out")}
    return {**rest, "num_consts": len(list(shared.vals)), "num_carry": len(list(carry.vals))}


def _keywords(function: Callable[..., Any]) -> set[str]:
    """The keywords that it takes; none of numpy's own functions."""
    if isinstance(function, np.ufunc) or not inspect.isfunction(function):
        return set()
    return {name for name, one in inspect.signature(function).parameters.items() if one.kind is one.KEYWORD_ONLY}


def _setting(writer: _Writer, value: Any) -> Any:
    """A setting of an operation as JSON: functions become programs, types and choices their names."""
    if isinstance(value, ClosedJaxpr):
        inputs = [writer.number() for _ in value.jaxpr.invars]
        return {"inputs": inputs, **_program(writer, value, list(inputs), [])}
    if hasattr(value, "_asdict"):
        return {name: _setting(writer, one) for name, one in value._asdict().items()}
    if isinstance(value, (tuple, list)):
        return [_setting(writer, one) for one in value]
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    return _number(float(value)) if isinstance(value, (float, np.floating)) else _type_name(np.dtype(value))


def _literal(array: np.ndarray) -> list[Any]:
    return [_type_name(array.dtype), _number(array.item())]


def _number(number: Any) -> Any:
    """As JSON has it, which has no infinite ones."""
    is_finite = not isinstance(number, float) or np.isfinite(number)
    return number if is_finite else str(number)


def _type_name(dtype: Any) -> str:
    """What numpy computes in."""
    remedy = f"numpy does not know this type: {_ACT_WITH}, or compute in float32"
    _require_known(isinstance(dtype, np.dtype) and is_readable(dtype), dtype.name, remedy)
    return str(readable(dtype).name)
