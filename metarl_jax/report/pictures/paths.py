"""Draw where the points of a navigation task went, before and after adaptation, with Matplotlib."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl_jax.types import Array, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = 4.0  # inches
DPI = 100
MARGIN = 0.08  # of the width shown
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")  # told apart by the colour-blind, too
GOAL, START, WALL = "#d1261b", "#000000", "#3b3b44"
HEAD_AND_LEGEND = 0.7  # inches
ON_TOP = 4


def draw_paths(
    stages: Sequence[Array | np.ndarray],
    path: str | Path,
    labels: Sequence[str] = ("before adaptation", "after adaptation"),
    *,
    goal: Array | np.ndarray | None = None,
    walls: Sequence[np.ndarray] = (),
) -> None:
    """Save the paths of some episodes as a picture, a colour for each and a panel for each stage of adaptation.

    Args:
      stages: positions ``[T, B, 2]`` of each stage.
      path: the picture to write; Matplotlib knows the format by the suffix.
      labels: a title for each panel.
      goal: ``[2]`` a place to mark.
      walls: lines ``[points, 2]``.

    Raises:
      ValueError: if there are not as many labels as stages.

    Example:
      >>> import tempfile
      >>> there = np.linspace(0, 2, 11)[:, None, None] * np.ones((1, 3, 2))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     draw_paths([0.1 * there, there], f"{folder}/paths.png", goal=np.array([2.0, 2.0]))
      ...     Path(f"{folder}/paths.png").exists()
      True
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    require(len(labels) == len(stages), "labels", tuple(labels), f"give one for each of {len(stages)} stages")
    figure = Figure(figsize=(PANEL * len(stages), PANEL + HEAD_AND_LEGEND), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(stages), squeeze=False, sharex=True, sharey=True)[0]
    for axes, paths, label in zip(panels, stages, labels, strict=True):
        for positions, colour in zip(np.asarray(paths).swapaxes(0, 1), cycle(COLOURS)):
            axes.plot(*positions.T, color=colour, linewidth=0.9, alpha=0.75)
            axes.plot(*positions[-1], "o", color=colour, markeredgecolor="white", markersize=6, zorder=ON_TOP)
        _draw_task(axes, np.asarray(paths)[0, 0], goal, walls)
        axes.set_title(label, fontsize=10)
        axes.set_aspect("equal")
        axes.margins(MARGIN)
    handles, names = panels[0].get_legend_handles_labels()
    ends = Line2D([], [], linestyle="", marker="o", color=COLOURS[0], label="end of an episode")
    figure.legend([*handles, ends], [*names, str(ends.get_label())], loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path)


def _draw_task(axes: "Axes", start: np.ndarray, goal: Array | np.ndarray | None, walls: Sequence[np.ndarray]) -> None:
    """What stays the same in all episodes, above their paths."""
    for line in walls:
        axes.plot(*np.asarray(line).T, color=WALL, linewidth=2.0)
    marker: dict[str, Any] = {"linestyle": "", "markeredgecolor": "white", "zorder": ON_TOP + 1}
    axes.plot(*start, marker="s", color=START, markersize=7, label="start", **marker)
    if goal is not None:
        axes.plot(*np.asarray(goal), marker="*", color=GOAL, markersize=15, label="goal", **marker)
