"""What a user reads when a configuration is wrong: one line per problem, all problems at once."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from metarl_jax.checks import Refusal

JsonSchema = Mapping[str, Any]
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

    Args:
      value: anything.

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


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that a mistyped word most likely meant, if any is close.

    Args:
      word: what was written.
      choices: what is allowed.

    Returns:
      One of ``choices``, or None.

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

    Returns:
      Text to append to a message.

    Example:
      >>> did_you_mean("sead", ["seed"])
      "; did you mean 'seed'?"
    """
    match = nearest(word, choices)
    return "" if match is None else f"; did you mean '{prefix}{match}'?"


def expected(schema: JsonSchema) -> str:
    """Say in words which values a JSON schema allows.

    Args:
      schema: the schema of one key, as pydantic makes it.

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
    if schema.get("type") == "array":
        return _expected_list(schema)
    nouns = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null"}
    noun = nouns.get(schema.get("type", ""), "text")
    limits = bounds(schema)
    return f"{noun} {'of ' if limits.startswith('at ') else ''}{limits}".strip()


def _expected_list(schema: JsonSchema) -> str:
    if "prefixItems" in schema:
        return "a list of " + ", ".join(expected(item) for item in schema["prefixItems"])
    item = expected(schema.get("items", {}))
    for article in ("a ", "an "):
        item = item.removeprefix(article)
    return "a list of " + item.replace("whole number", "whole numbers", 1).replace("number ", "numbers ", 1)


def bounds(schema: JsonSchema) -> str:
    """Say in words which range a JSON schema of a number or text allows.

    Args:
      schema: the schema of one key.

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


def value_problem(path: tuple[str, ...], kind: str, value: object, schema: JsonSchema) -> Problem:
    """Word one rejected value.

    Args:
      path: the key.
      kind: pydantic's type of error.
      value: the value of the whole key, also if only one item of a list is wrong.
      schema: what the key allows.

    Returns:
      The problem.

    Example:
      >>> value_problem(("seed",), "greater_than", -1, {"type": "integer", "exclusiveMinimum": 0}).message
      'must be greater than 0 (got -1)'
    """
    relevant = _relevant(schema, value)
    phrase = expected(relevant)
    if kind.startswith(("greater_than", "less_than")) and relevant.get("type") in ("integer", "number"):
        phrase = bounds(relevant)
    elif kind == "finite_number":
        phrase = phrase.replace("a number", "a finite number", 1)
    return Problem(path, f"must be {phrase} (got {show(value)})")


def _relevant(schema: JsonSchema, value: object) -> JsonSchema:
    """Of several allowed forms, those that the user can have meant: one number, or a list."""
    is_list = isinstance(value, list | tuple)
    if "anyOf" not in schema or not (is_list or type(value) in (int, float)):
        return schema
    options = [option for option in schema["anyOf"] if (option.get("type") == "array") == is_list]
    return {"anyOf": options} if len(options) > 1 else (options or [schema])[0]


def render(problems: Sequence[Problem], source: str | None, overridden: Sequence[tuple[str, ...]]) -> ConfigError:
    """Make the error of all problems, each with where it comes from.

    Args:
      problems: at least one.
      source: the file, or None.
      overridden: paths that the command line set.

    Returns:
      The error to raise.

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
