"""From bytes on disk to one tree of plain values. Knows nothing of what the keys mean."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from metarl_jax.checks import Refusal, nearest, require
from metarl_jax.config.errors import ConfigError, Problem, show

_PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = next((folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()), _PACKAGE)
"""The configs that come with the package: in a wheel inside it, in the repository beside it."""


def _heads(hypernetwork: object) -> str:
    remedy = (
        "the parameters of this run's hypernetwork are laid out otherwise than today's. Use the version of metarl_jax "
        "that trained it: provenance.jsonl beside this file names its commit. Or train anew with policy.heads=generated"
    )
    require(not hypernetwork, "policy.hypernetwork", hypernetwork, remedy)
    return "plain"


_RENAMED: dict[tuple[str, str], dict[str, tuple[str, Callable[[Any], Any]]]] = {
    ("policy", "recurrent"): {"cell": ("memory", lambda name: name), "hypernetwork": ("heads", _heads)}
}
"""Keys that were called otherwise when older runs were written, by section and its name: the name of today, and what
is said there. What cannot be said today is refused."""

_MAX_INTEGER = 2**32 - 1
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core values: ``1e-3`` is a number, ``yes`` and ``2020-01-01`` are text. No tags, no aliases."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own way

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:  # type: ignore[override]
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) and tags (!name) are not supported", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,99})$"), "-+0123456789")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    "-+.0123456789",
)


def known_configs() -> dict[str, Path]:
    """The configs that go by a name: those in ``configs`` of the working directory, and those that come with metarl.

    Returns:
      Files by name, in alphabetical order.

    Example:
      >>> known_configs()["quickstart"].name
      'quickstart.yaml'
    """
    found = {file.stem: file for folder in (SHIPPED, Path("configs")) for file in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def find_config(given: str | Path) -> Path:
    """The file that a path or a name means.

    Args:
      given: a path; or a name, with or without ``.yaml``, of a file in the working directory or of ``known_configs``.

    Returns:
      A path at which something is.

    Raises:
      ConfigError: if there is no such file.

    Example:
      >>> find_config("quickstart").name
      'quickstart.yaml'
    """
    path, known = Path(given), known_configs()
    name = path.name.removesuffix(".yaml")
    try:
        if path.is_file():
            return path
        if path.name == str(given):
            beside = path.with_name(f"{name}.yaml")
            if beside.is_file() or name in known:
                return beside if beside.is_file() else known[name]
        if path.exists():
            return path
        similar = {file.stem: str(file) for file in path.parent.glob("*.y*ml")}
    except (OSError, ValueError):  # a name that no file can have: reading it says what is wrong
        return path
    match = nearest(path.stem, names := dict(zip(known, known, strict=True)) | similar)
    hint = f"did you mean '{names[match]}'? Give" if match else "give"
    raise ConfigError(f"{path}: no such file or config; {hint} a path, or a name that 'metarl list' shows")


def read_yaml(
    path: str | Path, needs: str = "tasks.name and algorithm.name", example: str = "seed: 0"
) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Args:
      path: the file.
      needs: what such a file has at least.
      example: a line of it.

    Raises:
      ConfigError: if it cannot be read or is not one mapping, with what to do about it.

    Example:
      >>> read_yaml(known_configs()["quickstart"])["tasks"]["name"]
      'navigation_finn'
    """
    path = Path(path)
    tree = parse_yaml(_read_text(path), str(path))
    if tree is None:
        raise ConfigError(f"{path}: is empty; give at least {needs}")
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: must be a mapping of sections, e.g. '{example}' (got {show(tree)})")
    return tree


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory; give a YAML file") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ConfigError(f"{path}: is not UTF-8 text (byte 0x{byte:02x} at position {error.start})") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML strictly: duplicate keys, aliases and tags are refused.

    Args:
      text: a YAML document.
      source: named in errors.

    Returns:
      Plain Python values; None for an empty document.

    Raises:
      ConfigError: if it is not valid, with line and column.

    Example:
      >>> parse_yaml("a: 1e-3", "example")
      {'a': 0.001}
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        duplicates = _duplicate_keys(node)
        value = loader.construct_document(node)  # type: ignore[no-untyped-call]
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: {_describe_yaml_error(error, text)}") from None
    except RecursionError:
        raise ConfigError(f"{source}: is nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()  # type: ignore[no-untyped-call]
    if duplicates:
        raise ConfigError(*(f"{source}: {duplicate}" for duplicate in duplicates))
    return value


def _describe_yaml_error(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        what = getattr(error, "problem", None) or "cannot be parsed"
        return f"broken YAML at line {mark.line + 1}, column {mark.column + 1}: {what}"
    position = getattr(error, "position", None)
    if position is not None:
        before = text[:position]
        line, column = before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
        return f"broken YAML at line {line}, column {column}: a character that YAML does not allow"
    return "broken YAML: " + " ".join(str(error).split())


def _duplicate_keys(node: yaml.Node, path: str = "") -> list[str]:
    found: list[str] = []
    if isinstance(node, yaml.SequenceNode):
        return [line for item in node.value for line in _duplicate_keys(item, path)]
    if not isinstance(node, yaml.MappingNode):
        return found
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        full = f"{path}.{name}" if path else name
        if name in first_lines:
            found.append(f"{full}: given twice, in lines {first_lines[name]} and {line}; keep one")
        first_lines.setdefault(name, line)
        found += _duplicate_keys(value, full)
    return found


def name_today(section: str, name: str, key: str) -> str | None:
    """What a key of a section with this name is called today, if it was called otherwise once.

    Example:
      >>> name_today("policy", "recurrent", "cell")
      'memory'
    """
    renaming = _RENAMED.get((section, name), {}).get(key)
    return None if renaming is None else renaming[0]


def renamed(tree: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The config of a run, with the names that its keys have today.

    Raises:
      ConfigError: if it has what cannot be said today; ``source`` is named in it.

    Example:
      >>> renamed({"policy": {"name": "recurrent", "cell": "lstm", "hypernetwork": False}}, "config.yaml")
      {'policy': {'name': 'recurrent', 'memory': 'lstm', 'heads': 'plain'}}
    """
    sections = dict(tree)
    for (section, name), keys in _RENAMED.items():
        given = tree.get(section)
        if isinstance(given, Mapping) and given.get("name") == name:
            kept = {key: value for key, value in given.items() if key not in keys}
            try:
                said = {today: translate(given[old]) for old, (today, translate) in keys.items() if old in given}
            except Refusal as refusal:
                raise ConfigError(f"{source}: {refusal}") from None
            sections[section] = kept | said
    return sections


def normalise(tree: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Bring a tree into the form that validation expects: text keys, tuples, and numbers as numbers.

    Text such as ``"1e-3"`` becomes a number, because PyYAML's own loader leaves it text.

    Args:
      tree: as parsed; not modified.

    Returns:
      A copy, and what is wrong with it whatever its keys mean.

    Example:
      >>> normalise({"sizes": [64, 64], "rate": "1e-3"})
      ({'sizes': (64, 64), 'rate': 0.001}, [])
    """
    problems: list[Problem] = []

    def visit(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, Mapping):
            for key in [key for key in value if not isinstance(key, str)]:
                problems.append(Problem((*path, show(key)), f"keys must be text (got {show(key)})"))
            return {key: visit(item, (*path, key)) for key, item in value.items() if isinstance(key, str)}
        if isinstance(value, list | tuple):
            return tuple(visit(item, path) for item in value)
        if isinstance(value, int) and abs(value) > _MAX_INTEGER:
            problems.append(Problem(path, f"must be at most {_MAX_INTEGER} in size (got {show(value)})"))
            return 1
        if isinstance(value, str) and _EXPONENT.fullmatch(value):
            return float(value)
        return value

    try:
        return visit(tree, ()), problems
    except RecursionError:
        raise ConfigError("the configuration is nested too deeply, or in itself") from None
