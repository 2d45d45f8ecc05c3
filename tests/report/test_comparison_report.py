"""A comparison on the terminal and in files: made-up returns, where a reader looks for them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from rich.console import Console

from metarl_jax.report.comparison import _draw_adaptation, pairs_csv, plot_comparison, tables, to_csv, to_latex
from tests.comparisons import compared


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        return compared(tmp_path_factory.mktemp("runs"), patch)


def shown(result: dict[str, Any], **options: Any) -> str:
    console = Console(**options)
    with console.capture() as capture:
        for table in tables(result):
            console.print(table)
    return capture.get()


@pytest.mark.parametrize("width", [80, 120])
def test_tables_break_no_number_and_no_word(result: dict[str, Any], width: int) -> None:
    lines = [line.split() for line in shown(result, width=width, color_system=None).splitlines()]
    assert next(line for line in lines if line[:1] == ["maml"])[:3] == ["maml", "0", "0"]
    effect = [line for line in lines if line[:3] in (["maml", "0", "0"], ["1", "3", "-0.900"])]
    assert [(len(line), line[-1]) for line in effect[:2]] == [(7, "0.820"), (6, "1.020")]
    assert ["rl2", "2", "3", "1.0", "MiB"] in lines
    assert ["rl2", "episode", "continuous", "vector", "yes", "no"] in lines
    assert any(line[:3] == ["1", "maml", "1.00"] for line in lines)
    assert any("(seed" in line and line[0] == "maml" for line in lines)


def test_tables_are_plain_where_the_terminal_is(result: dict[str, Any]) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, width=80)
    for table in tables(result):
        console.print(table)  # would raise if a sign could not be encoded


def test_what_the_settings_of_a_study_came_to_has_a_table(result: dict[str, Any]) -> None:
    sensitivity = {"keys": ["a"], "settings": 3, "failed": 1, "highest": 5.0, "median": 3.0, "lowest": 1.0}
    maml = result["methods"]["maml"]
    swept = {**maml, "stability": {**maml["stability"], "sensitivity": sensitivity}}
    assert "Sensitivity" not in shown(result, width=80)
    lines = shown({**result, "methods": {**result["methods"], "maml": swept}}, width=80).splitlines()
    assert ["maml", "5.000", "3.000", "1.000", "1"] in [line.split() for line in lines]


def test_without_costs_there_is_no_table_of_them(result: dict[str, Any]) -> None:
    methods = {name: {**method, "cost": None} for name, method in result["methods"].items()}
    free = {**result, "methods": methods}
    assert "GFLOP" not in shown(free, width=80) + to_latex(free)
    assert to_csv(free).splitlines()[1].count(",,,,") == 1


def test_csv_has_a_row_for_each_unit(result: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(result))))
    assert [row["episodes"] for row in rows if row["method"] == "maml" and row["distribution"] == "held_out"] == [
        "0",
        "3",
        "6",
    ]
    first = rows[0]
    assert float(first["iqm"]) == pytest.approx(-1.9)
    assert (first["seconds_per_million"], first["second_derivatives"], first["seeds"]) == ("2.0", "True", "3")
    pairs = list(csv.DictReader(io.StringIO(pairs_csv(result))))
    assert pairs[0] == {
        "distribution": "held_out",
        "of": "maml",
        "over": "rl2",
        "probability": "1.0",
        "low": "1.0",
        "high": "1.0",
    }


def test_latex_has_as_many_cells_in_each_row_and_escapes_names(result: dict[str, Any]) -> None:
    odd = {"a_b & 50%": result["methods"]["maml"]}
    lines = to_latex({**result, "methods": odd}).splitlines()
    rows = [line for line in lines if line.startswith(r"a\_b \& 50\% & 6 & $")]
    assert len(rows) == len(result["references"])
    assert {row.replace(r"\&", "").count("&") for row in rows} == {lines[2].count("&")}
    assert lines[0] == r"\begin{tabular}{lrrrrrr}"
    assert [line for line in lines if "rule" in line] == [r"\toprule", *[r"\midrule"] * len(rows), r"\bottomrule"]


def test_the_picture_has_a_panel_for_each_distribution_profiles_and_cost(
    result: dict[str, Any], tmp_path: Path
) -> None:
    plot_comparison(result, tmp_path / "all.png")
    free = {name: {**method, "cost": None} for name, method in result["methods"].items()}
    plot_comparison({**result, "methods": free}, tmp_path / "free.png")
    panels = [[imread(tmp_path / name)[..., :3].std() for name in ("all.png", "free.png")]]
    assert min(panels[0]) > 0.05
    assert imread(tmp_path / "all.png").shape[1] > 1000


def test_lines_are_shown_and_not_how_wide_few_seeds_make_intervals(result: dict[str, Any]) -> None:
    """An interval of three seeds can be many times as long as all returns are apart."""
    figure = Figure()
    axes = figure.subplots()
    wide = json.loads(json.dumps(result))
    wide["methods"]["maml"]["effect"]["held_out"]["high"] = [1e4, 1e4, 1e4]
    _draw_adaptation(axes, wide, "held_out", {name: {"color": "k"} for name in wide["methods"]})
    low, high = axes.get_ylim()
    assert low < -6.0  # a random policy
    assert 0.1 < high < 3.0  # what MAML ends with


def test_the_title_says_where_tasks_are_from(result: dict[str, Any]) -> None:
    few = {**result, "settings": {**result["settings"], "num_different_tasks": 2}}
    assert [str(tables(one)[0].title) for one in (result, few)] == [
        "Return on 12 held-out tasks",
        "Return on 12 draws of the 2 training tasks",
    ]


def test_what_is_best_without_knowing_the_task_has_rows_and_a_line_of_its_own(result: dict[str, Any]) -> None:
    reference = {**result["references"]["held_out"], "bayes_optimum": [-3.0, -1.25]}
    known = {**result, "references": {"held_out": reference}}
    lines = [" ".join(line.split()) for line in shown(known, width=80).splitlines()]
    at = lines.index("Bayes-optimal, mean 0 0 -3.000")
    assert lines[at + 1] == "1 1 -1.250"
    assert not any("Bayes" in line for line in shown(result, width=80).splitlines())
    axes = Figure().add_subplot()
    _draw_adaptation(axes, known, "held_out", {name: {"color": "k"} for name in result["methods"]})
    (line,) = [line for line in axes.lines if line.get_label() == "Bayes-optimal, mean"]
    assert line.get_xydata().tolist() == [[0.0, -3.0], [1.0, -1.25]]
