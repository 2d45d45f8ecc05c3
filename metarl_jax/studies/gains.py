"""What adaptation gains, with intervals over tasks."""

from typing import Any

import numpy as np

from metarl_jax.checks import require
from metarl_jax.ops.statistics import Interval, half_interval, interval, ratio_of_means

_PAIRED_BY = ("num_tasks", "distribution", "seed")


def per_task_return(evaluation: dict[str, Any]) -> np.ndarray:
    """Returns of an evaluation, ``[K + 1, tasks]``; NaN of a task that lost all its episodes."""
    return np.array(evaluation["per_task_return"], float)


def paired_gain(evaluation: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """What a task gains over its own return before adaptation.

    Args:
      evaluation: of a run.

    Returns:
      The mean over tasks after each number of steps, ``[K + 1]``, and half of its 95 % interval.

    Example:
      >>> mean, half = paired_gain({"per_task_return": [[0.0, 500.0], [1.0, 503.0]]})
      >>> mean.tolist(), half.round(1).tolist()
      ([0.0, 2.0], [0.0, 12.7])
    """
    returns = per_task_return(evaluation)
    gain = returns - returns[:1]
    return np.nanmean(gain, axis=1), half_interval(gain)


def normalised_gain(evaluation: dict[str, Any], oracle: dict[str, Any]) -> np.ndarray:
    """The share covered of the way from a random policy to one that sees its task.

    ``(mean return - mean random return before) / (mean oracle return - mean random return before)``, with its 95 %
    interval over tasks. All three have met the same tasks, so a resample takes all three returns of a task together. A
    task in which one of them is NaN is left out.

    Args:
      evaluation: of a run, with its ``random_initialisation``.
      oracle: evaluation of the policy that sees its task, on the same tasks.

    Returns:
      The gain and the ends of its interval after each number of steps, ``[3, K + 1]``.

    Raises:
      Refusal: if the tasks are not the same.

    Example:
      >>> run = {"per_task_return": [[0.0, 2.0], [3.0, 5.0]], "settings": {}}
      >>> run["random_initialisation"] = {"per_task_return": [[0.0, 2.0]]}
      >>> normalised_gain(run, {"per_task_return": [[4.0, 6.0]], "settings": {}})[:, 1].tolist()
      [0.75, 0.75, 0.75]
    """
    ours, theirs = (tuple(x["settings"].get(name) for name in _PAIRED_BY) for x in (evaluation, oracle))
    require(ours == theirs, "oracle", theirs, f"evaluate it on the tasks of the runs: {', '.join(_PAIRED_BY)} = {ours}")
    start, best = per_task_return(evaluation["random_initialisation"])[0], per_task_return(oracle)[0]
    return np.transpose([_share(returns - start, best - start) for returns in per_task_return(evaluation)])


def _share(part: np.ndarray, whole: np.ndarray) -> Interval:
    both = np.stack([part, whole])
    both = both[:, np.isfinite(both).all(axis=0)]
    return interval(both, ratio_of_means) if both.size else Interval(*np.full(3, np.nan))
