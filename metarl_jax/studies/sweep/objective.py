"""What runs came to: the objective of each, read from what it wrote or measured on held-out tasks."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from metarl_jax.runs.build import Experiment, declared_adaptation, with_config
from metarl_jax.runs.directory import evaluation_files, write_atomically
from metarl_jax.runs.evaluation import share_evaluations
from metarl_jax.runs.program import Program
from metarl_jax.runs.run import restored_run
from metarl_jax.runs.training import Lane
from metarl_jax.studies.sweep.study import Objective
from metarl_jax.tracking.jsonl import finite_or_null, read_metrics

Measure = Callable[[Program, Lane, int], float]
"""``(program, lane, updates so far) -> objective`` of one run; NaN if it is not finite."""


def make_measure(
    objective: Objective, warn: Callable[[str], object], devices: Sequence[jax.Device] | None = None
) -> Measure:
    """What measures runs.

    Evaluations compile once for all runs of a program, and are written into the runs' directories as ``metarl
    evaluate`` writes them.

    Args:
      objective: what of them.
      warn: called with a sentence for each damaged checkpoint that is passed over.
      devices: that share the tasks of an evaluation; all if None.
    """
    if objective.of == "training":
        return lambda program, lane, updates: of_training(objective, read_metrics(lane.directory), updates)
    evaluate = share_evaluations(devices)

    def measure(program: Program, lane: Lane, updates: int) -> float:
        experiment = with_config(program.experiment, lane.config)
        run = restored_run(experiment, lane.directory, report=warn)
        result = finite_or_null({"checkpoint": run.iteration, **evaluate(experiment, run)})
        numbers = evaluation_files(lane.directory, {}).numbers
        write_atomically(numbers, json.dumps(result, indent=1, allow_nan=False) + "\n")
        return of_evaluation(objective, result)

    return measure


def of_training(objective: Objective, rows: Sequence[Mapping[str, Any]], updates: int) -> float:
    """The mean of a metric over the last updates; where none of them reports it, over the last that do.

    So it is where patience has ended a run before, and of evaluations, which are not due at every update.

    Example:
      >>> rows = [{"iteration": i, "return_post": float(i)} for i in range(1, 6)]
      >>> of_training(Objective(of="training", last=2), rows, updates=4)
      3.5
    """
    reported = {row["iteration"]: row[objective.name] for row in rows if objective.name in row}
    due = [iteration for iteration in reported if iteration <= updates]
    end = updates if due[-1] > updates - objective.last else due[-1]
    values = [reported[iteration] for iteration in due if iteration > end - objective.last]
    return float(np.mean([np.nan if value is None else value for value in values]))


def of_evaluation(objective: Objective, evaluation: Mapping[str, Any]) -> float:
    """A number of an evaluation after the last step of adaptation; of a method with trials, the total of one.

    Example:
      >>> of_evaluation(Objective(), {"mean_return": [-2.0, -1.0]})
      -1.0
    """
    found = evaluation["total"]["mean_return"] if objective.name == "total" else evaluation[objective.name][-1]
    return float("nan") if found is None else float(found)


def names(objective: Objective, program: Program) -> list[str]:
    """The numbers that an objective can be of, for the method and the tasks of a program."""
    if objective.of == "evaluation":
        return _of_evaluations(program.experiment)
    info = program.lowered.out_info[1]
    is_number = {name: len(shape.shape) < len(info["return"].shape) for name, shape in info.items()}
    reported = [name for name in info if is_number[name] and name != "steps_taken"]
    settings = program.experiment.config.evaluation
    monitored = {"evaluation": settings.every, "validation": settings.validation_tasks}
    tested = [f"{name}_return_post" for name, asked in monitored.items() if asked is not None]
    return ["return_pre", "return_post", "env_steps", *tested, *reported]


def _of_evaluations(experiment: Experiment) -> list[str]:
    is_sampled = experiment.config.evaluation.test_policy == "stochastic"
    has_trials = is_sampled and declared_adaptation(experiment.config, experiment.algorithm).is_trial
    succeeds = experiment.family.success is not None
    return ["mean_return", *(["total"] if has_trials else []), *(["success_rate"] if succeeds else [])]
