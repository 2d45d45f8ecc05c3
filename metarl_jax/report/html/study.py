"""What a study came to: its settings, a heat map of two keys, how the best and the others learned."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps

from metarl_jax.ops.statistics import iqm
from metarl_jax.report.html.blocks import Block, Cells, Plots, Section, Table, Text
from metarl_jax.report.html.charts import GREY, Chart, Line, plot
from metarl_jax.report.html.material import Material, over_seeds
from metarl_jax.report.html.words import BLANK
from metarl_jax.runs.directory import runs_in
from metarl_jax.tracking.glossary import label
from metarl_jax.tracking.jsonl import read_metrics

STUDY = "study.csv"
_TOLD = ("trial", "state", "updates", "objective")
_SEED = "seed "
_MOST_ROWS = 20
_MOST_CURVES = 4
_MOST_GREY = 30


class _Trial(NamedTuple):
    """One setting: its objective is None if it failed."""

    number: int
    state: str
    values: Mapping[str, str]
    objective: float | None
    seeds: Sequence[float]


def studies(material: Material) -> Section | None:
    """All studies that were given."""
    blocks = [block for directory, maximizes in material.studies for block in _study(directory, maximizes)]
    return Section("study", "Study", blocks) if blocks else None


def _study(directory: Path, maximizes: bool) -> list[Block]:
    trials = read_trials(directory / STUDY, maximizes)
    keys = list(trials[0].values)
    note = f"The {'highest' if maximizes else 'lowest'} objective is the best; IQM [lowest, highest] over seeds."
    rows = [_row(trial) for trial in trials]
    head = ["trial", "objective", *keys, "state"]
    told = Table(f"{directory.name}: the best settings", head, rows[:_MOST_ROWS], marked=(0,))
    rest = Table(
        f"{len(rows) - _MOST_ROWS} more", ["trial", "objective", *keys, "state"], rows[_MOST_ROWS:], folded=True
    )
    curves = [line for place, trial in enumerate(trials) if (line := _curve(directory, trial, place)) is not None]
    chart = Chart("How settings learn, the best in colour", label("env_steps"), "return after adaptation", curves)
    return [
        Text(note),
        told,
        *([rest] if len(rows) > _MOST_ROWS else []),
        *_heat_map(trials, keys, maximizes),
        *([Plots([plot(chart)])] if curves else []),
    ]


def read_trials(file: Path, maximizes: bool) -> list[_Trial]:
    """The settings of a study, the best first: of those that finished; then others; then those that failed.

    Args:
      file: ``study.csv``.
      maximizes: whether high objectives are good.
    """
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    trials = [
        _Trial(
            int(row["trial"]),
            row["state"],
            {key: value for key, value in row.items() if key not in _TOLD and not key.startswith(_SEED)},
            float(row["objective"]) if row["objective"] else None,
            [float(value) for key, value in row.items() if key.startswith(_SEED) and value],
        )
        for row in rows
    ]
    sign = -1.0 if maximizes else 1.0
    return sorted(trials, key=lambda one: (one.objective is None, one.state != "finished", sign * (one.objective or 0)))


def _row(trial: _Trial) -> list[str]:
    spread = f" [{min(trial.seeds):.4g}, {max(trial.seeds):.4g}]" if trial.seeds else ""
    objective = BLANK if trial.objective is None else f"{trial.objective:.4g}{spread}"
    return [str(trial.number), objective, *trial.values.values(), trial.state]


def _curve(directory: Path, trial: _Trial, place: int) -> Line | None:
    """The interquartile mean over seeds; with its interval, of the best."""
    if place >= _MOST_CURVES + _MOST_GREY:
        return None
    runs = [read_metrics(run) for run in runs_in(directory / "trials" / f"{trial.number:04d}")]
    length = min(map(len, runs), default=0)
    if not length:
        return None
    values = np.array([[row["return_post"] for row in run[:length]] for run in runs], float)
    steps = np.array([[row["env_steps"] for row in run[:length]] for run in runs], float).mean(axis=0)
    name = f"trial {trial.number}: " + ", ".join(
        f"{key.rpartition('.')[2]} {value}" for key, value in trial.values.items()
    )
    if place < _MOST_CURVES:
        return Line(name, steps, *over_seeds(values), colour=place)
    return Line(name, steps, iqm(values.T), colour=GREY)


def _heat_map(trials: Sequence[_Trial], keys: Sequence[str], maximizes: bool) -> list[Cells]:
    """The mean objective against the two keys of which most values were tried, if there are two."""
    tried = {key: _in_order({trial.values[key] for trial in trials}) for key in keys}
    varied = sorted((key for key in keys if len(tried[key]) > 1), key=lambda key: -len(tried[key]))[:2]
    if len(varied) < 2 or any(len(tried[key]) > 12 for key in varied):
        return []
    x, y = varied
    found: dict[tuple[str, str], list[float]] = {}
    for trial in trials:
        cell = found.setdefault((trial.values[x], trial.values[y]), [])
        cell += [] if trial.objective is None else [trial.objective]
    shown = _Shown({place: float(np.mean(cell)) if cell else None for place, cell in found.items()}, maximizes)
    rows = [(of_y, [shown.cell((of_x, of_y)) for of_x in tried[x]]) for of_y in tried[y]]
    return [Cells("Objective against two keys", x, y, tried[x], rows)]


def _in_order(values: set[str]) -> list[str]:
    """By size, if all are numbers."""
    try:
        return sorted(values, key=float)
    except ValueError:
        return sorted(values)


class _Shown(NamedTuple):
    """Mean objectives by the values of two keys, None where all failed; bright is good."""

    means: Mapping[tuple[str, str], float | None]
    maximizes: bool

    def cell(self, place: tuple[str, str]) -> tuple[str, str, str]:
        """Its text, colour and ink."""
        if (mean := self.means.get(place)) is None:
            return "failed" if place in self.means else BLANK, "transparent", "inherit"
        known = [value for value in self.means.values() if value is not None]
        low, high = min(known), max(known)
        share = (mean - low) / (high - low) if high > low else 1.0
        red, green, blue, _ = colormaps["viridis"](share if self.maximizes else 1 - share)
        ink = "#000" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "#fff"
        return f"{mean:.4g}", f"rgb({255 * red:.0f} {255 * green:.0f} {255 * blue:.0f})", ink
