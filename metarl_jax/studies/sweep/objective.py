"""What runs came to: the objective of each, read from what it wrote or measured on held-out tasks."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarl_jax.runs.directory import evaluation_files, write_atomically
from metarl_jax.runs.evaluation import evaluate
from metarl_jax.runs.run import load
from metarl_jax.studies.sweep.study import Objective
from metarl_jax.studies.sweep.sweep import Sweep
from metarl_jax.tracking.jsonl import finite_or_null, read_metrics


def measure(
    sweep: Sweep, directories: Mapping[int, Path], iteration: int, warn: Callable[[str], object]
) -> dict[int, float]:
    """The objective of each run of a trial; NaN where it is not finite.

    Args:
      sweep: the study.
      directories: of the runs, by seed; an evaluation is written there as ``metarl evaluate`` writes it.
      iteration: updates until now.
      warn: called with a sentence for each damaged checkpoint that is passed over.
    """
    objective = sweep.study.objective
    if objective.of == "training":
        return {seed: of_training(objective, read_metrics(run), iteration) for seed, run in directories.items()}
    return {seed: of_evaluation(objective, _evaluate(run, warn)) for seed, run in directories.items()}


def of_training(objective: Objective, rows: list[dict[str, Any]], iteration: int) -> float:
    """The mean of a metric over the last updates.

    Example:
      >>> rows = [{"iteration": i, "return_post": float(i)} for i in range(1, 6)]
      >>> of_training(Objective(of="training", last=2), rows, iteration=4)
      3.5
    """
    chosen = [row[objective.name] for row in rows if iteration - objective.last < row["iteration"] <= iteration]
    return float(np.mean([np.nan if value is None else value for value in chosen]))


def of_evaluation(objective: Objective, evaluation: Mapping[str, Any]) -> float:
    """A number of an evaluation after the last step of adaptation; of a method with trials, the total of one."""
    found = evaluation["total"]["mean_return"] if objective.name == "total" else evaluation[objective.name][-1]
    return float("nan") if found is None else float(found)


def _evaluate(run_dir: Path, warn: Callable[[str], object]) -> dict[str, Any]:
    run = load(run_dir, report=warn)
    result = {"checkpoint": run.iteration, **evaluate(run)}
    numbers = evaluation_files(run_dir, {}).numbers
    write_atomically(numbers, json.dumps(finite_or_null(result), indent=1, allow_nan=False) + "\n")
    return result
