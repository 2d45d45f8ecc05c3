"""Schemas from signatures: a new algorithm or task family is one file, with no schema to write beside it."""

import inspect
import itertools
import re
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator, model_validator

from metarl_jax.checks import Argument, arguments, fits, is_traceable, schema_of, undeclared_keywords

Factory = Callable[..., Any]

FROM_TRAINING = frozenset({"episodes_per_task", "meta_batch_size"})
"""Keyword arguments of algorithms that the ``training`` section holds: all take the first, few need the second."""

ANY_FAMILY = {
    "oracle": "Show the policy its task: an upper bound.",
    "critic_oracle": "Show the task to the learned value alone, not to the policy.",
    "disjoint": "Hold out a fifth of the cells of the space of tasks, instead of taking further draws from all of it.",
}
"""Switches that every family of tasks has, beside its factory's own keys."""

ANY_POLICY = {
    "normalize_observations": "Show the policy observations in standard deviations from their mean, both of all that "
    "training has observed.",
}
"""Likewise, of every policy."""

_SWITCHES: Mapping[str, Mapping[str, str]] = {"tasks": ANY_FAMILY, "policy": ANY_POLICY}

NOT_KEYS = frozenset({"rule", "privileged_size"})
"""Arguments that are functions, for notebooks only, and what a family tells its policy."""


class Section(BaseModel):
    """One section of a config: frozen, no unknown keys, no silent conversions, no infinities; empty means defaults.

    Nor numbers that single precision, JAX's own, would make infinite or zero; in double precision the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_defaults(cls, given: object) -> object:
        return {} if given is None else given

    @field_validator("*")
    @classmethod
    def _as_from_python(cls, value: object, info: ValidationInfo) -> object:
        """What pydantic lets pass and a factory would not: numbers beyond single precision."""
        assert info.field_name is not None
        if not fits(value, schema_of(cls.model_fields[info.field_name].annotation)):
            raise ValueError("beyond single precision")
        return value


class NamedSection(Section):
    """A section whose ``name`` chooses the factory, and so the other keys."""

    factory: ClassVar[Factory]
    name: str = Field(description="Which one; 'metarl list' shows all. Or MODULE:FACTORY, your own.")


class OwnSection(NamedSection, extra="allow"):
    """A factory of the user's own, as an editor knows it: not its keys, which are read when it is imported."""

    name: str = Field(pattern=r"^[^:\s]+:[^:\s]+$", description="MODULE:FACTORY, your own.")


class Catalogue(NamedTuple):
    """The factories that a config can name, by section.

    Attributes:
      tasks: task families; keyword-only arguments become keys.
      policy: policies, called with the observation shape and the action.
      algorithm: algorithms, called with family, policy and, if they take one, ``optimizer``.
    """

    tasks: Mapping[str, Factory]
    policy: Mapping[str, Factory]
    algorithm: Mapping[str, Factory]


DEFAULT_NAMES = {"policy": "mlp"}
"""Sections whose ``name`` may be left out."""


def takes_optimizer(factory: Factory) -> bool:
    """Whether an algorithm's outer step is an optax optimiser of the user's choice.

    Returns:
      True if it has a positional parameter named ``optimizer``.

    Example:
      >>> takes_optimizer(lambda family, policy, optimizer, *, inner_lr=0.1: None)
      True
    """
    parameter = inspect.signature(factory).parameters.get("optimizer")
    return parameter is not None and parameter.kind is not inspect.Parameter.KEYWORD_ONLY


def accepts(factory: Factory, name: str) -> bool:
    """Whether a factory has a keyword-only argument of this name.

    Example:
      >>> from metarl_jax.algorithms import trpo_maml
      >>> accepts(trpo_maml, "inner_lr"), accepts(trpo_maml, "learning_rate")
      (True, False)
    """
    return name in keyword_arguments(factory)


def keyword_arguments(factory: Factory) -> dict[str, tuple[inspect.Parameter, Any, str]]:
    """The keyword-only arguments of a factory, those that it passes on included.

    Returns:
      ``(parameter, annotation, description)`` by name.

    Raises:
      TypeError: if one has no annotation, or it is not declared where a ``**`` passes its keywords on to.

    Example:
      >>> from metarl_jax.algorithms import trpo_maml
      >>> list(keyword_arguments(trpo_maml))[:3], "max_kl" in keyword_arguments(trpo_maml)
      (['inner_lr', 'num_inner_steps', 'episodes_per_task'], True)
    """
    name = getattr(factory, "__name__", "factory")
    if (undeclared := undeclared_keywords(factory)) is not None:
        raise TypeError(f"{name}: where does **{undeclared} go? Declare it: @passes_on(the factory that takes them)")
    keys: dict[str, tuple[inspect.Parameter, Any, str]] = {}
    for key, argument in arguments(factory).items():
        parameter, annotation, *_ = argument
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and key not in NOT_KEYS:
            if annotation is inspect.Parameter.empty:
                raise TypeError(f"{name}: argument {key!r} has no annotation, so a config cannot check it")
            keys[key] = (parameter, _written(annotation), _description(argument))
    return keys


def _description(argument: Argument) -> str:
    """Of an argument that only some of several factories take, with their names and defaults."""
    if not argument.takers:
        name = argument.parameter.name
        return argument_descriptions(argument.owner).get(name, name.replace("_", " "))
    alike: dict[str, list[str]] = {}
    for name, taker in argument.takers.items():
        alike.setdefault(_description(taker), []).append(f"{name}{_default(taker)}")
    return " ".join(f"Of {', '.join(names)}: {description}" for description, names in alike.items())


def _default(argument: Argument) -> str:
    default = argument.parameter.default
    if default is inspect.Parameter.empty:
        return " (required)"
    return "" if default is None else f" ({default} if null)"


def _written(annotation: Any) -> Any:
    """An annotation without the records among its alternatives, which are for Python only."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    return Union[tuple(part for part in get_args(annotation) if "record" not in schema_of(part))]  # noqa: UP007


def traceable_keys(factory: Factory) -> frozenset[str]:
    """The keys whose numbers may be traced: one program serves all their values.

    Returns:
      The keyword-only arguments that are marked :data:`metarl_jax.checks.Traced`.

    Example:
      >>> from metarl_jax.algorithms import trpo_maml
      >>> {"inner_lr", "max_kl"} <= traceable_keys(trpo_maml), "cg_steps" in traceable_keys(trpo_maml)
      (True, False)
    """
    return frozenset(key for key, (_, annotation, _) in keyword_arguments(factory).items() if is_traceable(annotation))


@cache
def section_model(section: str, name: str, factory: Factory) -> type[NamedSection]:
    """Derive the schema of a section from the keyword-only arguments of a factory.

    Types, ranges and defaults are the signature's, descriptions those of its docstring's ``Args``.

    Args:
      section: ``tasks``, ``policy`` or ``algorithm``.
      name: the factory's name in the catalogue.
      factory: the factory.

    Raises:
      TypeError: if a keyword-only argument has no annotation.

    Example:
      >>> from metarl_jax.tasks import navigation_finn
      >>> section_model("tasks", "navigation_finn", navigation_finn)(name="navigation_finn").horizon
      100
    """
    fields: dict[str, Any] = {}
    for key, (parameter, annotation, description) in keyword_arguments(factory).items():
        if section == "algorithm" and key in FROM_TRAINING:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[key] = (annotation, Field(default, description=without_marks(description)))
    for key, description in _SWITCHES.get(section, {}).items():
        fields[key] = (bool, Field(False, description=description))
    name_default: Any = name if DEFAULT_NAMES.get(section) == name else ...
    fields["name"] = (Literal[name], Field(name_default, description=NamedSection.model_fields["name"].description))
    fields["factory"] = (ClassVar[Factory], staticmethod(factory))
    title = f"{section.capitalize()}{''.join(part.capitalize() for part in name.split('_'))}"
    return create_model(title, __base__=NamedSection, __doc__=_summary(factory), **fields)


def _summary(factory: Factory) -> str:
    return without_marks((inspect.getdoc(factory) or "").partition("\n")[0])


def without_marks(text: str) -> str:
    """Text of a docstring as people read it, without reStructuredText's marks.

    Example:
      >>> without_marks("as :func:`metarl_jax.algorithms.maml` does, with ``inner_lr``")
      'as maml does, with inner_lr'
    """
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`|``([^`]+)``", r"\1\2", text)


def argument_descriptions(factory: Factory) -> dict[str, str]:
    """Read the ``Args`` part of a docstring.

    Args:
      factory: any documented function.

    Returns:
      One line per argument. A line that is indented deeper than the first argument goes on with the one above.

    Example:
      >>> argument_descriptions(argument_descriptions)
      {'factory': 'any documented function.'}
    """
    _, _, rest = (inspect.getdoc(factory) or "").partition("\nArgs:\n")
    lines = [line for line in rest.split("\n") if line.strip()]
    entries: list[list[str]] = []
    for line in itertools.takewhile(lambda line: line.startswith(" "), lines):
        if _indent(line) == _indent(lines[0]):
            entries.append([])
        entries[-1].append(line.strip())
    named = (" ".join(entry).partition(": ") for entry in entries)
    return {name.lstrip("*"): description for name, _, description in named}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def key_schemas(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """JSON schemas of a model's keys.

    Args:
      model: a section without nested sections.

    Example:
      >>> list(key_schemas(NamedSection))
      ['name']
    """
    return dict(_json_schema(model)["properties"])


@cache
def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()
