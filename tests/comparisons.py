"""Run directories that were never trained, and what a comparison would have measured of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl_jax.config import Config, config_from_dict, dump
from metarl_jax.runs.build import Experiment
from metarl_jax.runs.directory import CHECKPOINTS, CONFIG_FILE
from metarl_jax.studies.compare import measures
from metarl_jax.studies.compare.comparison import Settings, compare
from metarl_jax.studies.compare.sources import methods_in
from metarl_jax.studies.compare.stages import Stage
from metarl_jax.tracking.files import METRICS_FILE
from tests.helpers import tiny_config

MAML: dict[str, Any] = {"algorithm": {"name": "maml"}}
RL2: dict[str, Any] = {
    "algorithm": {"name": "rl2", "episodes_per_trial": 4, "kl_target": None},
    "policy": {"name": "recurrent", "hidden_size": 4, "hidden_sizes": None},
}
ORACLE: dict[str, Any] = {"algorithm": {"name": "pretraining"}, "tasks": {"oracle": True}}
LEVELS = {"maml": -2.0, "rl2": -4.0, "pretraining": -1.0}
"""What each method earns before adaptation, on a task worth nothing; a unit adds 1, or a quarter of an episode."""
NUM_TASKS = 12


def config_of(sections: Mapping[str, Any], **more: Any) -> Config:
    """TINY with these sections, of which None takes a key of TINY away."""
    tree = tiny_config().model_dump(mode="json", exclude={"policy", "algorithm"})
    policy = {
        key: value for key, value in {"hidden_sizes": [4], **sections.get("policy", {})}.items() if value is not None
    }
    algorithm = {key: value for key, value in sections["algorithm"].items() if value is not None}
    tasks = {**tree["tasks"], **sections.get("tasks", {})}
    return config_from_dict({**tree, "tasks": tasks, "policy": policy, "algorithm": algorithm, **more})


def write_run(directory: Path, config: Config, saved: Mapping[int, int], **row: Any) -> Path:
    """A run with checkpoints at these updates, when it had taken these environment steps."""
    directory.mkdir(parents=True)
    (directory / CONFIG_FILE).write_text(dump(config))
    rows = [{"iteration": at, "env_steps": steps, "computed_env_steps": steps, **row} for at, steps in saved.items()]
    (directory / METRICS_FILE).write_text("".join(json.dumps(one) + "\n" for one in rows))
    for iteration in saved:
        (directory / CHECKPOINTS / str(iteration)).mkdir(parents=True)
    return directory


def write_runs(folder: Path) -> list[Path]:
    """Three methods, of 3, 2 and 1 seeds."""
    numbers = {"maml": (MAML, 3), "rl2": (RL2, 2), "pretraining": (ORACLE, 1)}
    return [
        write_run(folder / name / f"seed-{seed}", config_of(sections, seed=seed), {4: 400, 5: 500}, skipped=seed % 2)
        for name, (sections, seeds) in numbers.items()
        for seed in range(seeds)
    ]


def compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a comparison of these runs comes to, with evaluations that are made up."""
    monkeypatch.setattr(measures, "evaluations", _evaluations)
    monkeypatch.setattr(measures, "cost", _cost)
    return compare(methods_in(write_runs(folder)), Settings(tasks=NUM_TASKS), {})


def _evaluations(
    experiment: Experiment, stages: Sequence[Stage], given: Mapping[str, Any], warn: object
) -> list[dict[str, Any]]:
    name, worth = experiment.config.algorithm.name, np.linspace(-0.5, 0.5, given["num_tasks"])
    units = given.get("num_inner_steps", experiment.config.evaluation.num_inner_steps)
    gain = 0.25 if name == "rl2" else 1.0
    return [
        {
            "settings": {},
            "per_task_return": [(LEVELS[name] + gain * k + 0.1 * i + worth).tolist() for k in range(units + 1)],
            "random_initialisation": {"per_task_return": [(worth - 6.0).tolist()] * (units + 1)},
        }
        for i in range(len(stages))
    ]


def _cost(experiment: Experiment, known: object) -> dict[str, Any]:
    return {"seconds": 2.0, "flops": 3e9, "memory_bytes": 2**20, "device": "cpu"}
