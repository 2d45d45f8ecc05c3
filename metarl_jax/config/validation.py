"""Which model a tree of values must fit, and what is wrong where it does not."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Union, get_type_hints

from pydantic import BaseModel, BeforeValidator, Field, PydanticUserError, ValidationError, create_model

from metarl_jax.checks import did_you_mean
from metarl_jax.config.components import find_component, is_component
from metarl_jax.config.errors import ConfigError, Problem, show, value_problem
from metarl_jax.config.schema import (
    DEFAULT_NAMES,
    Catalogue,
    Factory,
    NamedSection,
    OwnSection,
    Section,
    accepts,
    key_schemas,
    section_model,
    takes_optimizer,
    without_marks,
)
from metarl_jax.config.sections import Config, LoggingConfig, OptimizerConfig
from metarl_jax.config.source import name_today
from metarl_jax.tracking.base import Tracker

Tree = dict[str, Any]
NOUNS = {"tasks": "task family", "policy": "policy", "algorithm": "algorithm", "trackers": "tracker"}
POSITIONAL = {
    "tasks": (),
    "policy": ("observation_shape", "action"),
    "algorithm": ("family", "policy"),
    "trackers": (),
}
"""What a section's factories take before their keyword-only arguments; an algorithm's also an ``optimizer``."""
_NEEDED = {
    "training": {"initial_checkpoint": "initial_run", "initial_params": "initial_run"},
    "evaluation": {"validation_tasks": "every", "patience": "validation_tasks", "min_improvement": "patience"},
}
"""By section: keys that need another one."""
SECTIONS = tuple(key for key in Config.model_fields if key != "seed")


def choose_model(
    section: str, given: object, factories: Mapping[str, Factory], folders: Sequence[Path] = ()
) -> type[NamedSection] | Problem:
    """Find the factory that a section names, one of ours or the user's own as ``module:factory``, and so its keys.

    Args:
      section: ``tasks``, ``policy`` or ``algorithm``.
      given: what the tree has there; None is an empty section.
      factories: ours, by name.
      folders: where the user's modules may lie, besides among what is installed.

    Returns:
      The model of the section, or what is wrong with its name.

    Example:
      >>> choose_model("algorithm", {"name": "mamal"}, {"maml": print}).message
      "no such algorithm (got 'mamal'); did you mean 'maml'? Choose one of: maml"
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        return _no_section(section, given)
    name = given.get("name", DEFAULT_NAMES.get(section))
    if is_component(name):
        try:
            factory = find_component(name, folders)
            check_signature(section, name, factory)
        except ConfigError as error:
            return Problem((section, "name"), str(error))
        return section_model(section, name, factory)
    if isinstance(name, str) and name in factories:
        return section_model(section, name, factories[name])
    return Problem((section, "name"), _no_such_name(section, given, factories))


def _no_section(section: str, given: object) -> Problem:
    return Problem((section,), f"must be a section of indented 'key: value' lines (got {show(given)})")


def _no_such_name(section: str, given: Mapping[str, Any], factories: Mapping[str, Factory]) -> str:
    name, choices = given.get("name"), "one of: " + ", ".join(sorted(factories))
    if "name" not in given:
        return f"is required; choose {choices}"
    if not isinstance(name, str):
        return f"must be {choices} (got {show(name)})"
    suggestion = did_you_mean(name, factories) or ";"
    choose = f"{'Choose' if suggestion.endswith('?') else 'choose'} {choices}"
    return f"no such {NOUNS[section]} (got {show(name)}){suggestion} {choose}"


def check_signature(section: str, name: str, factory: Factory) -> None:
    """Refuse a user's factory that a config could not call.

    Args:
      section: ``tasks``, ``policy`` or ``algorithm``.
      name: the factory's name in the config.
      factory: the factory.

    Raises:
      ConfigError: if it takes other positional arguments than ours do, or has keys that a config cannot check.

    Example:
      >>> check_signature("tasks", "my_tasks:rail", lambda masses: None)  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ...
      metarl_jax.config.errors.ConfigError: my_tasks:rail must take nothing before its keyword-only arguments (got ...
    """
    _check_is_called_for(name, factory, [section])
    try:
        section_model(section, name, factory).model_rebuild()  # a name that is not defined shows now, not in a run
        if section == "algorithm" and not accepts(factory, "episodes_per_task"):
            raise ConfigError(f"{name} must take the keyword-only argument episodes_per_task (from 'training')")
    except (TypeError, NameError, PydanticUserError) as error:
        raise ConfigError(f"{name}: {str(error).removeprefix(f'{factory.__name__}: ').splitlines()[0]}") from None


def _check_is_called_for(name: str, factory: Factory, sections: Sequence[str]) -> list[str]:
    """Those of the sections that call their factories with the positional arguments of this one."""
    if not inspect.isfunction(inspect.unwrap(factory)):
        made = _one_of([NOUNS[section] for section in sections])
        raise ConfigError(f"{name} is a {type(factory).__name__}: name a function that makes the {made}")
    positional = [
        parameter.name
        for parameter in inspect.signature(factory).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    taken = dict.fromkeys(sections, positional)
    if positional[-1:] == ["optimizer"]:
        taken["algorithm"] = positional[:-1]
    fitting = [section for section in sections if len(taken[section]) == len(POSITIONAL[section])]
    if not fitting:
        expected = _one_of([", ".join(POSITIONAL[section]) or "nothing" for section in sections])
        raise ConfigError(
            f"{name} must take {expected} before its keyword-only arguments (got "
            f"{', '.join(positional) or 'nothing'}): put a '*' before the arguments that are keys of a config"
        )
    return fitting


def _one_of(names: Sequence[str]) -> str:
    *others, last = names
    return f"{'; '.join(others)}; or {last}" if others else last


def section_of(name: str, factory: Factory) -> str:
    """The section that a user's factory is for.

    Returns:
      ``trackers`` if it says that it returns one; else ``tasks``, ``algorithm`` or ``policy``: the first of these that
      could call it.

    Raises:
      ConfigError: if none could.

    Example:
      >>> from metarl_jax.algorithms import maml
      >>> section_of("my_methods:maml", maml)
      'algorithm'
    """
    if get_type_hints(inspect.unwrap(factory)).get("return") is Tracker:
        check_signature("trackers", name, factory)
        return "trackers"
    *others, last = _check_is_called_for(name, factory, ("tasks", "algorithm", "policy"))
    for section in others:
        with suppress(ConfigError):  # a policy need not lack what an algorithm has
            check_signature(section, name, factory)
            return section
    check_signature(last, name, factory)
    return last


@cache
def config_model(tasks: type[Any], policy: type[Any], algorithm: type[Any]) -> type[Config]:
    """The model of one experiment. Cached, so that equal configs are of one type and compare equal.

    Args:
      tasks: model of the section; ``object`` accepts whatever is there.
      policy: model of the section.
      algorithm: model of the section, which tells whether there is an ``optimizer``.

    Example:
      >>> config_model(NamedSection, NamedSection, object).__name__
      'Config'
    """
    optimizer: Any = (OptimizerConfig, Field(OptimizerConfig()))
    if issubclass(algorithm, NamedSection) and not takes_optimizer(algorithm.factory):
        optimizer = (Annotated[None, BeforeValidator(lambda given: None if given == {} else given)], Field(None))
    fields: dict[str, Any] = {"tasks": tasks, "policy": policy, "algorithm": algorithm}
    described: dict[str, Any] = {
        key: (kind, Field({}, description=Config.model_fields[key].description)) for key, kind in fields.items()
    }
    return create_model("Config", __base__=Config, __doc__=Config.__doc__, optimizer=optimizer, **described)


def union_model(catalogue: Catalogue, trackers: Mapping[str, Factory]) -> type[Config]:
    """The model that any experiment fits, for documentation and editors.

    Args:
      catalogue: the factories of the sections.
      trackers: those of the trackers.

    Returns:
      A subclass of ``Config`` whose named sections are unions told apart by ``name``; of a factory of the user's own,
      any keys fit.

    Example:
      >>> union_model(Catalogue(*({"x": lambda: None} for _ in range(3))), {"y": lambda: None}).__name__
      'Config'
    """

    def union(section: str, factories: Mapping[str, Factory]) -> Any:
        models = tuple(section_model(section, name, factory) for name, factory in factories.items())
        ours = Annotated[Union[models], Field(discriminator="name")] if len(models) > 1 else models[0]  # noqa: UP007
        return ours | OwnSection

    sections: dict[str, Any] = {
        key: (union(key, factories), Field(description=NOUNS[key])) for key, factories in catalogue._asdict().items()
    }
    sections["policy"] = (sections["policy"][0], Field({"name": DEFAULT_NAMES["policy"]}, description="The policy."))
    listed: Any = GenericAlias(tuple, (Annotated[str, Field(min_length=1)] | union("trackers", trackers), ...))
    field = LoggingConfig.model_fields["trackers"]
    logging: Any = create_model(
        "LoggingConfig",
        __base__=LoggingConfig,
        __doc__=LoggingConfig.__doc__,
        trackers=(listed, Field((), description=field.description)),
    )
    sections["logging"] = (logging, Field({}, description=Config.model_fields["logging"].description))
    return create_model("Config", __base__=Config, __doc__=without_marks(Config.__doc__ or ""), **sections)


def translate(error: ValidationError, values: Tree, model: type[BaseModel], catalogue: Catalogue) -> Iterator[Problem]:
    """Word pydantic's complaints, one per key.

    Args:
      error: what pydantic raised.
      values: what it validated.
      model: the model that did not fit: of an experiment, or of one section.
      catalogue: the factories, to say whose key a misplaced one is.

    Yields:
      Problems.
    """
    sections = {key: field.annotation for key, field in model.model_fields.items()}
    keys: dict[str, dict[str, Any]] = {
        key: key_schemas(kind) if isinstance(kind, type) and issubclass(kind, Section) else {}
        for key, kind in sections.items()
    }
    for path, kind in _worst_by_path(error).items():
        if kind == "extra_forbidden":
            yield _unknown_key(path, values, keys, catalogue)
        elif kind == "missing":
            yield Problem(path, "is required")
        elif kind == "none_required":
            yield _useless_optimizer(path, values)
        elif kind == "model_type":
            yield _no_section(path[0], values[path[0]])
        else:
            yield _wrong_value(path, values, model, keys)


def contradictions(config: Config) -> Iterator[Problem]:
    """What is wrong although each value is of the right kind: keys that say nothing without another."""
    for section, dependent in _NEEDED.items():
        given = getattr(config, section)
        for key, needed in dependent.items():
            value = getattr(given, key)
            if value != type(given).model_fields[key].default and getattr(given, needed) is None:
                yield Problem((section, key), f"needs {section}.{needed} (got {show(value)}); give it, too")


def _useless_optimizer(path: tuple[str, ...], values: Tree) -> Problem:
    why = f"{values['algorithm']['name']} takes no optimizer: its outer step is its own, set by the keys of 'algorithm'"
    return Problem(path, f"{why}; remove this section (got {show(values['optimizer'])})")


def _worst_by_path(error: ValidationError) -> dict[tuple[str, ...], str]:
    """One kind of error per key: of a value that fits no alternative, the one that says most."""
    kinds: dict[tuple[str, ...], str] = {}
    for item in error.errors(include_url=False):
        path = tuple(str(part) for part in item["loc"][: 2 if item["loc"][0] in SECTIONS else 1])
        if path not in kinds or kinds[path].endswith("_type"):
            kinds[path] = item["type"]
    return kinds


def _wrong_value(
    path: tuple[str, ...], values: Tree, model: type[BaseModel], keys: dict[str, dict[str, Any]]
) -> Problem:
    value: Any = values
    for part in path:
        value = value[part]
    schema = keys[path[0]][path[1]] if len(path) == 2 else model.model_json_schema()["properties"][path[0]]
    return value_problem(path, value, schema)


def _unknown_key(path: tuple[str, ...], values: Tree, keys: dict[str, dict[str, Any]], catalogue: Catalogue) -> Problem:
    key, section = path[-1], path[0] if len(path) == 2 else ""
    valid = [name for name in (keys[section] if section else keys) if name != "name"]
    owner, named, hint = "", ["name"] if section in Catalogue._fields else [], ""
    if named:
        name = values[section].get("name", DEFAULT_NAMES.get(section))
        owner, hint = f" of {NOUNS[section]} '{name}'", _today(section, name, key)
    # An exact match somewhere else says more than a similar name here.
    hint = hint or _in_siblings(section, key, catalogue) or _elsewhere(key, keys)
    hint = hint or did_you_mean(key, [*valid, *named]) or ";"
    listing = f"{'V' if hint.endswith('?') else 'v'}alid keys: {', '.join(valid) or 'none'}"
    return Problem(path, f"unknown key{owner}{hint} {listing}")


def _today(section: str, name: str, key: str) -> str:
    today = name_today(section, name, key)
    return f"; it is called {section}.{today} now;" if today else ""


def _elsewhere(key: str, keys: dict[str, dict[str, Any]]) -> str:
    paths = [f"{section}.{key}" for section, schemas in keys.items() if key in schemas and key != "name"]
    return f"; did you mean '{paths[0]}'?" if paths else ""


def _in_siblings(section: str, key: str, catalogue: Catalogue) -> str:
    if section not in Catalogue._fields:
        return ""
    factories: Mapping[str, Factory] = getattr(catalogue, section)
    owners = [name for name, factory in factories.items() if key in key_schemas(section_model(section, name, factory))]
    return f" (it is a key of {', '.join(owners)});" if owners else ""
