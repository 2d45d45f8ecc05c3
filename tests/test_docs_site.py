"""The documentation's pages: what is made of the package when they are built, and the commands that they show."""

import doctest
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.cli import app
from metarl_jax.config import DEFAULT_CATALOGUE, Config, load_config
from metarl_jax.config.schema import FROM_TRAINING, keyword_arguments
from metarl_jax.config.source import known_configs

pytest.importorskip("sphinx")
ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "methods").glob("*.md"))]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules that the site is built with, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return lambda name: importlib.import_module(f"_ext.{name}")


def rows(text: str) -> dict[str, list[str]]:
    """Of Markdown's tables, the rows whose first cell is code."""
    cells = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in cells}


@pytest.mark.parametrize("name", ["markup", "flow"])
def test_the_examples_of_the_extension_hold(made: Any, name: str) -> None:
    module: ModuleType = made(name)
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0


def test_the_reference_has_every_key_of_every_factory(made: Any) -> None:
    for section, factories in DEFAULT_CATALOGUE._asdict().items():
        parts = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", made("reference").factories(section), re.M | re.S))
        assert set(parts) == set(factories)
        for name, factory in factories.items():
            assert set(keyword_arguments(factory)) - FROM_TRAINING <= set(rows(parts[name])), name


def test_the_reference_tells_ranges_defaults_and_meanings(made: Any) -> None:
    shown = rows(made("reference").section_keys("optimizer"))
    assert shown["learning_rate"] == ["a number greater than 0 (traceable)", "`0.001`", "Outer step size."]
    for section in ("training", "evaluation", "logging"):
        keys = rows(made("reference").section_keys(section))
        assert set(keys) == set(type(Config.model_fields[section].default).model_fields)
        assert all(cells[-1] for cells in keys.values())


def test_the_reference_has_every_command_with_its_options(made: Any) -> None:
    text = made("reference").commands()
    commands = typer.main.get_group(app).commands
    assert re.findall(r"^## metarl (\S+)$", text, re.M) == list(commands)
    options = {option for command in commands.values() for parameter in command.params for option in parameter.opts}
    assert all(option in text for option in options if option.startswith("--") and option != "--help")


def test_pages_of_methods_show_the_committed_numbers(made: Any) -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "comparison_navigation.json").read_text())["methods"]
    shown = rows(made("results").comparison("navigation"))
    assert set(shown) == set(measured)
    assert shown["reptile"] == rows(made("results").method("reptile"))["reptile"]
    returns = measured["reptile"]["effect"]["held_out"]["iqm"]
    assert shown["reptile"][:3] == [f"{returns[unit]:.1f}" for unit in (0, 1, 3)]


def test_every_method_has_a_page_with_its_picture() -> None:
    pages = {page.stem: page.read_text() for page in (ROOT / "docs" / "methods").glob("*.md")}
    assert set(pages) == set(ALGORITHMS)
    assert all("```{data-flow}" in text for text in pages.values())


def test_data_flow_is_drawn_from_top_to_bottom_and_back(made: Any) -> None:
    flow = made("flow")
    items = flow.parse(["a < b", "twice:", "    c", "    d", "<- gradient"])
    assert [(item.kind, len(item.children)) for item in items] == [("box", 0), ("frame", 2), ("arrow", 0)]
    drawn = flow.svg(items, "words")
    heights = {text: float(y) for y, text in re.findall(r'<text [^>]*y="([\d.]+)"[^>]*>([^<]+)<', drawn)}
    assert heights["a &lt; b"] < heights["twice"] < heights["c"] < heights["d"]
    assert drawn.count("<rect") == 4
    (start, end) = map(float, re.findall(r'class="flow-back" d="M[\d.]+ ([\d.]+)H[\d.]+V([\d.]+)', drawn)[0])
    assert start > end


def commands() -> Iterator[tuple[str, str]]:
    """What the pages say to type, in blocks and between backticks, by page."""
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
        lines = [line for _, block in blocks for line in block.replace("\\\n", " ").splitlines()]
        said = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
        for line in [*lines, *(" ".join(words.split()) for words in said)]:
            if re.match(r"(\$ )?metarl [a-z-]+( |$)", line):
                yield page.name, line.removeprefix("$ ").partition(" #")[0].strip()


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_a_command_of_the_pages_is_one_that_there_is(page: str, line: str) -> None:
    _, name, *given = shlex.split(line)
    command: Any = typer.main.get_group(app).commands[name]
    command.make_parser(typer.Context(command)).parse_args(given)  # refuses an option that there is not


def test_configs_that_the_pages_train_are_there_and_valid() -> None:
    lines = [line for _, line in commands() if re.match(r"metarl train [a-z0-9_]+( |$)", line)]
    trained = {tuple(shlex.split(line)[2:]) for line in lines}
    assert len(trained) > 10
    for name, *rest in trained:
        load_config(known_configs()[name], [word for word in rest if "=" in word])
