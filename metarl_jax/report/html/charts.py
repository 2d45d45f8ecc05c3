"""Charts without a plotting library: curves as SVG that stretches, labels as HTML that does not, values on demand."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Numbers = Sequence[float] | np.ndarray

GREY = -1
"""The colour of what others are compared with."""

_MOST_POINTS = 160  # of a curve: more than there are pixels on a small screen say nothing more
_MOST_DOTS = 25
_MARGIN = 0.06  # of the range shown, above and below
_WILD = 50.0  # times the interquartile range: what is farther out leaves the picture
_BAND = 0.6  # of the range of the curves: so much room is left for bands, which are wide with few seeds
_NEAR_ZERO = 0.2  # of the greatest: from there the horizontal axis begins at zero
_NUM_COLOURS = 7
_NUM_DASHES = 2  # that tell apart what has the same colour


class Line(NamedTuple):
    """One curve.

    Attributes:
      name: in the legend.
      x: ``[N]``, increasing.
      y: ``[N]``; NaN leaves a gap.
      low: lower end of an interval, ``[N]``; None for none.
      high: upper end.
      colour: a number, the same for what belongs together; ``GREY``.
      style: ``solid``, ``dashed`` or ``dots``, which marks every point.
    """

    name: str
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    colour: int = 0
    style: str = "solid"


class Chart(NamedTuple):
    """Curves over one axis; ``note`` says what they are, where the title does not."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    note: str = ""

    @property
    def has_points(self) -> bool:
        """Whether there is anything to draw."""
        return any(np.isfinite(np.asarray(line.y, float)).any() for line in self.lines)


class Plot(NamedTuple):
    """A chart as the template draws it: places in per cent of the width from the left, and of the height from above.

    Attributes:
      chart: what is shown.
      x_ticks: place and label.
      y_ticks: place and label.
      curves: for each line its ``name``, ``colour``, ``style`` (classes), and the SVG paths ``line``, ``band``
        and ``dots``.
      values: what a pointer or the arrow keys read: ``x``, places and words, and for each line words by place.
      table: head and rows of a few of the values.
    """

    chart: Chart
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    curves: Sequence[dict[str, Any]]
    values: dict[str, Any]
    table: tuple[Sequence[str], Sequence[Sequence[str]]]


def plot(chart: Chart) -> Plot:
    """Place a chart.

    Args:
      chart: with at least one line that has a finite point.

    Example:
      >>> placed = plot(Chart("", "step", "return", [Line("a", [0, 10], [1.0, 3.0])]))
      >>> placed.curves[0]["line"], [text for _, text in placed.x_ticks]
      ('M0,94.64L100,5.36', ['0', '2', '4', '6', '8', '10'])
    """
    lines = [_thinned(line) for line in chart.lines if np.isfinite(np.asarray(line.y, float)).any()]
    left, right = _ends(np.concatenate([np.asarray(line.x, float) for line in lines]))
    left = min(left, 0.0) if left < _NEAR_ZERO * right else left
    low, high = _range(lines)
    across, up = _scale(left, right), _scale(high, low)
    curves = [_curve(line, across, up) for line in lines]
    x_ticks, y_ticks = ticks(left, right, 6, finest=1.0), ticks(low, high, 5)
    return Plot(
        chart,
        [(round(across(tick), 2), short(tick)) for tick in x_ticks],
        [(round(up(tick), 2), short(tick)) for tick in y_ticks],
        curves,
        _values(lines, across),
        _table(chart, lines),
    )


def _scale(start: float, end: float) -> Any:
    """What turns a number into per cent of the way from the one end to the other."""
    return lambda value: 100.0 * (value - start) / (end - start)


def _thinned(line: Line) -> Line:
    """At most so many points, the first and the last among them."""
    if len(line.x) <= _MOST_POINTS:
        return line
    kept = np.unique(np.linspace(0, len(line.x) - 1, _MOST_POINTS).round().astype(int))
    columns = {
        name: np.asarray(getattr(line, name), float)[kept]
        for name in ("x", "y", "low", "high")
        if getattr(line, name) is not None
    }
    return line._replace(**columns)


def _ends(values: np.ndarray) -> tuple[float, float]:
    """The least and the greatest; apart, if they are the same."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    """What the vertical axis shows: the curves but for what is wildly far from most, and the bands as far as is fit."""
    values = _finite([line.y for line in lines])
    first, third = np.percentile(values, [25.0, 75.0])
    reach = _WILD * (third - first)
    if reach > 0:
        values = values[(values >= first - reach) & (values <= third + reach)]
    low, high = _ends(values)
    ends = _finite([end for line in lines for end in (line.low, line.high) if end is not None])
    fit = _BAND * (high - low)
    lowest = max(low - fit, min(low, ends.min(initial=low)))
    highest = min(high + fit, max(high, ends.max(initial=high)))
    margin = _MARGIN * (highest - lowest)
    return lowest - margin, highest + margin


def _finite(parts: Sequence[Numbers]) -> np.ndarray:
    values = np.concatenate([np.empty(0), *(np.asarray(part, float) for part in parts)])
    return values[np.isfinite(values)]


def ticks(low: float, high: float, most: int, finest: float = 0.0) -> list[float]:
    """Round numbers between two ends: steps of 1, 2 or 5 times a power of ten, none finer than asked for.

    Example:
      >>> ticks(0.0, 9.0, 5), ticks(-0.1, 0.32, 5)
      ([0.0, 2.0, 4.0, 6.0, 8.0], [-0.1, 0.0, 0.1, 0.2, 0.3])
    """
    least = max((high - low) / most, finest)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(step for digit in (1, 2, 5, 10) if (step := digit * power) >= least * (1 - 1e-9))
    return [float(round(i * step, 12)) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def short(value: float, digits: int = 6) -> str:
    """A number for an axis, to so many digits.

    Example:
      >>> short(1_500_000.0), short(-40.0), short(0.00025)
      ('1.5M', '-40', '0.00025')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1000 * size and (size > 1e3 or abs(value) >= 1e4):
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def _curve(line: Line, across: Any, up: Any) -> dict[str, Any]:
    x, y = across(np.asarray(line.x, float)), up(np.asarray(line.y, float))
    has_band = line.low is not None and line.high is not None
    band = _band(x, up(np.asarray(line.low, float)), up(np.asarray(line.high, float))) if has_band else ""
    colour = "grey" if line.colour == GREY else f"c{line.colour % _NUM_COLOURS}"
    again = min(line.colour // _NUM_COLOURS, _NUM_DASHES) if line.colour != GREY else 0
    style = f"{line.style} again{again}" if again else line.style
    path = "".join(_path(run, closed=False) for run in _runs(x, y))
    is_dotted = line.style == "dots" and len(line.x) <= _MOST_DOTS
    dots = "".join(f"M{_point(place)}h0" for run in _runs(x, y) for place in run) if is_dotted else ""
    return {"name": line.name, "colour": colour, "style": style, "line": path, "band": band, "dots": dots}


def _runs(x: np.ndarray, y: np.ndarray) -> Iterator[list[tuple[float, float]]]:
    """The stretches without a gap; what is far out of the picture stays near it, as SVG cannot draw at 1e30."""
    run: list[tuple[float, float]] = []
    for place, height in zip(x, y, strict=True):
        if np.isfinite(height):
            run.append((float(place), float(np.clip(height, -1e3, 1e3))))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _band(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    both = np.isfinite(low) & np.isfinite(high)
    lower, upper = (list(_runs(x, np.where(both, end, np.nan))) for end in (low, high))
    return "".join(_path([*there, *back[::-1]], closed=True) for there, back in zip(lower, upper, strict=True))


def _path(points: Sequence[tuple[float, float]], closed: bool) -> str:
    return "M" + "L".join(map(_point, points)) + ("Z" if closed else "")


def _point(place: tuple[float, float]) -> str:
    return ",".join(f"{round(value, 2):g}" for value in place)


def _values(lines: Sequence[Line], across: Any) -> dict[str, Any]:
    """What is read at each place: the values of the lines that have one there."""
    places = sorted({float(x) for line in lines for x in line.x})
    at = [{float(x): i for i, x in enumerate(line.x)} for line in lines]
    words = [
        [_reading(line, i) if (i := found.get(x)) is not None else "" for x in places]
        for line, found in zip(lines, at, strict=True)
    ]
    return {
        "places": [round(float(across(x)), 2) for x in places],
        "x": [f"{x:,.10g}" for x in places],
        "names": [line.name for line in lines],
        "words": words,
    }


def _reading(line: Line, i: int) -> str:
    if not math.isfinite(line.y[i]):
        return ""
    ends = [] if line.low is None or line.high is None else [line.low[i], line.high[i]]
    interval = f" [{ends[0]:.4g}, {ends[1]:.4g}]" if ends and all(map(math.isfinite, ends)) else ""
    return f"{line.y[i]:.4g}{interval}"


def _table(chart: Chart, lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """A dozen of the places, for those who cannot see the curves."""
    places = sorted({float(x) for line in lines for x in line.x})
    kept = [places[i] for i in np.unique(np.linspace(0, len(places) - 1, 12).round().astype(int))]
    near = [[int(np.abs(np.asarray(line.x, float) - x).argmin()) for x in kept] for line in lines]
    rows = [
        [f"{x:,.10g}", *(_reading(line, found[row]) for line, found in zip(lines, near, strict=True))]
        for row, x in enumerate(kept)
    ]
    return [chart.x_label, *(line.name for line in lines)], rows
