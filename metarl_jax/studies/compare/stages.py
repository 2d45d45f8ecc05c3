"""Where runs are compared: at the largest number of environment steps that all of them have a checkpoint near."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarl_jax.checks import Refusal, require
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.directory import CHECKPOINTS
from metarl_jax.studies.compare.sources import Method, sees_task
from metarl_jax.tracking.jsonl import read_metrics

_NEAR = 0.1  # as a share of the steps at which runs are compared


class Stage(NamedTuple):
    """A run at one of its checkpoints.

    Attributes:
      directory: of the run.
      iteration: of the checkpoint.
      env_steps: taken until then.
      rows: of ``metrics.jsonl`` until then.
    """

    directory: Path
    iteration: int
    env_steps: int
    rows: Sequence[Mapping[str, Any]]


class Cut(NamedTuple):
    """All runs at the same stage.

    Attributes:
      env_steps: at which they are compared.
      stages: by name of the method, then by seed.
      longer: names of methods with runs that went on, of which the rest is left out.
    """

    env_steps: int
    stages: Mapping[str, Mapping[int, Stage]]
    longer: Sequence[str]


def cut(methods: Sequence[Method], most: float | None = None) -> Cut:
    """Find the checkpoints at which runs have taken equally many environment steps, nearly.

    An oracle is a bound, not one that competes: it need not have taken as many, and where it has, it is cut likewise.

    Args:
      methods: what is compared.
      most: environment steps; as many as all runs have if None.

    Raises:
      Refusal: if a run has no checkpoint, or none within a tenth of what all have.
    """
    saved = {run: _stages(run) for method in methods for run in method.runs.values()}
    equal = [method for method in methods if not sees_task(method.config)] or methods
    steps = min(saved[run][-1].env_steps for method in equal for run in method.runs.values())
    steps = steps if most is None else min(steps, int(most))
    chosen = {run: min(stages, key=lambda stage: abs(stage.env_steps - steps)) for run, stages in saved.items()}
    for run in (run for method in equal for run in method.runs.values()):
        has = ", ".join(f"{one.env_steps:,}" for one in saved[run])
        remedy = f"has checkpoints at {has} environment steps only, none near {steps:,}, which all runs have"
        hint = "leave it out, or train it again with a larger training.keep_checkpoints"
        require(abs(chosen[run].env_steps - steps) <= _NEAR * steps, "run", str(run), f"{remedy}: {hint}")
    by_method = {method.name: {seed: chosen[run] for seed, run in method.runs.items()} for method in methods}
    longer = [method.name for method in methods if any(saved[run][-1] != chosen[run] for run in method.runs.values())]
    return Cut(steps, by_method, longer)


def _stages(run: Path) -> list[Stage]:
    rows = read_metrics(run)
    iterations = [at for at in Checkpoints(run / CHECKPOINTS).steps() if rows and rows[0]["iteration"] <= at]
    if not iterations:
        raise Refusal("", None, f"{run} has no checkpoint with metrics yet: continue it with metarl resume {run}")
    updates, steps = ([0, *(row[key] for row in rows)] for key in ("iteration", "env_steps"))
    return [
        Stage(run, at, round(float(np.interp(at, updates, steps))), [row for row in rows if row["iteration"] <= at])
        for at in iterations
    ]
