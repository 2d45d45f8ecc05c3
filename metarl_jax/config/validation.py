"""Which model a tree of values must fit, and what is wrong where it does not."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Union

from pydantic import BaseModel, Field, ValidationError, create_model

from metarl_jax.checks import did_you_mean
from metarl_jax.config.errors import Problem, show, value_problem
from metarl_jax.config.schema import (
    DEFAULT_NAMES,
    Catalogue,
    Factory,
    Section,
    key_schemas,
    section_model,
    takes_optimizer,
)
from metarl_jax.config.sections import Config, OptimizerConfig

Tree = dict[str, Any]
NOUNS = {"tasks": "task family", "policy": "policy", "algorithm": "algorithm"}
SECTIONS = tuple(key for key in Config.model_fields if key != "seed")


def check_sections(values: Tree) -> tuple[Tree, list[Problem]]:
    """Let an empty section mean its defaults, and refuse one that is not a mapping.

    Args:
      values: the tree; not modified.

    Returns:
      The tree with a mapping for each section that is present, and the problems.

    Example:
      >>> check_sections({"seed": 0, "training": None})
      ({'seed': 0, 'training': {}}, [])
    """
    problems = [
        Problem((key,), f"must be a section of indented 'key: value' lines (got {show(values[key])})")
        for key in SECTIONS
        if values.get(key) is not None and not isinstance(values[key], Mapping)
    ]
    wrong = {problem.path[0] for problem in problems}
    kept = {key: value for key, value in values.items() if key not in wrong}
    return {key: {} if value is None and key in SECTIONS else value for key, value in kept.items()}, problems


def choose_factory(section: str, values: Tree, factories: Mapping[str, Factory]) -> tuple[str, Problem | None]:
    """Find the factory that a section names.

    Args:
      section: ``tasks``, ``policy`` or ``algorithm``.
      values: the tree.
      factories: by name.

    Returns:
      The name, or ``""`` and the problem.

    Example:
      >>> choose_factory("algorithm", {"algorithm": {"name": "mamal"}}, {"maml": print})[1].message
      "no such algorithm (got 'mamal'); did you mean 'maml'? Choose one of: maml"
    """
    given = values.get(section, {})
    name = given.get("name", DEFAULT_NAMES.get(section))
    choices = "one of: " + ", ".join(sorted(factories))
    if isinstance(name, str) and name in factories:
        return name, None
    if "name" not in given:
        return "", Problem((section, "name"), f"is required; choose {choices}")
    if not isinstance(name, str):
        return "", Problem((section, "name"), f"must be {choices} (got {show(name)})")
    suggestion = did_you_mean(name, factories) or ";"
    choose = f"{'Choose' if suggestion.endswith('?') else 'choose'} {choices}"
    return "", Problem((section, "name"), f"no such {NOUNS[section]} (got {show(name)}){suggestion} {choose}")


def check_optimizer(values: Tree, name: str, factory: Factory) -> tuple[Tree, list[Problem]]:
    """Refuse an optimiser that the algorithm would ignore; drop an empty section of one.

    Args:
      values: the tree; not modified.
      name: the algorithm's name.
      factory: the algorithm.

    Returns:
      The tree without an ``optimizer`` that is of no use, and the problems.

    Example:
      >>> check_optimizer({"optimizer": {}}, "trpo_maml", lambda family, policy: None)
      ({}, [])
    """
    if takes_optimizer(factory) or "optimizer" not in values:
        return values, []
    rest = {key: value for key, value in values.items() if key != "optimizer"}
    if not values["optimizer"]:
        return rest, []
    why = f"{name} takes no optimizer: its outer step is its own, set by the keys of 'algorithm'; remove this section"
    return rest, [Problem(("optimizer",), f"{why} (got {show(values['optimizer'])})")]


@cache
def config_model(tasks: type[Any], policy: type[Any], algorithm: type[Any], has_optimizer: bool) -> type[Config]:
    """The model of one experiment. Cached, so that equal configs are of one type and compare equal.

    Args:
      tasks: model of the section.
      policy: model of the section.
      algorithm: model of the section.
      has_optimizer: whether the algorithm takes one.

    Returns:
      A subclass of ``Config``.

    Example:
      >>> config_model(Section, Section, Section, has_optimizer=False).__name__
      'Config'
    """
    optimizer: Any = (OptimizerConfig, Field(OptimizerConfig())) if has_optimizer else (None, Field(None))
    fields: dict[str, Any] = {"tasks": tasks, "policy": policy, "algorithm": algorithm}
    described: dict[str, Any] = {
        key: (kind, Field(description=Config.model_fields[key].description)) for key, kind in fields.items()
    }
    return create_model("Config", __base__=Config, __doc__=Config.__doc__, optimizer=optimizer, **described)


def union_model(catalogue: Catalogue) -> type[Config]:
    """The model that any experiment fits, for documentation and editors.

    Args:
      catalogue: the factories.

    Returns:
      A subclass of ``Config`` whose named sections are unions told apart by ``name``.

    Example:
      >>> union_model(Catalogue(*({"x": lambda: None} for _ in range(3)))).__name__
      'Config'
    """

    def union(section: str) -> Any:
        models = tuple(section_model(section, name, f) for name, f in getattr(catalogue, section).items())
        return Annotated[Union[models], Field(discriminator="name")] if len(models) > 1 else models[0]  # noqa: UP007

    sections: dict[str, Any] = {key: (union(key), Field(description=NOUNS[key])) for key in Catalogue._fields}
    sections["policy"] = (sections["policy"][0], Field({"name": DEFAULT_NAMES["policy"]}, description="The policy."))
    return create_model("Config", __base__=Config, __doc__=Config.__doc__, **sections)


def translate(error: ValidationError, values: Tree, model: type[Config], catalogue: Catalogue) -> Iterator[Problem]:
    """Word pydantic's complaints, one per key.

    Args:
      error: what pydantic raised.
      values: what it validated.
      model: the model that did not fit.
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
        else:
            yield _wrong_value(path, values, model, keys)


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
    owner = ""
    if section in Catalogue._fields:
        owner = f" of {NOUNS[section]} '{values[section]['name']}'"
    # An exact match somewhere else says more than a similar name here.
    hint = _in_siblings(section, key, catalogue) or _elsewhere(key, keys) or did_you_mean(key, valid) or ";"
    listing = f"{'V' if hint.endswith('?') else 'v'}alid keys: {', '.join(valid) or 'none'}"
    return Problem(path, f"unknown key{owner}{hint} {listing}")


def _elsewhere(key: str, keys: dict[str, dict[str, Any]]) -> str:
    paths = [f"{section}.{key}" for section, schemas in keys.items() if key in schemas and key != "name"]
    return f"; did you mean '{paths[0]}'?" if paths else ""


def _in_siblings(section: str, key: str, catalogue: Catalogue) -> str:
    if section not in Catalogue._fields:
        return ""
    factories: Mapping[str, Factory] = getattr(catalogue, section)
    owners = [name for name, factory in factories.items() if key in key_schemas(section_model(section, name, factory))]
    return f" (it is a key of {', '.join(owners)});" if owners else ""
