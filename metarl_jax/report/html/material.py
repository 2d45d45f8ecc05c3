"""What a report is about: runs, grouped by method, with what they have written."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarl_jax.checks import Refusal
from metarl_jax.config import Config
from metarl_jax.ops.statistics import interquartile_mean, interval, iqm
from metarl_jax.report.html.charts import Line
from metarl_jax.runs.build import Experiment, build
from metarl_jax.runs.directory import evaluations_in
from metarl_jax.runs.provenance import read_starts
from metarl_jax.runs.run import UNTRACKED, Run, load, read_config
from metarl_jax.tracking.jsonl import read_metrics

FEWEST_SEEDS = 3
"""Of fewer, an interval is so wide that it hides the curves."""

Row = Mapping[str, Any]
Value = Callable[[Row], float | None]


class Written:
    """What one run has written so far, read when asked for.

    Args:
      directory: of the run.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Of ``metrics.jsonl``."""
        return read_metrics(self.directory)

    @cached_property
    def planned(self) -> int:
        """Updates that it is to have."""
        return read_config(self.directory, UNTRACKED).training.num_iterations

    @cached_property
    def starts(self) -> list[dict[str, Any]]:
        """Of ``provenance.jsonl``."""
        return read_starts(self.directory)

    @cached_property
    def evaluations(self) -> list[dict[str, Any]]:
        """All that can be read, by name of the file."""
        return [found for path in evaluations_in(self.directory) if (found := _read(path)) is not None]

    @cached_property
    def loaded(self) -> tuple[Run | None, list[str]]:
        """The trained run, if it can be had here, and what has to be said of that."""
        told: list[str] = []
        try:
            return load(self.directory, report=told.append), told
        except (Refusal, ImportError) as error:
            return None, [*told, str(error)]


def _read(path: Path) -> dict[str, Any] | None:
    """An evaluation; None of a file that is something else, or of an older version."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        return found if {"mean_return", "per_task_return", "settings"} <= found.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


class Subject(NamedTuple):
    """Runs that differ in their seeds alone, and perhaps in how long they are.

    Attributes:
      name: of the method, unlike the others'.
      config: of the first run.
      runs: by seed.
      experiment: what the config makes; None where that cannot be made here.
    """

    name: str
    config: Config
    runs: Mapping[int, Written]
    experiment: Experiment | None = None


def subject(name: str, config: Config, runs: Mapping[int, Path]) -> Subject:
    """Runs of one method as they lie in their directories.

    Args:
      name: of the method.
      config: of the first run.
      runs: directories by seed.
    """
    with suppress(Refusal, ImportError):
        return Subject(name, config, _written(runs), build(config))
    return Subject(name, config, _written(runs))


def _written(runs: Mapping[int, Path]) -> dict[int, Written]:
    return {seed: Written(directory) for seed, directory in runs.items()}


class Material(NamedTuple):
    """What a report is made of.

    Attributes:
      subjects: the runs, by method.
      studies: directories of the studies that the runs are from, with whether high objectives are good.
      episodes: whether to play episodes; else no checkpoint is read.
    """

    subjects: Sequence[Subject]
    studies: Sequence[tuple[Path, bool]] = ()
    episodes: bool = True


def runs_of(material: Material) -> Iterator[tuple[str, Written]]:
    """All runs, with what to call each."""
    for subject in material.subjects:
        for seed, run in subject.runs.items():
            name = subject.name if len(subject.runs) == 1 else f"{subject.name}, seed {seed}"
            yield (name if len(material.subjects) > 1 or len(subject.runs) == 1 else f"seed {seed}"), run


def curve(subject: Subject, name: str, value: Value, colour: int, style: str = "solid") -> Line | None:
    """How a number of training goes: of several seeds their interquartile mean, with its 95 % interval.

    Args:
      subject: the runs.
      name: in the legend.
      value: of a row; None if the row lacks it.
      colour: of the line.
      style: of the line.

    Returns:
      Against environment steps, at the updates that all seeds have; None if no row has the number.
    """
    by_update = [_by_update(run.rows, value) for run in subject.runs.values()]
    shared = sorted(set.intersection(*(set(found) for found in by_update)))
    if not shared:
        return None
    steps, values = (np.array([[found[i][part] for i in shared] for found in by_update]) for part in (0, 1))
    middle, low, high = over_seeds(values)
    return Line(name, steps.mean(axis=0), middle, low, high, colour, style)


def _by_update(rows: Sequence[Row], value: Value) -> dict[int, tuple[float, float]]:
    """Environment steps and the number, by update; NaN where it was not finite."""
    found = ((row["iteration"], row["env_steps"], value(row)) for row in rows)
    return {update: (steps, number) for update, steps, number in found if number is not None}


def over_seeds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """The interquartile mean and, of at least three seeds, the ends of its interval, ``[seeds, N] -> [N]`` each.

    NaN where a seed has no number.
    """
    if len(values) < FEWEST_SEEDS:
        return iqm(values.T), None, None
    whole = np.isfinite(values).all(axis=0)
    ends = np.full((3, values.shape[1]), np.nan)
    if whole.any():
        ends[:, whole] = interval(values[:, whole].T, interquartile_mean)
    return ends[0], ends[1], ends[2]


def number(name: str, place: int | None = None) -> Value:
    """What reads a metric from a row: NaN where it was not finite, None where the row has no such metric.

    Args:
      name: of the metric.
      place: in the list, of one that is a list.
    """

    def value(row: Row) -> float | None:
        if name not in row:
            return None
        found = row[name] if place is None or row[name] is None else row[name][place]
        return float("nan") if found is None else float(found)

    return value
