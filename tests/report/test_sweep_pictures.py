"""Pictures of sweeps show what they are given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metarl_jax.report.sweeps import Curve, HeatMap, plot_heat_maps, plot_learning


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def panels_of(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_xlabel()]


def test_a_complete_grid_is_cells_with_numbers_in_order_of_size(saved: list[Figure], tmp_path: Path) -> None:
    points = [(x, y, None if (x, y) == (0.2, 3.0) else x * y) for y in (30.0, 3.0) for x in (0.2, 0.1)]
    maps = [HeatMap("maml", "inner", "outer", points), HeatMap("promp", "inner", "outer", [(0.1, 3.0, -1.0)])]
    plot_heat_maps(maps, tmp_path / "map.png", "return", maximize=True)
    (figure,) = saved
    first, second = panels_of(figure)
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["0.1", "0.2"]
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["3", "30"]
    assert [text.get_text() for text in first.texts] == ["0.3", "failed", "3", "6"]
    assert [text.get_text() for text in second.texts] == ["-1"]
    assert first.lines[0].get_xdata()[0] == 1  # the frame is around the best
    assert first.lines[0].get_ydata()[0] == 1


def test_the_lowest_is_framed_where_low_is_good(saved: list[Figure], tmp_path: Path) -> None:
    points = [(x, y, x * y) for y in (3.0, 30.0) for x in (0.1, 0.2)]
    plot_heat_maps([HeatMap("", "a", "b", points)], tmp_path / "map.png", "loss", maximize=False)
    frame = panels_of(saved[0])[0].lines[0]
    assert (frame.get_xdata()[0], frame.get_ydata()[0]) == (0, 0)


def test_samples_are_points_on_scales_that_show_them(saved: list[Figure], tmp_path: Path) -> None:
    points = [(0.001, 0.5, 1.0), (0.1, 0.6, 2.0), (0.05, 0.7, None)]
    plot_heat_maps([HeatMap("", "a", "b", points)], tmp_path / "map.png", "return", maximize=True)
    axes = panels_of(saved[0])[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    failed, done, best = (np.asarray(of.get_offsets()) for of in axes.collections)
    np.testing.assert_allclose(failed, [[0.05, 0.7]])
    np.testing.assert_allclose(done, [[0.001, 0.5], [0.1, 0.6]])
    np.testing.assert_allclose(best, [[0.1, 0.6]])


def test_a_study_of_which_all_failed_is_drawn(tmp_path: Path) -> None:
    plot_heat_maps([HeatMap("", "a", "b", [(1, 2, None)])], tmp_path / "map.png", "return", maximize=True)
    assert (tmp_path / "map.png").exists()


def test_the_best_curves_are_named_and_the_others_behind_them(saved: list[Figure], tmp_path: Path) -> None:
    middle = np.arange(3.0)
    named = Curve("inner_lr 0.1", [1, 2, 3], middle, (middle - 1, middle + 1))
    others = [Curve("", [1, 2], middle[:2] - i, None) for i in range(4)]
    plot_learning([named, *others], tmp_path / "learning.png", "return")
    (axes,) = saved[0].axes
    assert axes.get_ylabel() == "return"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["4 other settings", "inner_lr 0.1"]
    assert len(axes.lines) == 5
    assert len(axes.collections) == 1


def test_what_is_much_worse_than_most_does_not_hide_the_rest(saved: list[Figure], tmp_path: Path) -> None:
    points = [(x, y, -900.0 if x == y == 0 else -10.0 - x - y) for x in range(4) for y in range(4)]
    plot_heat_maps([HeatMap("", "a", "b", points)], tmp_path / "map.png", "return", maximize=True)
    low, high = saved[0].axes[-1].get_ylim()  # of the colours
    assert (-20 < low < -15, high) == (True, -11)
    curves = [Curve("", [1, 2, 3], np.full(3, -900.0 if i == 0 else -10.0 - i), None) for i in range(9)]
    plot_learning(curves, tmp_path / "learning.png", "return")
    low, high = saved[1].axes[0].get_ylim()
    assert -30 < low < -18
    assert -11 < high < 0
