"""Overrides from the command line: ``key.path=value``. Knows nothing of what the keys mean."""

from collections.abc import Mapping, Sequence
from typing import Any

from metarl_jax.config.errors import ConfigError, show
from metarl_jax.config.source import normalise, parse_yaml


def apply_overrides(tree: Mapping[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Set values by ``key.path=value``; the value is YAML. Whether a key exists is for validation to say.

    Args:
      tree: as parsed; not modified.
      overrides: later ones win.

    Returns:
      The new tree, and the paths that were set or, where they lead into a new section, that section's.

    Raises:
      ConfigError: if an override is malformed; all that are are named.

    Example:
      >>> apply_overrides({"seed": 0}, ["seed=3", "algorithm.name=maml"])[0]
      {'seed': 3, 'algorithm': {'name': 'maml'}}
    """
    result: dict[str, Any] = dict(tree)
    paths: list[tuple[str, ...]] = []
    problems: list[str] = []
    for override in overrides:
        try:
            path, value = _parse_override(override)
            paths.append(_first_new(result, path))
            result = with_value(result, path, value)
        except ConfigError as error:
            problems.extend(f"command line: {problem}" for problem in error.problems)
    if problems:
        raise ConfigError(*problems)
    return result, paths


def _parse_override(override: str) -> tuple[tuple[str, ...], Any]:
    key, equals, text = override.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    remedy = "write key.path=value, e.g. algorithm.inner_lr=0.05"
    if not equals:
        raise ConfigError(f"{override!r}: has no '='; {remedy}")
    if not all(path):
        raise ConfigError(f"{override!r}: has an empty key; {remedy}")
    if not text.strip():
        raise ConfigError(f"{override!r}: has no value; {remedy}, or null for none")
    return path, parse_yaml(text, ".".join(path))


def as_override(key: str, value: Any) -> str:
    """A value for the command line, as :func:`apply_overrides` reads it.

    Example:
      >>> as_override("algorithm.name", "maml"), as_override("tasks.name", "1e3")
      ('algorithm.name=maml', "tasks.name='1e3'")
    """
    return f"{key}={value if isinstance(value, str) and _reads_as_itself(value) else show(value)}"


def _reads_as_itself(text: str) -> bool:
    try:
        return normalise({"": parse_yaml(text, "")})[0][""] == text != ""
    except ConfigError:
        return False


def _first_new(tree: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    for depth, key in enumerate(path, start=1):
        if not isinstance(tree, Mapping) or key not in tree:
            return path[:depth]
        tree = tree[key]
    return path


def with_value(tree: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A tree in which one value is set.

    Args:
      tree: sections by name; not modified.
      path: of the key; sections that are not there are made.
      value: plain.

    Raises:
      ConfigError: if a value is in the way of a section.

    Example:
      >>> with_value({"seed": 0}, ("algorithm", "name"), "maml")
      {'seed': 0, 'algorithm': {'name': 'maml'}}
    """
    sections: list[Mapping[str, Any]] = [tree]
    for depth, head in enumerate(path[:-1], start=1):
        below = sections[-1].get(head)
        if below is not None and not isinstance(below, Mapping):
            parent = ".".join(path[:depth])
            raise ConfigError(f"{'.'.join(path)}: '{parent}' is a value ({show(below)}), not a section")
        sections.append(below or {})
    for head, section in zip(reversed(path), reversed(sections), strict=True):
        value = {**section, head: value}
    result: dict[str, Any] = value
    return result
