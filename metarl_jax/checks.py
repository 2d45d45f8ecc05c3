"""What is checked at construction, and how a refusal is worded: the same words in YAML and in Python.

A factory declares in its signature what its arguments may be; :func:`checked` holds it to that, and the config reads
the same annotations. :func:`passes_on` declares where the keywords of its ``**`` go, :data:`Traced` which numbers may
be traced.
"""

import difflib
import functools
import inspect
import operator
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple, ParamSpec, TypeVar, get_args, get_origin

import annotated_types
import jax
import jax.numpy as jnp
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Schema = Mapping[str, Any]
"""A JSON schema; of a record such as ``Policy``, which JSON has not, ``{"record": its class}``."""
_MAX_SHOWN = 80


class Refusal(ValueError):  # noqa: N818 - a refusal is the answer to a value, not a fault
    """A value of the user's cannot be used. ``str(refusal)`` is complete and meant for the user.

    Attributes:
      name: of the argument or key; empty if ``remedy`` says it all.
      value: what was given.
      remedy: what is allowed, or what to do.

    Example:
      >>> str(Refusal("horizon", -1, "must be greater than 0"))
      'horizon = -1: must be greater than 0'
    """

    # ``args`` stay those of the call, as ``BaseException.__new__`` keeps them, so that subclasses can be pickled too.
    def __init__(self, name: str, value: object, remedy: str) -> None:
        self.name, self.value, self.remedy = name, value, remedy

    def __str__(self) -> str:
        if not self.name:
            return self.remedy
        value = repr(self.value)
        half = (_MAX_SHOWN - 3) // 2  # of a long path the end tells most
        shown = value if len(value) <= _MAX_SHOWN else f"{value[:half]}...{value[-half:]}"
        return f"{self.name} = {shown}: {self.remedy}"


def require(condition: bool, name: str, value: object, remedy: str) -> None:
    """Raise a :class:`Refusal` that names the value and the remedy unless ``condition`` holds.

    Example:
      >>> require(3 > 0, "horizon", 3, "give a positive whole number")
    """
    if not condition:
        raise Refusal(name, value, remedy)


# What a user reads.


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that a mistyped word most likely meant, if any is close.

    Example:
      >>> nearest("inner_rl", ["inner_rule", "inner_lr", "discount"])
      'inner_lr'
    """
    by_folded = {choice.lower(): choice for choice in choices}
    matches = difflib.get_close_matches(word.lower(), by_folded, n=3, cutoff=0.6)
    # Letters in another order are the likeliest slip of all.
    matches.sort(key=lambda match: sorted(match) != sorted(word.lower()))
    return by_folded[matches[0]] if matches else None


def did_you_mean(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """``"; did you mean 'inner_lr'?"``, or nothing if no choice is close.

    Args:
      word: what was written.
      choices: what is allowed.
      prefix: put before the suggestion, e.g. a folder.

    Example:
      >>> did_you_mean("sead", ["seed"])
      "; did you mean 'seed'?"
    """
    match = nearest(word, choices)
    return "" if match is None else f"; did you mean '{prefix}{match}'?"


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
    """
    relevant = _relevant(schema, value)
    phrase = expected(relevant)
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


# From an annotation to what it allows.

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


def _is_finite(value: Any) -> bool:
    return bool(np.all(abs(_on_host(value)) < np.inf))


def _is_within(value: Any, schema: Schema) -> bool:
    numbers = _on_host(value)
    return _is_finite(numbers) and all(
        np.all(is_within(numbers, schema[key])) for key, is_within in _IS_WITHIN.items() if key in schema
    )


def _on_host(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, jax.Array) else value


# What a factory declares.


class _TracedMark:
    """In an annotation: these numbers may be traced."""


_TRACED: Final = _TracedMark()
Traced = Annotated[T, _TRACED]
"""``Traced[PositiveFloat]``: the program is the same whatever the number, so it may be traced: a sweep over it is one
``vmap`` of everything from the factory on."""


class Argument(NamedTuple):
    """An argument of a factory.

    Attributes:
      parameter: its name, kind and default.
      annotation: with its ranges and marks; ``inspect.Parameter.empty`` if it has none.
      schema: what is allowed.
      owner: the factory that declares it: the one that was asked for, or one that it passes keywords on to.
      takers: by name, the same argument of each of several factories, of which only the chosen one takes it; empty if
        it does not depend on a choice.
    """

    parameter: inspect.Parameter
    annotation: Any
    schema: dict[str, Any]
    owner: Callable[..., Any]
    takers: Mapping[str, "Argument"] = types.MappingProxyType({})


class _Choice(NamedTuple):
    """Factories of which one gets the keywords: the argument ``by`` names it."""

    by: str
    factories: Mapping[str, Callable[..., Any]]


def passes_on(
    target: Callable[..., Any] | Mapping[Any, Callable[..., Any]] | None, *, chosen_by: str = ""
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare where the keywords of a factory's ``**`` go: all keyword-only arguments of ``target`` are its own, too.

    Args:
      target: a factory; None for another library, which checks them itself; or several, by name. Of these the chosen
        one gets the keywords, those that are None left out: it has defaults of its own. Others are refused.
      chosen_by: of several, the argument that names the one.

    Returns:
      A decorator, which goes below :func:`checked`.

    Example:
      >>> def inner(*, inner_lr: float = 0.1) -> float:
      ...     return inner_lr
      >>> @checked
      ... @passes_on(inner)
      ... def outer(*, num_epochs: int = 1, **keywords: Any) -> float:
      ...     return num_epochs * inner(**keywords)
      >>> sorted(arguments(outer))
      ['inner_lr', 'num_epochs']
    """

    def declare(factory: Callable[P, R]) -> Callable[P, R]:
        vars(factory)["passes_on"] = _Choice(chosen_by, target) if isinstance(target, Mapping) else target
        return factory

    return declare


def _targets(factory: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    """The factories that keywords are passed on to, all that can be chosen."""
    target = getattr(factory, "passes_on", None)
    if isinstance(target, _Choice):
        return tuple(target.factories.values())
    return () if target is None else (target,)


def undeclared_keywords(factory: Callable[..., Any]) -> str | None:
    """The name of a ``**`` of which nobody says where it goes, if a factory or one that it passes keywords to has one.

    Example:
      >>> undeclared_keywords(lambda **settings: None)
      'settings'
    """
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            undeclared = (undeclared_keywords(target) for target in _targets(factory))
            return next(filter(None, undeclared), None) if _targets(factory) else parameter.name
    return None


def _leads_outside(factory: Callable[..., Any]) -> bool:
    """Whether the keywords are declared to go to another library in the end."""
    return hasattr(factory, "passes_on") and (not _targets(factory) or any(map(_leads_outside, _targets(factory))))


@functools.cache
def arguments(factory: Callable[..., Any]) -> Mapping[str, Argument]:
    """All arguments of a factory, those that it passes on included.

    Example:
      >>> def double(x: float) -> float:
      ...     return 2.0 * x
      >>> arguments(double)["x"].schema
      {'type': 'number'}
    """
    hints = _hints(factory)
    own = {
        name: Argument(parameter, annotation, schema_of(annotation), factory)
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        for annotation in (hints.get(name, inspect.Parameter.empty),)
    }
    inherited = _inherited(factory)
    if any(one.takers for one in inherited.values()):  # what a choice decides comes after the choice
        return {**own, **{name: one for name, one in inherited.items() if name not in own}}
    return {**inherited, **own}


def _inherited(factory: Callable[..., Any]) -> dict[str, Argument]:
    """The keyword-only arguments that a factory passes on."""
    target = getattr(factory, "passes_on", None)
    if not isinstance(target, _Choice):
        return {name: one for name, one in arguments(target).items() if _is_keyword_only(one)} if target else {}
    takers: dict[str, dict[str, Argument]] = {}
    for chosen, one in target.factories.items():
        for name, argument in arguments(one).items():
            if _is_keyword_only(argument):
                takers.setdefault(name, {})[chosen] = argument
    return {name: _of_several(of) for name, of in takers.items()}


def _of_several(takers: Mapping[str, Argument]) -> Argument:
    """An argument of some of the factories to choose from; None is the default of the chosen one."""
    annotation: Any = typing.Union[(*(one.annotation for one in takers.values()), None)]
    first = next(iter(takers.values()))
    parameter = first.parameter.replace(default=None, annotation=annotation)
    return Argument(parameter, annotation, schema_of(annotation), first.owner, takers)


def _hints(factory: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(factory, include_extras=True)
    except NameError:  # a name that is imported for the type checker only: what is spelled with it is not checked
        return {name: _hint(hint, factory) for name, hint in inspect.get_annotations(factory).items()}


def _hint(annotation: Any, factory: Callable[..., Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        names = getattr(inspect.unwrap(factory), "__globals__", {})
        return typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except NameError:
        return annotation


def _is_keyword_only(argument: Argument) -> bool:
    return argument.parameter.kind is inspect.Parameter.KEYWORD_ONLY


def is_traceable(annotation: Any) -> bool:
    """Whether an annotation is marked :data:`Traced`.

    Example:
      >>> is_traceable(Traced[float] | None), is_traceable(float)
      (True, False)
    """
    return any(part is _TRACED or is_traceable(part) for part in get_args(annotation))


def checked(factory: Callable[P, R]) -> Callable[P, R]:
    """Hold a factory to the annotations of its arguments at every call: types, literals and ranges.

    Numbers and arrays of numbers are checked, what is traced passes; a list is handed on as a tuple.

    Args:
      factory: a function with annotated arguments; callables and what ``Any`` stands for are not looked at.

    Returns:
      The factory, which raises a :class:`Refusal` that names the first argument that is unknown or not allowed.

    Raises:
      TypeError: if the factory has a ``**`` and does not declare where its keywords go.

    Example:
      >>> @checked
      ... def walk(*, horizon: Annotated[int, annotated_types.Gt(0)] = 100) -> int:
      ...     return horizon
      >>> try:
      ...     walk(horizon=-1)
      ... except Refusal as refusal:
      ...     print(refusal)
      horizon = -1: must be greater than 0
    """
    unchecked: Callable[..., R] = factory
    if (undeclared := undeclared_keywords(factory)) is not None and not _leads_outside(factory):
        raise TypeError(f"{factory.__name__}: where does **{undeclared} go? Declare it: @passes_on(what takes them)")

    @functools.wraps(factory)
    def call(*given: P.args, **keywords: P.kwargs) -> R:
        known = arguments(factory)
        positional = [argument for argument in known.values() if not _is_keyword_only(argument)]
        if undeclared_keywords(factory) is None:
            _refuse_unknown(factory, known, keywords)
        settled = [_settle(argument, value) for argument, value in zip(positional, given, strict=False)]
        named = {name: _settle(known[name], value) if name in known else value for name, value in keywords.items()}
        return unchecked(*settled, *given[len(settled) :], **_taken(factory, known, named))

    return call


def _taken(factory: Callable[..., Any], known: Mapping[str, Argument], named: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords without those that are the chosen factory's own business, as they are None."""
    choice = getattr(factory, "passes_on", None)
    if not isinstance(choice, _Choice):
        return dict(named)
    taken = {name: value for name, value in named.items() if value is not None or not known[name].takers}
    chosen = named.get(choice.by, known[choice.by].parameter.default)
    chosen = chosen if isinstance(chosen, str) else "one of your own"
    for name, takers in ((name, argument.takers) for name, argument in known.items() if argument.takers):
        remedy = f"must be left out: it is of {choice.by} {', '.join(takers)}, not of {chosen}"
        require(name not in taken or chosen in takers, name, taken.get(name), remedy)
        is_needed = chosen in takers and takers[chosen].parameter.default is inspect.Parameter.empty
        require(name in taken or not is_needed, name, None, f"must be given for {choice.by} {chosen}")
    return taken


def _refuse_unknown(factory: Callable[..., Any], known: Mapping[str, Argument], keywords: Mapping[str, object]) -> None:
    for name in (name for name in keywords if name not in known):
        hint = did_you_mean(name, known) or ";"
        listing = f"{'V' if hint.endswith('?') else 'v'}alid arguments: {', '.join(known) or 'none'}"
        raise Refusal(name, keywords[name], f"unknown argument of {factory.__name__}{hint} {listing}")


def _settle(argument: Argument, value: Any) -> Any:
    """The value, if it is allowed."""
    if argument.schema and isinstance(value, np.ndarray) and jnp.issubdtype(value.dtype, jnp.integer) and value.ndim:
        value = value.tolist()  # sizes, as others compute them
    if not fits(value, argument.schema):
        raise Refusal(argument.parameter.name, value, f"must be {allowed(argument.schema, value)}")
    return _tuples(value) if argument.schema else value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
