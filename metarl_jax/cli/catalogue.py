"""``metarl list``."""

import itertools
import json
import re
import shlex
import sys
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from metarl_jax.report.text import columns, wrap

_INDENT = " " * 26
_WIDTH, _WIDEST = 80, 120
_PLURALS = {"algorithm": "algorithms", "tasks": "task families", "policy": "policies", "trackers": "trackers"}
_LISTS = {
    "algorithms": "algorithm",
    "families": "tasks",
    "policies": "policy",
    "trackers": "trackers",
    "configs": "configs",
}
"""What can be listed alone, by the section of its entries."""
_TRACEABLE = "traceable: one compiled program serves all values of the key, so that jax.vmap sweeps over it"

Node = dict[str, Any]
"""What is listed, as JSON has it."""


def list_(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Show the keys of an algorithm, task family, policy or tracker, also of your own, MODULE:FACTORY; "
            "those of another section of a config; a config; all 'algorithms', 'families', 'policies', 'trackers' or "
            "'configs'; or what the 'metrics' mean.",
            show_default=False,
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where config files lie.", show_default="./configs and those of metarl")
    ] = None,
    copy: Annotated[
        str | None, typer.Option(metavar="NAME", help="Copy this config into the working directory.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List algorithms, task families, policies, trackers and configs; show what one of them takes, or copy a config."""
    configs = _configs(folder)
    if copy is not None:
        _refuse_beside_copy(name, as_json)
        print(_copy(copy, configs))
        return
    where = "metarl train NAME; metarl list --copy NAME" if folder is None else f"in {folder}"
    listed = _everything(configs) if name is None else _find(name, configs)
    if as_json:
        print(json.dumps(listed, indent=1))
    elif name is None:
        _print_everything(listed, where)
    elif name in _LISTS:
        _print_entries({entry: [description] for entry, description in listed[name].items()})
    elif "metrics" in listed:
        _print_metrics(listed["metrics"])
    elif "file" in listed:
        print(f"{listed['file']}:\n{_as_wide_as_fits(Path(listed['file']).read_text(encoding='utf-8').rstrip())}")
    else:
        _print_keys(listed)


def _configs(folder: Path | None) -> dict[str, Path]:
    """The configs that go by a name, or those of a folder."""
    from metarl_jax.config import ConfigError
    from metarl_jax.config.source import known_configs

    if folder is None:
        return known_configs()
    if not folder.is_dir():
        raise ConfigError(f"--folder {folder}: there is no such folder; give the one that holds your config files")
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def _everything(configs: Mapping[str, Path]) -> Node:
    """Names by section, with their descriptions."""
    ours = {
        section: {name: _summary(factory.__doc__ or "") for name, factory in factories.items()}
        for section, factories in _factories().items()
    }
    return {**ours, "configs": {name: _comment(file) for name, file in configs.items()}}


def _factories() -> dict[str, Mapping[str, Any]]:
    """Whatever a config can name, by section and name."""
    from metarl_jax.config import DEFAULT_CATALOGUE
    from metarl_jax.tracking import TRACKERS

    return {**DEFAULT_CATALOGUE._asdict(), "trackers": TRACKERS}


def _find(name: str, configs: Mapping[str, Path]) -> Node:
    """What goes by this name: what the package has first, then configs, then a component of the user's own."""
    from metarl_jax.checks import did_you_mean
    from metarl_jax.config import ConfigError
    from metarl_jax.config.components import find_component, is_component
    from metarl_jax.config.source import read_yaml
    from metarl_jax.config.validation import section_of
    from metarl_jax.tracking.glossary import METRICS

    ours = _factories()
    if name in _LISTS:
        return {name: _everything(configs)[_LISTS[name]]}
    if name == "metrics":
        return {"metrics": {metric.name: metric._asdict() for metric in METRICS}}
    for section, factories in ours.items():
        if name in factories:
            return _describe(section, name, factories[name])
    if name in (common := _common_sections()):
        return common[name]
    if is_component(name):
        factory = find_component(name, [Path.cwd()])
        return _describe(section_of(name, factory), name, factory)
    if file := configs.get(name.removesuffix(".yaml")):
        return {"name": file.stem, "file": str(file), "description": _comment(file), "values": read_yaml(file)}
    names = ["metrics", *_LISTS, *configs, *common, *itertools.chain(*ours.values())]
    raise ConfigError(f"{name}: 'metarl list' shows nothing of this name{did_you_mean(name, names)}")


def _describe(section: str, name: str, factory: Any) -> Node:
    """A factory, and what a config can set of it."""
    from metarl_jax.config.schema import key_schemas, section_model, traceable_keys
    from metarl_jax.config.validation import NOUNS

    schemas = key_schemas(section_model(section, name, factory))
    del schemas["name"]
    return {
        "name": name,
        "section": section,
        "kind": NOUNS[section],
        "description": _summary(factory.__doc__ or ""),
        "keys": _keys(schemas, traceable_keys(factory)),
    }


def _common_sections() -> dict[str, Node]:
    """The sections of a config whose keys are the same whatever is named in the others."""
    from metarl_jax.config import EvaluationConfig, LoggingConfig, OptimizerConfig, TrainingConfig
    from metarl_jax.config.schema import key_schemas
    from metarl_jax.config.traced import traceable

    sections = {
        "optimizer": OptimizerConfig(),
        "training": TrainingConfig(),
        "evaluation": EvaluationConfig(),
        "logging": LoggingConfig(),
    }
    return {
        name: {
            "name": name,
            "section": name,
            "kind": "section of a config",
            "description": _summary(section.__doc__ or ""),
            "keys": _keys(key_schemas(type(section)), traceable(section)),
        }
        for name, section in sections.items()
    }


def _keys(schemas: Mapping[str, Node], traceable: Container[str]) -> Node:
    return {key: {**schema, "traceable": key in traceable} for key, schema in schemas.items()}


def _print_everything(listed: Node, where: str) -> None:
    titles = {**_PLURALS, "configs": f"configs ({where})"}
    for section, title in titles.items():
        print(f"{title}:")
        _print_entries({name: [description] for name, description in listed[section].items()})
    if not listed["configs"]:
        print("  none; name another folder with --folder")


def _print_metrics(metrics: Node) -> None:
    def paragraphs(metric: Node) -> list[str]:
        unit = "" if metric["unit"] == "1" else f" ({metric['unit']})"
        return [metric["meaning"] + unit, *([] if metric["shape"] == "[]" else [metric["shape"]])]

    print("metrics.jsonl:")
    _print_entries({name: paragraphs(metric) for name, metric in metrics.items()})


def _print_keys(listed: Node) -> None:
    from metarl_jax.checks import expected
    from metarl_jax.config.errors import show

    print(_fill(f"{listed['name']} ({listed['kind']}): {listed['description']}"))
    place = "an entry of 'logging.trackers'" if listed["section"] == "trackers" else f"'{listed['section']}'"
    print(f"keys of {place}:" if listed["keys"] else "It has no keys.")

    def allowed(key: Node) -> str:
        default = f"default {show(key['default'])}" if "default" in key else "required"
        return "; ".join([expected(key), default, *(["traceable"] if key["traceable"] else [])])

    _print_entries({name: [key["description"], allowed(key)] for name, key in listed["keys"].items()})
    if any(key["traceable"] for key in listed["keys"].values()):
        print(_fill(_TRACEABLE))


def _print_entries(entries: Mapping[str, Sequence[str]]) -> None:
    """Names and, beside them, paragraphs."""
    for name, paragraphs in entries.items():
        first = f"  {name}".ljust(len(_INDENT))
        if len(name) > len(_INDENT) - 4:
            print(first.rstrip())
            first = _INDENT
        for paragraph in filter(None, paragraphs):
            print(_fill(paragraph, first, _INDENT))
            first = _INDENT


def _fill(text: str, first: str = "", rest: str = "") -> str:
    """Text in lines no wider than the terminal, unless a word is."""
    return wrap(text, min(columns(sys.stdout) or _WIDTH, _WIDEST), first, rest)


def _as_wide_as_fits(text: str) -> str:
    """A config whose comments are broken into more lines where the terminal is narrow; it still says the same."""
    width = columns(sys.stdout)
    return "\n".join(line if width is None or len(line) <= width else _broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    """A line of YAML with its comment, if it has one, broken where it begins."""
    found = re.fullmatch(r"((?:[^'\"#]*\s)?)(#+ )(.*)", line)  # a quoted text may hold a mark that begins no comment
    if found is None:
        return line
    before, mark, comment = found.groups()
    return wrap(comment, width, before + mark, " " * len(before) + mark)


def _summary(text: str) -> str:
    """The first sentence of a docstring or comment."""
    from metarl_jax.config.schema import without_marks

    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    return without_marks(re.split(r"(?<=\.) (?=[A-Z])", paragraph)[0])


def _comment(file: Path) -> str:
    """What a config says about itself, in the comment at its top; a line for editors says nothing."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    words = [line.lstrip("# ") for line in lines]
    return _summary("\n".join(line for line in words if not line.startswith("yaml-language-server:")))


def _refuse_beside_copy(name: str | None, as_json: bool) -> None:
    from metarl_jax.config import ConfigError

    if name is not None or as_json:
        raise ConfigError("--copy: give it without --json or another name: a copy is made, and nothing is listed")


def _copy(name: str, configs: Mapping[str, Path]) -> str:
    from metarl_jax.checks import did_you_mean
    from metarl_jax.config import ConfigError

    name = name.removesuffix(".yaml")
    if name not in configs:
        raise ConfigError(f"--copy {name}: 'metarl list' shows no such config{did_you_mean(name, configs)}")
    target = Path(f"{name}.yaml")
    try:
        with target.open("xb") as file:
            file.write(configs[name].read_bytes())
    except FileExistsError:
        raise ConfigError(f"--copy {name}: {target.absolute()} exists; rename or remove it first") from None
    return f"copied to {target.absolute()}; train it with:\n  {shlex.join(['metarl', 'train', str(target)])}"
