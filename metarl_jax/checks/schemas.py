"""What an annotation allows, as a JSON schema: whether a value fits it, and how it is said in words."""

import operator
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import annotated_types
import jax
import jax.numpy as jnp
import numpy as np

Schema = Mapping[str, Any]
"""A JSON schema; of a record such as ``Policy``, which JSON has not, ``{"record": its class}``."""
_BOUNDS: Final = {
    annotated_types.Gt: ("exclusiveMinimum", "gt"),
    annotated_types.Ge: ("minimum", "ge"),
    annotated_types.Lt: ("exclusiveMaximum", "lt"),
    annotated_types.Le: ("maximum", "le"),
}
_IS_WITHIN: Final = {
    "exclusiveMinimum": operator.gt,
    "minimum": operator.ge,
    "exclusiveMaximum": operator.lt,
    "maximum": operator.le,
}
_SINGLE: Final = (float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max))
"""The smallest and the largest size but zero of numbers in single precision; XLA takes what is smaller for zero."""
_TYPES: Final = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null", None: "null"}


def schema_of(annotation: Any) -> dict[str, Any]:
    """What an annotation allows, as a JSON schema; ``{}``, which is anything, if it is none that can be checked.

    Args:
      annotation: numbers, text, booleans, None, literals, tuples of these, and records; ranges of ``annotated_types``.

    Example:
      >>> schema_of(Annotated[float, annotated_types.Gt(0)] | None)
      {'anyOf': [{'type': 'number', 'exclusiveMinimum': 0}, {'type': 'null'}]}
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        schema = schema_of(parts[0])
        for mark in parts[1:]:
            if isinstance(mark, annotated_types.MinLen):
                schema["minItems" if schema.get("type") == "array" else "minLength"] = mark.min_length
            elif type(mark) in _BOUNDS:
                key, attribute = _BOUNDS[type(mark)]
                schema[key] = getattr(mark, attribute)
        return schema
    if origin is Literal:
        return {"enum": list(parts)}
    if origin in (typing.Union, types.UnionType):
        # Where a number may stand, so may an array of numbers.
        options = [schema_of(part) for part in parts if part is not jax.Array]
        return {"anyOf": options} if all(options) else {}
    if origin is tuple and Ellipsis not in parts:
        return {"type": "array", "prefixItems": [schema_of(part) for part in parts]}
    if origin in (tuple, Sequence):
        return {"type": "array", "items": schema_of(parts[0])}
    if isinstance(annotation, type) and issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        return {"record": annotation}
    return {"type": _TYPES[annotation]} if annotation in _TYPES else {}


def is_traced(value: object) -> bool:
    """Whether a number, or one in a tuple of them, is traced, so that its value is not known yet.

    Example:
      >>> is_traced((0.5, 1.0))
      False
    """
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def fits(value: object, schema: Schema) -> bool:
    """Whether a value is allowed. A list counts as a tuple, an array as the numbers in it; what is traced passes.

    Example:
      >>> [fits(value, {"type": "number", "minimum": 0}) for value in (3, True, float("nan"))]
      [True, False, False]
    """
    if "anyOf" in schema:
        return any(fits(value, option) for option in schema["anyOf"])
    if "enum" in schema:
        return any(isinstance(value, type(option)) and value == option for option in schema["enum"])
    if "record" in schema:
        return isinstance(value, schema["record"])
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return _is_number(value, kind) and (isinstance(value, jax.core.Tracer) or _is_within(value, schema))
    if kind == "array":
        return _fits_items(value, schema)
    if kind == "string":
        return isinstance(value, str) and len(value) >= schema.get("minLength", 0)
    if kind == "boolean":
        return isinstance(value, bool | np.bool_)
    return value is None if kind == "null" else True


def _fits_items(value: object, schema: Schema) -> bool:
    items = schema.get("items", {})
    if not isinstance(value, Sequence) or isinstance(value, str):
        return items.get("type", "number") == "number" and np.ndim(value) > 0 and fits(value, items)  # type: ignore[arg-type]
    if "prefixItems" in schema:
        items = schema["prefixItems"]
        return len(value) == len(items) and all(map(fits, value, items))
    return len(value) >= schema.get("minItems", 0) and all(fits(item, items) for item in value)


def _is_number(value: object, kind: str = "number") -> bool:
    """Whether it is a number, of numpy's or JAX's too, or an array of numbers; an array is no whole number."""
    if not isinstance(value, np.generic | np.ndarray | jax.Array):
        return isinstance(value, int if kind == "integer" else (int, float)) and not isinstance(value, bool)
    whole = jnp.issubdtype(value.dtype, jnp.integer)
    return (whole and value.ndim == 0) if kind == "integer" else (whole or jnp.issubdtype(value.dtype, jnp.floating))


def _is_beyond_single(value: object, schema: Schema) -> bool:
    """Whether a finite number that may have a fraction, or one of several, would be computed with as another."""
    if "anyOf" in schema:
        return any(_is_beyond_single(value, option) for option in schema["anyOf"])
    if isinstance(value, list | tuple):
        items = schema.get("prefixItems") or [schema.get("items", {})] * len(value)
        return any(map(_is_beyond_single, value, items))
    schema = schema.get("items", schema)  # of an array in the place of a list
    is_known = schema.get("type") == "number" and _is_number(value) and not isinstance(value, jax.core.Tracer)
    return is_known and _is_finite(value) and not _is_in_single(value)


def _is_finite(value: Any) -> bool:
    return bool(np.all(abs(_on_host(value)) < np.inf))


def _is_in_single(value: Any) -> bool:
    """Whether numbers become neither infinite nor zero in single precision; arrays, which may be data, may be zero."""
    has_dtype = isinstance(value, np.generic | np.ndarray | jax.Array)
    size, (least, most) = abs(np.asarray(value, float) if has_dtype else value), _SINGLE
    return bool(np.all(size <= most) and (np.ndim(size) > 0 or size == 0 or size >= least))


def _is_within(value: Any, schema: Schema) -> bool:
    numbers = _on_host(value)
    is_held = _is_in_single if schema.get("type") == "number" else _is_finite
    return is_held(numbers) and all(
        np.all(is_within(numbers, schema[key])) for key, is_within in _IS_WITHIN.items() if key in schema
    )


def _on_host(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, jax.Array) else value


def expected(schema: Schema) -> str:
    """Say in words which values a JSON schema allows.

    Args:
      schema: as pydantic makes it of a key, and :func:`schema_of` of an annotation.

    Returns:
      A noun phrase.

    Example:
      >>> expected({"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}]})
      'a whole number greater than 0 or null'
    """
    if "anyOf" in schema:
        return " or ".join(expected(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        options = schema.get("enum", [schema.get("const")])
        return ("one of " if len(options) > 1 else "") + ", ".join(map(str, options))
    if "record" in schema:
        return f"of type {schema['record'].__name__}"
    if schema.get("type") == "array":
        return _expected_list(schema)
    nouns = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null"}
    noun = nouns.get(schema.get("type", ""), "text")
    limits = bounds(schema)
    return f"{noun} {'of ' if limits.startswith('at ') else ''}{limits}".strip()


def _expected_list(schema: Schema) -> str:
    if "prefixItems" in schema:
        items = [expected(item) for item in schema["prefixItems"]]
        return f"a list of {len(items)}: {', '.join(items)}"
    item = expected(schema.get("items", {})).replace("one of ", "any of ", 1)
    for article in ("a ", "an "):
        item = item.removeprefix(article)
    plural = re.sub(r"\bnumber\b", "numbers", item, count=1)
    return f"a list of {plural}" + (f", at least {schema['minItems']} of them" if "minItems" in schema else "")


def bounds(schema: Schema) -> str:
    """Say in words which range a JSON schema of a number or text allows.

    Returns:
      A phrase that follows "must be", or ``""``.

    Example:
      >>> bounds({"type": "number", "minimum": 0, "maximum": 1})
      'at least 0 and at most 1'
    """
    phrases = {
        "exclusiveMinimum": "greater than",
        "minimum": "at least",
        "exclusiveMaximum": "less than",
        "maximum": "at most",
        "minLength": "of length at least",
    }
    return " and ".join(f"{phrase} {_plain(schema[key])}" for key, phrase in phrases.items() if key in schema)


def _plain(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"


def allowed(schema: Schema, value: object) -> str:
    """Say in words what a rejected value should have been: of several forms, the one that it was meant to have.

    Returns:
      A phrase that follows "must be".

    Example:
      >>> allowed({"type": "number", "minimum": 0}, -1), allowed({"type": "number", "minimum": 0}, "x")
      ('at least 0', 'a number of at least 0')
      >>> allowed({"type": "number", "exclusiveMinimum": 0}, 1e39)
      'a number greater than 0; single precision has 0 and sizes from 1.2e-38 to 3.4e+38'
    """
    relevant = _relevant(schema, value)
    phrase = expected(relevant)
    if _is_beyond_single(value, relevant):
        return f"{phrase}; single precision has 0 and sizes from {_SINGLE[0]:.1e} to {_SINGLE[1]:.1e}"
    if relevant.get("type") not in ("integer", "number") or not _is_number(value, relevant["type"]):
        return phrase
    return bounds(relevant) if _is_finite(value) else phrase.replace("a number", "a finite number", 1)


def _relevant(schema: Schema, value: object) -> Schema:
    """Of several allowed forms, those that the user can have meant: one number, or a list."""
    is_list = isinstance(value, list | tuple)
    if "anyOf" not in schema or not (is_list or _is_number(value)):
        return schema
    options = [option for option in schema["anyOf"] if (option.get("type") == "array") == is_list]
    return {"anyOf": options} if len(options) > 1 else (options or [schema])[0]
