"""Charts: where curves, bands, ticks and values are."""

import json

import numpy as np
import pytest

from metarl_jax.report.html.adaptation import _table
from metarl_jax.report.html.charts import GREY, Chart, Line, plot, short, ticks


def chart(*lines: Line) -> Chart:
    return Chart("title", "steps", "return", lines)


def test_a_value_that_is_missing_leaves_a_gap() -> None:
    line = Line("a", [0, 1, 2, 3, 4], [0.0, 1.0, np.nan, 1.0, 0.0], [0.0] * 5, [1.0] * 5)
    (curve,) = plot(chart(line)).curves
    assert curve["line"].count("M") == 2
    assert plot(chart(line)).values["words"][0][1:4] == ["1 [0, 1]", "", "1 [0, 1]"]


def test_one_wild_value_does_not_flatten_the_rest() -> None:
    usual = np.linspace(0.0, 10.0, 50)
    placed = plot(chart(Line("a", np.arange(51), [*usual, 1e30])))
    assert max(tick for tick, _ in placed.y_ticks) <= 100
    assert placed.y_ticks[-1][1] == "10"
    assert "e+" not in placed.curves[0]["line"]


def test_a_wide_band_does_not_hide_the_curve() -> None:
    placed = plot(chart(Line("a", [0, 1], [0.0, 1.0], [-1e3, -1e3], [1e3, 1e3])))
    heights = [float(point.split(",")[1]) for point in placed.curves[0]["line"][1:].split("L")]
    assert abs(heights[0] - heights[1]) > 30  # per cent


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    placed = plot(chart(Line("a", np.arange(10_001), np.arange(10_001.0))))
    assert len(placed.values["x"]) == 160
    assert (placed.values["x"][0], placed.values["x"][-1]) == ("0", "10,000")
    assert len(json.dumps(placed.values)) < 10_000


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2e-5, 8e-5), (0.0, 1e9), (-1e4, -9_990.0), (1e4, 10_009.0)])
def test_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    assert 2 <= len(found) <= 6
    assert all(low <= tick <= high or np.isclose(tick, [low, high]).any() for tick in found)
    assert len({short(tick) for tick in found}) == len(found)


def test_steps_of_adaptation_are_whole() -> None:
    placed = plot(chart(Line("a", [0, 1, 2], [0.0, 1.0, 2.0], style="dots")))
    assert [text for _, text in placed.x_ticks] == ["0", "1", "2"]
    assert placed.curves[0]["dots"].count("M") == 3


def test_methods_beyond_the_number_of_colours_are_told_apart_by_dashes() -> None:
    """Thirteen methods stand in the comparison on navigation."""
    placed = plot(chart(*(Line(str(i), [0, 1], [0.0, 1.0], colour=i) for i in range(21))))
    assert len({(curve["colour"], curve["style"]) for curve in placed.curves}) == 21
    (grey,) = plot(chart(Line("random", [0, 1], [0.0, 1.0], colour=GREY))).curves
    assert (grey["colour"], grey["style"]) == ("grey", "solid")


@pytest.mark.parametrize(("number", "head"), [(5, ["steps", *"01234"]), (6, ["after steps", "0", "1"])])
def test_many_methods_are_rows_of_their_table(number: int, head: list[str]) -> None:
    """As columns they would not fit the page."""
    table = _table("title", "steps", [Line(str(i), [0.0, 1.0], [float(i), 9.0]) for i in range(number)])
    assert table.head == head
    assert {len(row) for row in table.rows} == {len(head)}
