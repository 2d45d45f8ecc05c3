"""``metarl list``."""

import itertools
import re
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

_INDENT = " " * 26


def list_(
    folder: Annotated[
        Path | None, typer.Option(help="Where config files lie.", show_default="./configs and those of metarl")
    ] = None,
    copy: Annotated[
        str | None, typer.Option(metavar="NAME", help="Copy this config into the working directory.")
    ] = None,
) -> None:
    """List algorithms, task families, policies and config files, or copy a config."""
    from metarl_jax.algorithms import ALGORITHMS
    from metarl_jax.config.source import known_configs
    from metarl_jax.networks import POLICIES
    from metarl_jax.tasks import FAMILIES

    configs = known_configs() if folder is None else {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    if copy is not None:
        print(_copy(copy, configs))
        return
    for title, factories in (("algorithms", ALGORITHMS), ("task families", FAMILIES), ("policies", POLICIES)):
        _print_section(title, {name: factory.__doc__ or "" for name, factory in factories.items()})
    where = "metarl train NAME; metarl list --copy NAME" if folder is None else f"in {folder}"
    _print_section(f"configs ({where})", {name: _comment(file) for name, file in configs.items()})
    if not configs:
        print("  none; name another folder with --folder")


def _print_section(title: str, descriptions: Mapping[str, str]) -> None:
    """Names and, beside them, the first sentences of their descriptions; no wider than the terminal."""
    print(f"{title}:")
    width = min(shutil.get_terminal_size().columns, 120)
    for name, description in descriptions.items():
        first = f"  {name}".ljust(len(_INDENT))
        if len(name) > len(_INDENT) - 4:
            print(first)
            first = _INDENT
        print(textwrap.fill(_summary(description), width, initial_indent=first, subsequent_indent=_INDENT))


def _summary(text: str) -> str:
    """The first sentence of a docstring or comment, without reStructuredText's marks."""
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    sentence = re.split(r"(?<=\.) (?=[A-Z])", paragraph)[0]
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`|``([^`]+)``", r"\1\2", sentence)


def _comment(file: Path) -> str:
    """What a config says about itself, in the comment at its top."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    return "\n".join(line.lstrip("# ") for line in lines)


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
    return f"copied to {target.absolute()}; train it with: metarl train {target}"
