"""The reference: pages made of signatures, schemas and docstrings, as Markdown."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer.main

from _ext.markup import code, prose, table
from metarl_jax.checks import expected
from metarl_jax.cli import app
from metarl_jax.config import DEFAULT_CATALOGUE, Config
from metarl_jax.config.errors import show
from metarl_jax.config.schema import key_schemas, section_model, traceable_keys, without_marks
from metarl_jax.config.traced import traceable
from metarl_jax.tracking import TRACKERS

Schemas = Mapping[str, Mapping[str, Any]]

_MODULES = {"tasks": "metarl_jax.tasks", "policy": "metarl_jax.networks", "algorithm": "metarl_jax.algorithms"}
"""Where the factories of a section are imported from."""


def section_keys(section: str) -> str:
    """The keys of a section that is the same whatever the others name, such as ``training``."""
    field = Config.model_fields[section]
    model = next(kind for kind in (field.annotation, *getattr(field.annotation, "__args__", ())) if _is_section(kind))
    return _keys(key_schemas(model), traceable(model()))


def _is_section(kind: Any) -> bool:
    return hasattr(kind, "model_fields")


def factories(section: str) -> str:
    """Everything that a section can name: a heading for each, what it is, and its keys."""
    named: Mapping[str, Any] = {**DEFAULT_CATALOGUE._asdict(), "trackers": TRACKERS}[section]
    return "\n\n".join(_factory(section, name, factory) for name, factory in named.items())


def _factory(section: str, name: str, factory: Callable[..., Any]) -> str:
    schemas = key_schemas(section_model(section, name, factory))
    del schemas["name"]
    first = without_marks((inspect.getdoc(factory) or "").partition("\n\n")[0])
    keys = _keys(schemas, traceable_keys(factory)) if schemas else "It has no keys."
    python = f" In Python: {{py:func}}`~{_MODULES[section]}.{factory.__name__}`." if section in _MODULES else ""
    return f"## {name}\n\n{prose(first)}{python}\n\n{keys}"


def _keys(schemas: Schemas, traced: frozenset[str]) -> str:
    def row(name: str, schema: Mapping[str, Any]) -> list[str]:
        default = code(show(schema["default"])) if "default" in schema else "required"
        marks = " (traceable)" if name in traced else ""
        return [code(name), prose(expected(schema)) + marks, default, prose(schema.get("description", ""))]

    return _entries(table(["key", "value", "default", "what it is"], [row(*item) for item in schemas.items()]))


def _entries(rows: str) -> str:
    """A table whose cells the style sheet stacks where there is no room for them beside each other."""
    return f":::{{container}} entries\n{rows}\n:::"


def commands() -> str:
    """Every command of ``metarl``, with its arguments and options."""
    group = typer.main.get_group(app)
    return "\n\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=f"metarl {name}")
    usage = f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```"
    records = [record for parameter in command.params if (record := parameter.get_help_record(context))]
    options = _entries(table(["argument", "what it is"], [[code(given), prose(text)] for given, text in records]))
    return "\n\n".join([f"## metarl {name}", prose(command.help or ""), usage, options, prose(command.epilog or "")])


def public_names(module: str) -> str:
    """What a module lists in ``__all__``, or else what it defines, documented from the docstrings."""
    return "\n\n".join(_autodoc(name, value) for name, value in _documented(module))


def _documented(module: str) -> Iterator[tuple[str, Any]]:
    """Functions and classes, by the name that they are imported by."""
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", vars(loaded)):
        value = getattr(loaded, name)
        is_here = hasattr(loaded, "__all__") or getattr(value, "__module__", None) == module
        if not name.startswith("_") and is_here and (inspect.isfunction(value) or inspect.isclass(value)):
            yield f"{module}.{name}", value


def _autodoc(name: str, value: Any) -> str:
    kind = "autoclass" if inspect.isclass(value) else "autofunction"
    has_methods = inspect.isclass(value) and not issubclass(value, tuple)
    members = "\n   :members:" if has_methods else ""
    return f"```{{eval-rst}}\n.. {kind}:: {name}{members}\n```"
