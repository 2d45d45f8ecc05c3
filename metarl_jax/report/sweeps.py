"""What a sweep came to: heat maps over two keys, learning curves over seeds, a table."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from rich.markup import escape
from rich.table import Table

from metarl_jax.report.curves import RANDOM, tidy

_MOST_COLUMNS = 3
_MOST_NUMBERS = 120  # in the cells of a panel
_MARGIN = 0.05
_BEST = "#d1495b"
_FAILED = "#dddddd"


class HeatMap(NamedTuple):
    """One panel.

    Attributes:
      title: above it.
      x: name of the horizontal key.
      y: name of the vertical key.
      points: ``(x, y, objective)``, the objective None where the setting failed.
    """

    title: str
    x: str
    y: str
    points: Sequence[tuple[Any, Any, float | None]]


class _Colours(NamedTuple):
    """What an objective looks like."""

    norm: Normalize
    cmap: Colormap


class Curve(NamedTuple):
    """How one setting learns.

    Attributes:
      name: of the setting.
      updates: ``[T]``.
      middle: ``[T]``.
      interval: low and high, ``[T]`` each; None of a setting that is only hinted at.
    """

    name: str
    updates: Sequence[int]
    middle: np.ndarray
    interval: tuple[np.ndarray, np.ndarray] | None


def plot_heat_maps(maps: Sequence[HeatMap], path: Path, meaning: str, maximize: bool) -> None:
    """Save heat maps side by side, in the same colours: cells where all combinations were tried, else points.

    Args:
      maps: the panels.
      path: a ``.png``.
      meaning: of the colours.
      maximize: whether high objectives are good; the best setting of a panel is framed.
    """
    colours = _colours([score for panel in maps for *_, score in panel.points if score is not None], maximize)
    columns = min(_MOST_COLUMNS, len(maps))
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(4.4 * columns + 1.2, 3.9 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(places, maps, strict=False):
        axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
        draw = _draw_cells if _is_complete(panel) else _draw_points
        draw(axes, panel, colours, maximize)
    for axes in places[len(maps) :]:
        axes.set_axis_off()
    figure.colorbar(ScalarMappable(*colours), ax=list(places), extend="min" if maximize else "max")
    figure.suptitle(meaning, fontsize=10)
    figure.savefig(path, dpi=150)


def _colours(scores: Sequence[float], maximize: bool) -> _Colours:
    """From the worst, but for what is much worse than most, to the best, which is bright."""
    low, high = _fences(scores) if scores else (0.0, 1.0)
    ends = (low, max(scores, default=high)) if maximize else (min(scores, default=low), high)
    return _Colours(Normalize(*ends), colormaps["viridis" if maximize else "viridis_r"])


def _fences(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The least and the greatest value that is no outlier (Tukey): at most 1.5 interquartile ranges out of the box."""
    first, third = np.percentile(values, [25.0, 75.0])
    reach = 1.5 * (third - first)
    return max(float(np.min(values)), float(first - reach)), min(float(np.max(values)), float(third + reach))


def _is_complete(panel: HeatMap) -> bool:
    """Whether every combination of the values of both keys was tried."""
    xs, ys = ({_text(point[axis]) for point in panel.points} for axis in (0, 1))
    return len({(_text(x), _text(y)) for x, y, _ in panel.points}) == len(xs) * len(ys)


def _draw_cells(axes: Axes, panel: HeatMap, colours: _Colours, maximize: bool) -> None:
    xs, ys = (_in_order(point[axis] for point in panel.points) for axis in (0, 1))
    cells: dict[tuple[int, int], list[float]] = {}
    for x, y, score in panel.points:
        cells.setdefault((ys.index(_text(y)), xs.index(_text(x))), []).extend([] if score is None else [score])
    means = np.full((len(ys), len(xs)), np.nan)
    for place, scores in cells.items():
        means[place] = np.mean(scores) if scores else np.nan
    axes.set_facecolor(_FAILED)
    axes.pcolormesh(np.ma.masked_invalid(means), cmap=colours.cmap, norm=colours.norm)
    axes.set_xticks(np.arange(len(xs)) + 0.5, xs)
    axes.set_yticks(np.arange(len(ys)) + 0.5, ys)
    if means.size <= _MOST_NUMBERS:
        for (j, i), mean in np.ndenumerate(means):
            text = "failed" if np.isnan(mean) else f"{mean:.3g}"
            axes.text(i + 0.5, j + 0.5, text, ha="center", va="center", fontsize=8, color=_ink(colours, mean))
    if np.isfinite(means).any():
        j, i = np.unravel_index(np.nanargmax(means if maximize else -means), means.shape)
        axes.plot([i, i + 1, i + 1, i, i], [j, j, j + 1, j + 1, j], color=_BEST, linewidth=2.5, clip_on=False)


def _draw_points(axes: Axes, panel: HeatMap, colours: _Colours, maximize: bool) -> None:
    done = [(x, y, score) for x, y, score in panel.points if score is not None]
    failed = [(x, y) for x, y, score in panel.points if score is None]
    scales = {name: _scale([point[axis] for point in panel.points]) for axis, name in enumerate(("xscale", "yscale"))}
    axes.set(**scales)
    for axis, scale in zip((axes.xaxis, axes.yaxis), scales.values(), strict=True):
        if scale == "log":  # labels between the powers of ten overlap where there are few of these
            axis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
            axis.set_minor_formatter(NullFormatter())
    tidy(axes)
    axes.scatter(*_columns(failed), color=RANDOM, marker="x", label="failed")
    axes.scatter(*_columns(done), c=[score for *_, score in done], cmap=colours.cmap, norm=colours.norm, s=60)
    if done:
        best = (max if maximize else min)(done, key=lambda point: point[2])
        axes.scatter(*_columns([best]), s=160, facecolors="none", edgecolors=_BEST, linewidths=2.5)


def _columns(points: Sequence[tuple[Any, ...]]) -> tuple[list[Any], list[Any]]:
    """Horizontal and vertical places; what is no number is a category."""
    return [_placed(point[0]) for point in points], [_placed(point[1]) for point in points]


def _placed(value: Any) -> Any:
    return value if _is_number(value) else _text(value)


def _scale(values: Sequence[Any]) -> str:
    """Logarithmic where numbers span more than a decade."""
    numeric = all(map(_is_number, values)) and min(values) > 0
    return "log" if numeric and max(values) > 10 * min(values) else "linear"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _in_order(values: Iterable[Any]) -> list[str]:
    """Different values as text: numbers by size, others as they come."""
    different = list(dict.fromkeys(values))
    return list(dict.fromkeys(map(_text, sorted(different) if all(map(_is_number, different)) else different)))


def _ink(colours: _Colours, value: float) -> str:
    """Black on bright cells, white on dark ones."""
    red, green, blue, _ = colours.cmap(colours.norm(value))
    return "black" if np.isnan(value) or 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"


def plot_learning(curves: Sequence[Curve], path: Path, meaning: str) -> None:
    """Save learning curves: in colour those with an interval, the others in grey behind them.

    Args:
      curves: the best first.
      path: a ``.png``.
      meaning: of the vertical axis, which leaves out settings that are much worse or better than most.
    """
    figure = Figure(figsize=(7.0, 5.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel="updates", ylabel=meaning)
    tidy(axes)
    behind = [curve for curve in curves if curve.interval is None]
    for i, curve in enumerate(behind):
        name = f"{len(behind)} other setting{'s' * (len(behind) > 1)}" if i == 0 else None
        axes.plot(curve.updates, curve.middle, color=RANDOM, alpha=0.35, linewidth=0.7, label=name)
    for curve in curves:
        if curve.interval is not None:
            (line,) = axes.plot(curve.updates, curve.middle, linewidth=1.4, label=curve.name)
            axes.fill_between(curve.updates, *curve.interval, color=line.get_color(), alpha=0.18, linewidth=0)
    drawn = np.concatenate([np.empty(0), *(end for curve in curves for end in curve.interval or (curve.middle,))])
    if len(finite := drawn[np.isfinite(drawn)]):
        low, high = _fences(finite)
        axes.set_ylim(low - _MARGIN * (high - low), high + _MARGIN * (high - low))
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.14))  # their names are long
    axes.set_title("interquartile mean over seeds and its 95 % interval", fontsize=9)
    figure.savefig(path, dpi=150)


def sweep_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> Table:
    """The settings of a study as a table, the best first.

    Args:
      title: above it.
      head: of each column: the trial's number, the objective, its keys.
      rows: their cells.
      caption: below it.
    """
    table = Table(title=escape(title), caption=escape(caption))
    for name in head:
        table.add_column(escape(name), justify="right")
    for row in rows:
        table.add_row(*map(escape, row))
    return table
