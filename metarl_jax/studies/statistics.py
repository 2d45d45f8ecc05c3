"""What adaptation gains, with intervals over tasks; and what runs come to, with intervals over seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from metarl_jax.checks import require
from metarl_jax.runs.evaluation import resamples

_SEED = 0  # of the bootstrap
_RESAMPLES = 1_000  # of a curve, which has many points
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
      >>> mean.tolist(), half.round(2).tolist()
      ([0.0, 2.0], [0.0, 1.96])
    """
    returns = per_task_return(evaluation)
    gain = returns - returns[:1]
    count = np.isfinite(gain).sum(axis=1)
    return np.nanmean(gain, axis=1), 1.96 * np.nanstd(gain, axis=1, ddof=1) / np.sqrt(count)


def normalised_gain(evaluation: dict[str, Any], oracle: dict[str, Any]) -> np.ndarray:
    """The share covered of the way from a random policy to one that sees its task.

    ``(mean return - mean random return before) / (mean oracle return - mean random return before)``, with a 95 %
    percentile bootstrap interval over tasks. All three have met the same tasks, so a resample takes all three returns
    of a task together. A task in which one of them is NaN is left out.

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
    return np.transpose([_ratio(returns - start, best - start) for returns in per_task_return(evaluation)])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Of the means over tasks, with the ends of its interval, ``[3]``."""
    both = np.stack([part, whole])
    both = both[:, np.isfinite(both).all(axis=0)]
    if not both.size:
        return np.full(3, np.nan)
    drawn = both[:, resamples(both.shape[1], _SEED)].mean(axis=-1)
    return np.array([both[0].mean() / both[1].mean(), *np.percentile(drawn[0] / drawn[1], [2.5, 97.5])])


def mean_and_half(values: np.ndarray) -> tuple[float, float]:
    """The mean, and half of its 95 % interval.

    Args:
      values: ``[N]``.

    Returns:
      Both, in the unit of the values.

    Example:
      >>> mean_and_half(np.array([4.0, 6.0, 4.0, 6.0]))
      (5.0, 0.98)
    """
    return float(values.mean()), float(1.96 * values.std() / np.sqrt(len(values)))


def iqm(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """The interquartile mean over the last axis (Agarwal et al., 2021): without the lowest and the highest quarter.

    Args:
      values: ``[..., N]``; of less than four, all count. NaN if one of them is.

    Returns:
      ``[...]``.

    Example:
      >>> iqm([1.0, 2.0, 4.0, 90.0]).item()
      3.0
    """
    ordered = np.sort(np.asarray(values, float))
    count = ordered.shape[-1]
    middle = ordered[..., count // 4 : count - count // 4].mean(axis=-1)
    return np.where(np.isnan(ordered[..., -1]), np.nan, middle)


def iqm_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of a 95 % stratified bootstrap interval of the interquartile mean over runs (Agarwal et al., 2021).

    Args:
      values: ``[strata, seeds, ...]``; seeds are drawn with replacement within each stratum on its own.

    Returns:
      Low and high, ``[...]``.

    Example:
      >>> low, high = iqm_interval(np.array([[1.0, 1.0], [5.0, 5.0]]))
      >>> low.item(), high.item()
      (3.0, 3.0)
    """
    strata, seeds = values.shape[:2]
    chosen = np.random.default_rng(_SEED).integers(seeds, size=(_RESAMPLES, strata, seeds))
    at_end = np.moveaxis(values, (0, 1), (-2, -1))
    drawn = [iqm(at_end[..., np.arange(strata)[:, None], pick].reshape(*values.shape[2:], -1)) for pick in chosen]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return low, high
