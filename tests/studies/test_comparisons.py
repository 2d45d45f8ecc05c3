"""The comparisons of ``benchmarks/``: what they ask ``metarl compare``, and what they leave behind."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from metarl_jax.cli import app
from metarl_jax.config import load_config
from metarl_jax.report.comparison import plot_comparison
from metarl_jax.studies import commands
from metarl_jax.studies.compare.sources import check, names, recipes
from metarl_jax.studies.comparisons import COMPARISONS, Comparison, command, overview, page, study
from metarl_jax.studies.results import read
from tests.comparisons import compared


@pytest.mark.parametrize("what", COMPARISONS.values(), ids=COMPARISONS)
def test_all_methods_are_on_the_same_tasks_and_told_apart(what: Comparison) -> None:
    given = recipes(what.words)
    check(given)
    configs = [load_config(one.config, list(one.overrides)) for one in given]
    assert len(set(names(configs))) == len(configs)
    assert [config.tasks.model_dump()["oracle"] for config in configs] == [*[False] * (len(configs) - 1), True]
    num_steps = {config.evaluation.num_inner_steps for config in configs}
    assert num_steps == {3, 0}  # of the oracle, none


def test_numbers_page_picture_and_report_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, given = compared(tmp_path / "compared", monkeypatch), []

    def metarl(*arguments: object) -> str:
        words = [str(argument) for argument in arguments]
        options = _options(words)
        given.append((words[0], options))
        if words[0] == "compare":
            options["output"].mkdir(parents=True)
            (options["output"] / "comparison.json").write_text(json.dumps(result))
            plot_comparison(result, options["output"] / "comparison.png")
        else:
            options["output"].write_text("<!doctype html>")
        return ""

    monkeypatch.setattr(commands, "metarl", metarl)
    file = tmp_path / "results" / "comparison_navigation.json"
    told = study("navigation", file, devices=1, runs=tmp_path / "runs")
    (_, asked), (_, reported) = given
    assert (asked["seeds"], asked["env_steps"], asked["devices"]) == (5, 4e6, 1)
    assert asked["directory"] == tmp_path / "runs" / "comparison_navigation"
    assert len(reported["what"]) == 6  # three methods, of 3, 2 and 1 seeds
    assert told["command"] == " ".join(["metarl", "compare", *command(COMPARISONS["navigation"])])
    assert read(file) == told
    assert {path.suffix for path in file.parent.iterdir()} == {".json", ".md", ".png", ".html"}


def test_the_page_has_the_tables_of_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = compared(tmp_path, monkeypatch)
    text = page("comparison_half_cheetah_velocity", {"command": "metarl compare a b", **result})
    assert text.startswith("# Methods on half cheetah velocity\n\n```\nmetarl compare a b\n```\n")
    assert "![return, profiles and cost](comparison_half_cheetah_velocity.png)" in text
    effect = result["methods"]["maml"]["effect"]["held_out"]
    assert f"| maml | 0 | 0 | {effect['iqm'][0]:.3f} [" in text
    assert "## Cost of a million environment steps" in text
    assert "[/" not in text  # no markup of the terminal


def test_the_overview_has_a_row_for_each_method_and_a_random_initialisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle adapts to nothing; what a method earns is of its own units, episodes tell what they took."""
    head, _, *rows = [line.split("|")[1:-1] for line in overview(compared(tmp_path, monkeypatch)).splitlines()]
    cells = {name.replace("`", "").strip(): [one.strip() for one in own] for name, *own in rows}
    assert [name.strip() for name in head[1:4]] == ["before", "after one unit", "after all"]
    assert list(cells) == ["maml", "rl2", "oracle (pretraining)", "random initialisation (maml)"]
    before, one, every, *_, episodes, seconds = cells["maml"]
    assert (float(one) - float(before), float(every) > float(one)) == (pytest.approx(1.0), True)
    assert (episodes, seconds) == ("6", "2.0")
    assert cells["oracle (pretraining)"][1:3] == ["", ""]
    assert cells["random initialisation (maml)"][0] == "-6.0"


def _options(words: list[str]) -> Mapping[str, Any]:
    """As the command reads them."""
    return typer.main.get_command(app).commands[words[0]].make_context(words[0], words[1:]).params
