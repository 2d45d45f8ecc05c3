"""Evaluation while training: how well the present parameters adapt to held-out tasks, and to those of validation.

The tasks are the same in each evaluation of a run, and in all its lanes: those that ``metarl evaluate`` measures, and
beside them those of validation. What happens in them is drawn anew for each update.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.collect.randomness import fold_in_each, stream
from metarl_jax.config import Config, EvaluationConfig
from metarl_jax.runs.build import Experiment, meta_test_sampler, with_test_budget
from metarl_jax.runs.evaluation import mean_over_episodes, mean_over_tasks
from metarl_jax.tracking.jsonl import to_row
from metarl_jax.types import Array, Info, Key, MetaAlgorithm, Params, Task


def num_monitored(config: Config) -> int:
    """Tasks in an evaluation while training: held-out ones, then those of validation."""
    return config.evaluation.num_tasks + (config.evaluation.validation_tasks or 0)


def monitor(experiment: Experiment, algorithm: MetaAlgorithm, params: Params, step: Array, indices: Array) -> Info:
    """Adapt to some of the tasks of an evaluation.

    Args:
      experiment: what is trained.
      algorithm: the method of a lane.
      params: the lane's meta-parameters.
      step: updates behind them.
      indices: ``[n]``, which of the :func:`num_monitored` tasks.

    Returns:
      See :func:`metarl_jax.runs.evaluation.mean_over_episodes`, ``[n, K + 1]``.
    """
    settings = experiment.config.evaluation
    tasks, keys = jax.tree.map(lambda leaf: leaf[indices], _draw(experiment, step))
    everyone = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(indices), *leaf.shape)), params)
    tested = with_test_budget(experiment.config, algorithm, settings.measurement)
    return mean_over_episodes(tested, experiment.family.success, (everyone, tasks, keys), settings.test_policy)


def _draw(experiment: Experiment, step: Array) -> tuple[Task, Key]:
    """All tasks of an evaluation, each with a key for what happens in it."""
    config, settings = experiment.config, experiment.config.evaluation
    held_out = meta_test_sampler(config, experiment.family, settings.distribution)
    sets = [("held_out_tasks", "evaluation_episodes", held_out, settings.num_tasks)]
    if settings.validation_tasks is not None:
        validation = experiment.family.sample_validation or experiment.family.sample
        sets.append(("validation_tasks", "validation_episodes", validation, settings.validation_tasks))
    drawn = [
        (
            jax.vmap(sample)(fold_in_each(stream(settings.seed, tasks), jnp.arange(number))),
            fold_in_each(jax.random.fold_in(stream(settings.seed, episodes), step), jnp.arange(number)),
        )
        for tasks, episodes, sample, number in sets
    ]
    together: tuple[Task, Key] = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *drawn)
    return together


def monitor_row(settings: EvaluationConfig, info: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What a row of ``metrics.jsonl`` says of an evaluation.

    Args:
      settings: of the evaluation.
      info: of all :func:`num_monitored` tasks, or more of which the first count, ``[tasks, K + 1]``.
      seconds: that it took.

    Returns:
      Metrics of the glossary.
    """
    row: dict[str, Any] = {}
    ends = np.cumsum([0, settings.num_tasks, settings.validation_tasks or 0])
    for name, first, last in zip(("evaluation", "validation"), ends, ends[1:], strict=False):
        if last > first:
            found = {key: np.asarray(value)[first:last].T for key, value in info.items()}
            has_data = found["dropped"] < settings.episodes_per_task
            means = {key: mean_over_tasks(found[key], has_data) for key in ("return", "success") if key in found}
            row |= {f"{name}_return_per_stage": means["return"], f"{name}_return_post": means["return"][-1]}
            row |= {f"{name}_success_rate": means["success"]} if "success" in means else {}
    return {**to_row(row), "evaluation_seconds": seconds}


class Patience(NamedTuple):
    """How long nothing has become better.

    Attributes:
      best: the validation return that the next is compared with; None before the first.
      waited: evaluations since.

    Example:
      >>> Patience().after(-2.0, 0.5).after(-1.75, 0.5).after(-1.0, 0.5)
      Patience(best=-1.0, waited=0)
    """

    best: float | None = None
    waited: int = 0

    def after(self, score: float | None, margin: float) -> "Patience":
        """After one more evaluation; a score that is not finite is None, and never better."""
        if score is not None and (self.best is None or score > self.best + margin):
            return Patience(score)
        return self._replace(waited=self.waited + 1)
