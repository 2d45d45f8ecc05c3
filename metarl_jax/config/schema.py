"""Schemas from signatures: a new algorithm or task family is one file, with no schema to write beside it."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from metarl_jax.algorithms.maml import maml
from metarl_jax.inner import make_inner_loop
from metarl_jax.tasks.locomotion import locomotion_family

Factory = Callable[..., Any]

FROM_TRAINING = frozenset({"episodes_per_task"})
"""Keyword arguments of algorithms that the ``training`` section holds: all algorithms share them."""

PASSED_ON: dict[str, Factory] = {"inner": make_inner_loop, "maml_settings": maml, "locomotion": locomotion_family}
"""Whose keyword arguments a factory takes as ``**inner``, ``**maml_settings``, ..., besides those it lists itself."""

ANY_FAMILY = {
    "oracle": "Show the policy its task: an upper bound.",
    "disjoint": "Hold out a fifth of the cells of the space of tasks, instead of taking further draws from all of it.",
}
"""Switches that every family of tasks has, beside its factory's own keys."""

NOT_KEYS = frozenset({"rule"})
"""Arguments that are functions, for notebooks only."""


class Section(BaseModel):
    """One section of a config: frozen, no unknown keys, no silent conversions, no infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)


class NamedSection(Section):
    """A section whose ``name`` chooses the factory, and so the other keys."""

    factory: ClassVar[Factory]
    name: str = Field(description="Which one; 'metarl list' shows all. Or MODULE:FACTORY, your own.")


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

    Args:
      factory: an algorithm's factory.

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

    Args:
      factory: any factory of the catalogue.
      name: the argument.

    Returns:
      True if it has.

    Example:
      >>> from metarl_jax.algorithms import trpo_maml
      >>> accepts(trpo_maml, "inner_lr"), accepts(trpo_maml, "learning_rate")
      (True, False)
    """
    return name in keyword_arguments(factory)


def keyword_arguments(factory: Factory) -> dict[str, tuple[inspect.Parameter, Any, str]]:
    """The keyword-only arguments of a factory, those that it passes on included.

    Args:
      factory: any factory of the catalogue.

    Returns:
      ``(parameter, annotation, description)`` by name.

    Raises:
      TypeError: if one has no annotation.

    Example:
      >>> from metarl_jax.algorithms import trpo_maml
      >>> list(keyword_arguments(trpo_maml))[:3], "max_kl" in keyword_arguments(trpo_maml)
      (['inner_lr', 'num_inner_steps', 'episodes_per_task'], True)
    """
    hints, descriptions = get_type_hints(factory, include_extras=True), argument_descriptions(factory)
    arguments: dict[str, tuple[inspect.Parameter, Any, str]] = {}
    for key, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and key in PASSED_ON:
            arguments = {**keyword_arguments(PASSED_ON[key]), **arguments}
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY and key not in NOT_KEYS:
            if key not in hints:
                name = getattr(factory, "__name__", "factory")
                raise TypeError(f"{name}: argument {key!r} has no annotation, so a config cannot check it")
            arguments[key] = (parameter, hints[key], descriptions.get(key, key.replace("_", " ")))
    return arguments


@cache
def section_model(section: str, name: str, factory: Factory) -> type[NamedSection]:
    """Derive the schema of a section from the keyword-only arguments of a factory.

    Types, ranges and defaults are the signature's, descriptions those of its docstring's ``Args``.

    Args:
      section: ``tasks``, ``policy`` or ``algorithm``.
      name: the factory's name in the catalogue.
      factory: the factory.

    Returns:
      A pydantic model.

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
        fields[key] = (annotation, Field(default, description=description))
    if section == "tasks":
        fields |= {key: (bool, Field(False, description=description)) for key, description in ANY_FAMILY.items()}
    name_default: Any = name if DEFAULT_NAMES.get(section) == name else ...
    fields["name"] = (Literal[name], Field(name_default, description=NamedSection.model_fields["name"].description))
    fields["factory"] = (ClassVar[Factory], staticmethod(factory))
    title = f"{section.capitalize()}{''.join(part.capitalize() for part in name.split('_'))}"
    return create_model(title, __base__=NamedSection, __doc__=_summary(factory), **fields)


def _summary(factory: Factory) -> str:
    return (inspect.getdoc(factory) or "").partition("\n")[0]


def argument_descriptions(factory: Factory) -> dict[str, str]:
    """Read the ``Args`` part of a docstring.

    Args:
      factory: any documented function.

    Returns:
      One line per argument.

    Example:
      >>> argument_descriptions(argument_descriptions)
      {'factory': 'any documented function.'}
    """
    _, _, rest = (inspect.getdoc(factory) or "").partition("\nArgs:\n")
    descriptions: dict[str, str] = {}
    current = ""
    for line in rest.split("\n"):
        if line and not line.startswith(" "):
            break
        entry = re.match(r" {2,4}(\w+): (.*)", line)
        if entry:
            current = entry[1]
            descriptions[current] = entry[2].strip()
        elif current and line.strip():
            descriptions[current] += " " + line.strip()
    return descriptions


def key_schemas(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """JSON schemas of a model's keys.

    Args:
      model: a section without nested sections.

    Returns:
      Schemas by key, in order.

    Example:
      >>> list(key_schemas(NamedSection))
      ['name']
    """
    return dict(_json_schema(model)["properties"])


@cache
def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()
