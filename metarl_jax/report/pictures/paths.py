"""Draw where the points of a navigation task went, before and after adaptation, with Matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metarl_jax.types import Array, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = 3.4  # inches
DPI = 100
MARGIN = 0.08  # of the width shown


def draw_paths(
    stages: Sequence[Array | np.ndarray],
    path: str | Path,
    labels: Sequence[str] = ("before adaptation", "after adaptation"),
    *,
    goal: Array | np.ndarray | None = None,
    walls: Sequence[np.ndarray] = (),
) -> None:
    """Save the paths of some episodes as a picture, one panel for each stage of adaptation.

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

    require(len(labels) == len(stages), "labels", tuple(labels), f"give one for each of {len(stages)} stages")
    figure = Figure(figsize=(PANEL * len(stages), PANEL + 0.3), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(stages), squeeze=False, sharex=True, sharey=True)[0]
    for axes, paths, label in zip(panels, stages, labels, strict=True):
        _draw_task(axes, goal, walls)
        for positions in np.asarray(paths).swapaxes(0, 1):
            axes.plot(*positions.T, color="#1f6f8b", linewidth=0.9, alpha=0.7)
            axes.plot(*positions[-1], "o", color="#1f6f8b", markersize=3)
        axes.set_title(label, fontsize=10)
        axes.set_aspect("equal")
        axes.margins(MARGIN)
    figure.savefig(path)


def _draw_task(axes: "Axes", goal: Array | np.ndarray | None, walls: Sequence[np.ndarray]) -> None:
    axes.plot(0.0, 0.0, "+", color="#888888", markersize=8)
    if goal is not None:
        axes.plot(*np.asarray(goal), "*", color="#c1572b", markersize=12, zorder=3)
    for line in walls:
        axes.plot(*np.asarray(line).T, color="#3b3b44", linewidth=2.0)
