"""What a user reads when a configuration is wrong: one line per problem, all problems at once."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from metarl_jax.checks import Refusal, Schema, allowed

_MAX_SHOWN = 80


class ConfigError(Refusal):
    """A configuration cannot be used. ``str(error)`` is complete and meant for the user.

    Attributes:
      problems: the lines of the message, one per problem.

    Example:
      >>> str(ConfigError("seed: must be a whole number (got 'x')"))
      "seed: must be a whole number (got 'x')"
    """

    def __init__(self, *problems: str) -> None:
        """Take one line per problem."""
        super().__init__("", None, "\n".join(problems))
        self.problems = problems


class Problem(NamedTuple):
    """One thing that is wrong.

    Attributes:
      path: where, e.g. ``("algorithm", "inner_lr")``; empty for the whole file.
      message: what is wrong, what is allowed, and what was found.
    """

    path: tuple[str, ...]
    message: str


def show(value: object) -> str:
    """A value as the user wrote it, roughly, and short.

    Returns:
      One line of at most about 80 characters.

    Example:
      >>> show((True, None, "x"))
      "[true, null, 'x']"
    """
    text = _yaml_like(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def _yaml_like(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_yaml_like(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml_like(item)}" for key, item in value.items()) + "}"
    try:
        return repr(value)
    except ValueError:  # Python refuses to print integers of more than 4300 digits
        return "a very large number"


def value_problem(path: tuple[str, ...], value: object, schema: Schema) -> Problem:
    """Word one rejected value.

    Args:
      path: the key.
      value: the value of the whole key, also if only one item of a list is wrong.
      schema: what the key allows.

    Example:
      >>> value_problem(("seed",), -1, {"type": "integer", "exclusiveMinimum": 0}).message
      'must be greater than 0 (got -1)'
    """
    return Problem(path, f"must be {allowed(schema, value)} (got {show(value)})")


def render(problems: Sequence[Problem], source: str | None, overridden: Sequence[tuple[str, ...]]) -> ConfigError:
    """Make the error of all problems, each with where it comes from.

    Args:
      problems: at least one.
      source: the file, or None.
      overridden: paths that the command line set.

    Example:
      >>> str(render([Problem(("seed",), "is required")], "a.yaml", []))
      'a.yaml: seed: is required'
    """

    def line(problem: Problem) -> str:
        touched = any(_touches(problem.path, path) for path in overridden)
        origin = "command line" if touched else source
        return ": ".join(part for part in (origin, ".".join(problem.path), problem.message) if part)

    return ConfigError(*dict.fromkeys(map(line, problems)))


def _touches(path: tuple[str, ...], override: tuple[str, ...]) -> bool:
    return bool(path) and path[: len(override)] == override
