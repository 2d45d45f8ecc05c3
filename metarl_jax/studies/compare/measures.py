"""What is measured of a method: effect on new tasks, cost, stability, and what it asks for."""

import json
import zlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from metarl_jax.config import Config, static_part
from metarl_jax.diagnostics.benchmark import compile_update, initial_state
from metarl_jax.diagnostics.timing import in_rounds, summary
from metarl_jax.runs.build import Experiment, declared_adaptation, with_config
from metarl_jax.runs.directory import evaluation_files, is_read_only
from metarl_jax.runs.evaluation import make_evaluation
from metarl_jax.runs.memory import memory_of
from metarl_jax.runs.run import UNTRACKED, Run, read_config, restore
from metarl_jax.studies.compare.sources import Setting, sees_task
from metarl_jax.studies.compare.stages import Stage
from metarl_jax.tracking.files import write_atomically
from metarl_jax.tracking.glossary import read
from metarl_jax.tracking.jsonl import finite_or_null

_ROUNDS = 3
_MILLION = 1e6


def evaluations(
    experiment: Experiment, stages: Sequence[Stage], given: Mapping[str, Any], warn: Callable[[str], object]
) -> list[dict[str, Any]]:
    """Meta-testing of runs that differ in their seeds: measured once, then read from their directories.

    Args:
      experiment: of one of them.
      stages: the runs.
      given: settings of :func:`metarl_jax.runs.evaluation.evaluate` in the place of the config's.
      warn: called with a sentence for each damaged checkpoint.

    Returns:
      The evaluation of each.
    """
    settings = {**experiment.config.evaluation.measurement, **given}
    measure: Callable[[Run], dict[str, Any]] | None = None
    found = []
    for stage in stages:
        file = evaluation_files(stage.directory, {**settings, "checkpoint": f"checkpoint{stage.iteration}"}).numbers
        result = _stored(file, settings)
        if result is None:
            measure = measure or make_evaluation(experiment, **given)
            own = with_config(experiment, read_config(stage.directory, UNTRACKED))
            restored = restore(own, stage.directory, stage.iteration, warn)
            run = Run(*own[:4], params=restored.state.params, iteration=restored.step)
            result = finite_or_null({"checkpoint": run.iteration, **measure(run)})
            try:
                write_atomically(file, json.dumps(result, indent=1, allow_nan=False) + "\n")
            except OSError as error:
                if not is_read_only(error):
                    raise
        found.append(result)
    return found


def _stored(file: Any, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    result: dict[str, Any] = json.loads(file.read_text())
    return result if settings.items() <= result["settings"].items() else None


def scores_of(found: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Returns on the tasks that all runs have all episodes of, ``[K + 1, seeds, tasks]``; NaN elsewhere."""
    return np.moveaxis(np.array([one["per_task_return"] for one in found], float), 0, 1)


def cost(experiment: Experiment, known: MutableMapping[str, Any]) -> dict[str, Any]:
    """What an update costs on one device of this machine, per million of the environment steps that it takes.

    Args:
      experiment: what is trained.
      known: what has been measured before, to which this is added.

    Returns:
      ``seconds`` (of CPU time on a CPU, else of the device), ``flops`` that the traced program asks for,
      ``memory_bytes`` of the compiled one, and the ``device``.
    """
    device = jax.devices()[0]
    key = " ".join([f"{_fingerprint(experiment.config):08x}", device.device_kind, *map(version, ("metarl-jax", "jax"))])
    if key not in known:
        state = initial_state(experiment)
        update = compile_update(experiment, state)
        millions = int(update.program(state)[1]["steps_taken"]) / _MILLION
        taken = summary(in_rounds({"": update.program}, state, _ROUNDS, advance="")[""])
        memory = memory_of(update.program)
        known[key] = {
            "seconds": taken["cpu_seconds" if device.platform == "cpu" else "seconds"] / millions,
            "flops": sum(update.asked) / millions,
            "memory_bytes": None if memory is None else memory.total,
            "device": device.device_kind,
        }
    found: dict[str, Any] = known[key]
    return found


def _fingerprint(config: Config) -> int:
    return zlib.crc32(json.dumps(static_part(config), sort_keys=True).encode())


def stability(
    experiment: Experiment, stages: Mapping[int, Stage], final: np.ndarray, settings: Sequence[Setting]
) -> dict[str, Any]:
    """How far the seeds are apart, and what went wrong in training.

    Args:
      experiment: of one of the runs.
      stages: by seed.
      final: returns after all adaptation, ``[seeds, tasks]``.
      settings: of the study that they are from.

    Returns:
      ``spread``: the standard deviation of the seeds' means, None of one seed; ``worst`` of these and ``worst_seed``;
      shares of updates ``skipped`` and of episodes ``dropped`` in training; ``sensitivity`` to what a study varies.
    """
    means = np.nanmean(final, axis=1)
    rows = [row for stage in stages.values() for row in stage.rows]
    training = experiment.config.training
    batches = declared_adaptation(experiment.config, experiment.algorithm).stages_per_update
    episodes = training.meta_batch_size * training.episodes_per_task * batches
    total = partial(_total, rows)
    return {
        "spread": float(means.std(ddof=1)) if len(means) > 1 else None,
        "worst": float(means.min()),
        "worst_seed": list(stages)[int(means.argmin())],
        "skipped": total("skipped") / len(rows),
        "dropped": total("episodes_dropped") / (episodes * len(rows)),
        "sensitivity": sensitivity(settings),
    }


def _total(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(sum(read(row, name) or 0 for row in rows))


def sensitivity(settings: Sequence[Setting]) -> dict[str, Any] | None:
    """How much the settings of a study matter.

    Args:
      settings: what became of them.

    Returns:
      The keys that were varied, how many settings, how many ``failed``, and of the others' objectives the ``highest``,
      the ``median`` and the ``lowest``; None without a study.

    Example:
      >>> found = sensitivity([Setting({"lr": "1"}, 1.0), Setting({"lr": "2"}, 5.0), Setting({"lr": "3"}, None)])
      >>> found["keys"], found["failed"], found["median"]
      (['lr'], 1, 3.0)
    """
    if not settings:
        return None
    objectives = [one.objective for one in settings if one.objective is not None]
    varied = [key for key in settings[0].values if len({one.values[key] for one in settings}) > 1]
    return {
        "keys": varied,
        "settings": len(settings),
        "failed": len(settings) - len(objectives),
        "highest": max(objectives),
        "median": float(np.median(objectives)),
        "lowest": min(objectives),
    }


def reach(experiment: Experiment) -> dict[str, Any]:
    """What a method was used for, and what it asks for, as it is declared."""
    family, policy = experiment.family, experiment.policy
    adaptation = declared_adaptation(experiment.config, experiment.algorithm)
    return {
        "actions": "discrete" if family.action.discrete else "continuous",
        "observations": "image" if len(family.observation_shape) == 3 else "vector",
        "memory": bool(jax.tree.leaves(jax.eval_shape(lambda: policy.initial_carry(1)))),
        "second_derivatives": adaptation.second_derivatives,
        "sees_task": sees_task(experiment.config),
    }
