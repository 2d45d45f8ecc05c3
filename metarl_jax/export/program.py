"""From a function of JAX to a program that :mod:`metarl_jax.export.policy` evaluates with numpy alone."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from metarl_jax.checks import Refusal
from metarl_jax.export import policy as numpy_side

_CALLS = frozenset(
    {"jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2"}
    | {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin"}
)
_WITHOUT_EFFECT = frozenset(
    {"sharding", "out_sharding", "weak_type", "precision", "accuracy", "name"}
    | {"_split_transpose", "linear", "unroll", "impl"}
)
"""Settings of operations that change no result."""


class NotInNumpy(Refusal):
    """An operation of the policy that the numpy program does not know."""


class _Equation(NamedTuple):
    operation: str
    inputs: list[Any]
    outputs: list[int]
    settings: dict[str, Any]


class _Writer:
    """Numbers the variables, and keeps the arrays that a function closes over."""

    def __init__(self, constants: dict[str, np.ndarray]) -> None:
        self.constants = constants
        self._numbers: Iterator[int] = count()

    def number(self) -> int:
        return next(self._numbers)

    def constant(self, value: Any) -> str | list[Any]:
        array = np.asarray(value)
        if array.ndim == 0:
            return _literal(array)
        name = f"constants/{len(self.constants)}"
        self.constants[name] = array
        return name


def write_program(
    function: Callable[..., Any], named: Iterable[str], arguments: tuple[Any, ...], constants: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The program of a function.

    Args:
      function: any that JAX can trace.
      named: what all leaves of the arguments are called, in their order.
      arguments: what to trace it with.
      constants: gets the arrays that the function closes over, by name.

    Returns:
      A JSON object.

    Raises:
      NotInNumpy: naming the operation that numpy does not know.

    Example:
      >>> program = write_program(lambda x: 2.0 * x + 1.0, ["x"], (jax.ShapeDtypeStruct((3,), "float32"),), {})
      >>> numpy_side.run(program, {"x": np.arange(3, dtype=np.float32)}, None)[0].tolist()
      [1.0, 3.0, 5.0]
    """
    return _program(_Writer(constants), jax.make_jaxpr(function)(*arguments), list(named))


def _program(writer: _Writer, closed: ClosedJaxpr, inputs: list[Any]) -> dict[str, Any]:
    equations: list[_Equation] = []
    outputs = _inline(writer, closed.jaxpr, [*map(writer.constant, closed.consts), *inputs], equations)
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
            outputs = [writer.number() for _ in equation.outvars]
            equations.append(_Equation(operation, arguments, outputs, equation.params))
        names.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


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
        taken: set[str] = {"bit_width", "shape"}
    elif function is None:
        raise NotInNumpy(
            "policy", name, "numpy's program does not know this operation: act with the jax.export artefact"
        )
    else:
        taken = _keywords(function)
    unknown = {key for key, value in settings.items() if key not in taken | _WITHOUT_EFFECT and value not in (None, ())}
    if unknown:
        setting = f"{name}({', '.join(sorted(unknown))})"
        raise NotInNumpy(
            "policy", setting, "numpy's program does not know this setting: act with the jax.export artefact"
        )
    kept = {key: _setting(writer, value) for key, value in settings.items() if key in taken}
    return [name, equation.inputs, equation.outputs, kept]


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
    """A setting of an operation as JSON: functions become programs, types their names."""
    if isinstance(value, ClosedJaxpr):
        inputs = [writer.number() for _ in value.jaxpr.invars]
        return {"inputs": inputs, **_program(writer, value, list(inputs))}
    if isinstance(value, (tuple, list)):
        return [_setting(writer, one) for one in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    return int(value) if isinstance(value, (int, np.integer)) else _type_name(np.dtype(value))


def _literal(array: np.ndarray) -> list[Any]:
    number = array.item()
    is_finite = not isinstance(number, float) or np.isfinite(number)
    return [_type_name(array.dtype), number if is_finite else str(number)]


def _type_name(dtype: np.dtype) -> str:
    if dtype.kind not in "biuf":
        remedy = "numpy does not know this type: act with the jax.export artefact, or compute in float32"
        raise NotInNumpy("policy", dtype.name, remedy)
    return dtype.name
