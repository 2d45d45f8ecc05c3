"""The arguments of a factory: declared in its signature, passed on, checked at every call."""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, NamedTuple, ParamSpec, TypeVar, get_args

import jax.numpy as jnp
import numpy as np

from metarl_jax.checks.refusal import Refusal, did_you_mean, require
from metarl_jax.checks.schemas import allowed, fits, schema_of

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


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
      >>> from annotated_types import Gt
      >>> @checked
      ... def walk(*, horizon: Annotated[int, Gt(0)] = 100) -> int:
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
