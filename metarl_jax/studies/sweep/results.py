"""What a study came to: a row for each trial, a table, a heat map and learning curves."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.table import Table

from metarl_jax.checks import require
from metarl_jax.config.errors import show
from metarl_jax.ops.statistics import interquartile_mean, interval, iqm
from metarl_jax.report.sweeps import Curve, HeatMap, plot_heat_maps, plot_learning, sweep_table
from metarl_jax.runs.directory import write_atomically
from metarl_jax.studies.sweep.points import Point
from metarl_jax.studies.sweep.study import RECORD, Study
from metarl_jax.studies.sweep.trials import Trial, trial_directory
from metarl_jax.tracking.glossary import label
from metarl_jax.tracking.jsonl import read_metrics

CSV = "study.csv"
HEAT_MAP = "heat_map.png"
LEARNING = "learning.png"
_MOST_PANELS = 6
_MOST_CURVES = 5
_MOST_ROWS = 20
_RESAMPLES = 1_000  # of a curve, which has many points


def ranked(study: Study, trials: Sequence[Trial]) -> list[Trial]:
    """The best first: those that finished, then those that were halved, the later the better; failed ones last."""
    sign = -1 if _maximizes(study) else 1

    def rank(trial: Trial) -> tuple[Any, ...]:
        reached = max(trial.scores, default=0)
        return trial.objective is None, -reached, sign * (trial.objective or 0.0), trial.number

    return sorted(trials, key=rank)


def _maximizes(study: Study) -> bool:
    return study.objective.direction == "maximize"


def to_csv(study: Study, seeds: Sequence[int], trials: Sequence[Trial]) -> str:
    """A row for each trial: state, updates, setting, objective and that of each seed. Nothing in it tells the time.

    Example:
      >>> study = Study(config="maml_navigation", grid={"algorithm.inner_lr": (0.1,)})
      >>> trial = Trial(0, {"algorithm.inner_lr": 0.1}, "finished", {10: 2.5}, {1: 2.0, 2: 3.0})
      >>> print(to_csv(study, (1, 2), [trial]), end="")
      trial,state,updates,algorithm.inner_lr,objective,seed 1,seed 2
      0,finished,10,0.1,2.5,2.0,3.0
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "updates", *study.keys, "objective", *(f"seed {seed}" for seed in seeds)])
    for trial in trials:
        values = [_cell(trial.values[key]) for key in study.keys]
        scores = [trial.seeds.get(seed) for seed in seeds]
        writer.writerow([trial.number, trial.state, max(trial.scores, default=""), *values, trial.objective, *scores])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return value if isinstance(value, float | int | str) and not isinstance(value, bool) else show(value)


def write_results(
    study: Study, seeds: Sequence[int], trials: Sequence[Trial], directory: Path, keys: Sequence[str] = ()
) -> list[Path]:
    """Write ``study.csv``, beside what was asked for, and the pictures.

    Args:
      study: what was asked for.
      seeds: of each setting.
      trials: all of them.
      directory: of the study.
      keys: the two of the heat map; those with the most values if not given.

    Returns:
      What was written.
    """
    write_atomically(directory / RECORD, yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    write_atomically(directory / CSV, to_csv(study, seeds, trials))
    written = [directory / CSV]
    if chosen := heat_map_keys(study, trials, keys):
        plot_heat_maps(
            heat_maps(study, trials, *chosen), directory / HEAT_MAP, objective_in_words(study), _maximizes(study)
        )
        written.append(directory / HEAT_MAP)
    curves = learning_curves(study, seeds, trials, directory)
    plot_learning(curves, directory / LEARNING, metric_in_words(study_metric(study)))
    return [*written, directory / LEARNING]


def short(study: Study) -> dict[str, str]:
    """What a key is called where there is little room: without its section, unless two keys then were the same.

    Example:
      >>> short(Study(config="x", grid={"algorithm.name": ("maml",), "algorithm.inner_lr": (1.0,), "seedless": (1,)}))
      {'algorithm.name': 'algorithm', 'algorithm.inner_lr': 'inner_lr', 'seedless': 'seedless'}
    """
    ends = [key.removesuffix(".name").rpartition(".")[2] for key in study.keys]
    return {key: key if ends.count(end) > 1 else end for key, end in zip(study.keys, ends, strict=True)}


def in_words(study: Study, values: Point) -> str:
    """A setting in one line."""
    return ", ".join(f"{name} {shown(values[key])}" for key, name in short(study).items())


def shown(value: Any) -> str:
    """A value for a table or a picture.

    Example:
      >>> shown(0.00125), shown("maml"), shown((64, 64))
      ('0.00125', 'maml', '[64, 64]')
    """
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else show(value)


def study_metric(study: Study) -> str:
    """The number of training that the learning curves show: the objective, if it is one."""
    return study.objective.name if study.objective.of == "training" else "return_post"


def heat_map_keys(study: Study, trials: Sequence[Trial], wanted: Sequence[str] = ()) -> tuple[str, str] | None:
    """The two keys of the heat map.

    Args:
      study: what was asked for.
      trials: all of them.
      wanted: two keys, whole or without their sections; if empty, the two of which most values were tried.

    Returns:
      The horizontal and the vertical one; None if fewer than two keys are varied.

    Raises:
      Refusal: if one is not varied.
    """
    if wanted:
        by_name = {name: key for key, name in short(study).items()} | {key: key for key in study.keys}
        for key in wanted:
            require(key in by_name, "keys", key, f"is not varied; choose two of {', '.join(study.keys)}")
        return by_name[wanted[0]], by_name[wanted[1]]
    tried = {key: {shown(trial.values[key]) for trial in trials} for key in study.keys}
    varied = [key for key in study.keys if len(tried[key]) > 1]
    varied.sort(key=lambda key: (not _is_numeric(trials, key), -len(tried[key])))
    return (varied[0], varied[1]) if len(varied) > 1 else None


def _is_numeric(trials: Sequence[Trial], key: str) -> bool:
    values = (trial.values[key] for trial in trials)
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def heat_maps(study: Study, trials: Sequence[Trial], x: str, y: str) -> list[HeatMap]:
    """The objective against two keys: a panel for each setting of the others, or one over all if these are many."""
    others = [key for key in study.keys if key not in (x, y)]
    settings = [tuple(shown(trial.values[key]) for key in others) for trial in trials]
    panels = list(dict.fromkeys(settings))
    if len(panels) > _MOST_PANELS:
        panels, settings = [()], [()] * len(trials)
    names = short(study)

    def panel(setting: tuple[str, ...]) -> HeatMap:
        title = ", ".join(f"{names[key]} {value}" for key, value in zip(others, setting, strict=False))
        of_panel = [trial for trial, its in zip(trials, settings, strict=True) if its == setting]
        points = [(trial.values[x], trial.values[y], trial.objective) for trial in of_panel]
        return HeatMap(title, names[x], names[y], points)

    return [panel(setting) for setting in panels]


def learning_curves(study: Study, seeds: Sequence[int], trials: Sequence[Trial], directory: Path) -> list[Curve]:
    """The learning curve of each setting, the best first: interquartile mean over seeds; an interval for the best."""
    curves, metric = [], study_metric(study)
    for place, trial in enumerate(ranked(study, trials)):
        written = [read_metrics(trial_directory(directory, trial.number) / f"seed-{seed}") for seed in seeds]
        runs = [[row for row in rows if metric in row] for rows in written]  # evaluations are not due at every update
        length = min(map(len, runs))
        if length:
            rows = np.array([[_number(row[metric]) for row in run[:length]] for run in runs])
            interval = _interval(rows.T) if place < _MOST_CURVES else None
            updates = [row["iteration"] for row in runs[0][:length]]
            curves.append(Curve(in_words(study, trial.values), updates, iqm(rows.T), interval))
    return curves


def _interval(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the interquartile mean at each point of a curve, ``[points, seeds]``; NaN where a seed is not finite."""
    _, low, high = interval(rows, interquartile_mean, resamples=_RESAMPLES)
    return low, high


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def table(study: Study, trials: Sequence[Trial]) -> Table:
    """The settings, the best first, as many as fit on a screen."""
    best = ranked(study, trials)
    left_out = f"; {len(best) - _MOST_ROWS} more in {CSV}" if len(best) > _MOST_ROWS else ""
    names = short(study)
    rows = [
        [str(trial.number), _outcome(trial), *(shown(trial.values[key]) for key in names)]
        for trial in best[:_MOST_ROWS]
    ]
    title = f"settings, the best first: {objective_in_words(study)}"
    return sweep_table(
        title, ["trial", "objective", *names.values()], rows, f"IQM [lowest, highest] over seeds{left_out}"
    )


def _outcome(trial: Trial) -> str:
    if trial.objective is None:
        return "failed"
    seeds = [score for score in trial.seeds.values() if score is not None]
    after = f" after {max(trial.scores)}" if trial.state == "halved" else ""
    return f"{trial.objective:.4g} [{min(seeds):.4g}, {max(seeds):.4g}]{after}"


def objective_in_words(study: Study) -> str:
    """What the colours of a heat map mean."""
    objective = study.objective
    if objective.of == "training":
        return f"{metric_in_words(objective.name)}, last {objective.last} updates"
    return f"{objective.name.replace('_', ' ')} on held-out tasks after adaptation"


def metric_in_words(metric: str) -> str:
    """A number of training, for an axis or a title.

    Example:
      >>> metric_in_words("return_post"), metric_in_words("grad_norm")
      ('return on training tasks after adaptation', 'grad norm')
    """
    return f"{label('return_per_stage')} {label(metric)}" if metric in ("return_pre", "return_post") else label(metric)
