"""All intervals of the project: what a mean over tasks, seeds, or both could as well have been.

Scores have an axis for each thing that was drawn at random: tasks, or seeds and tasks, where every seed met every task.
An interval is a bootstrap-t (Efron and Tibshirani, 1993): each axis is drawn from with replacement, as a whole, and the
value of each resample is measured in its own standard error. ``benchmarks/coverage.py`` compares it with others.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Statistic = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""``(scores [..., *drawn], number of drawn axes) -> (value [...], influence [..., *drawn])``: a statistic, and numbers
of which it is nearly the mean, up to a constant: how much they vary tells its standard error."""

_LEVEL = 0.95
_TAILS = ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2)
_RESAMPLES = (1_000, 4_000)  # at least, and at most
_NUMBERS = 2_000_000  # in all of them, if so many are enough
_FEW = 4  # of fewer, hardly any two resamples differ
_LEAST_ERROR = 0.2  # of a resample, in standard errors of the sample: one may happen to hold equal values only


class Interval(NamedTuple):
    """A statistic and the ends of its 95 % interval, ``[...]`` each; the ends are NaN if nothing was drawn twice."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean(scores: np.ndarray, drawn: int) -> tuple[np.ndarray, np.ndarray]:
    """A :data:`Statistic`: the mean."""
    return scores.mean(axis=_last(drawn)), scores


def interquartile_mean(scores: np.ndarray, drawn: int) -> tuple[np.ndarray, np.ndarray]:
    """A :data:`Statistic`: the mean of the middle half (:func:`iqm`), whose influence is Winsorised (Tukey, 1963)."""
    flat = np.sort(scores.reshape(*scores.shape[: scores.ndim - drawn], -1), axis=-1)
    count = flat.shape[-1]
    cut = count // 4
    ends = (flat[..., place].reshape(*flat.shape[:-1], *[1] * drawn) for place in (cut, count - 1 - cut))
    return _middle(flat), np.clip(scores, *ends) / (1 - 2 * cut / count)


def ratio_of_means(scores: np.ndarray, drawn: int) -> tuple[np.ndarray, np.ndarray]:
    """A :data:`Statistic` of pairs ``[2, ..., *drawn]``: the mean of the first over that of the second."""
    part, whole = scores
    axes = _last(drawn)
    value, length = part.mean(axis=axes) / whole.mean(axis=axes), whole.mean(axis=axes, keepdims=True)
    return value, (part - np.expand_dims(value, axes) * whole) / length


def _last(drawn: int) -> tuple[int, ...]:
    return tuple(range(-drawn, 0))


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
    return np.where(np.isnan(ordered[..., -1]), np.nan, _middle(ordered))


def _middle(ordered: np.ndarray) -> np.ndarray:
    count = ordered.shape[-1]
    middle: np.ndarray = ordered[..., count // 4 : count - count // 4].mean(axis=-1)
    return middle


def interval(
    scores: Sequence[float] | np.ndarray,
    statistic: Statistic = mean,
    *,
    drawn: int = 1,
    seed: int = 0,
    resamples: int | None = None,
) -> Interval:
    """A statistic of scores with its 95 % interval: a bootstrap-t; Student's of less than four scores.

    Args:
      scores: ``[..., *drawn]``, finite.
      statistic: of this module, or the like.
      drawn: how many of the last axes were drawn at random: 1 of tasks, 2 of seeds and tasks.
      seed: of the resamples.
      resamples: how many; as many as are affordable if None.

    Example:
      >>> [round(end.item(), 2) for end in interval([4.0, 6.0, 5.0])]
      [5.0, 2.52, 7.48]
    """
    scores = np.asarray(scores, float)
    value, influence = statistic(scores, drawn)
    sizes = scores.shape[-drawn:]
    error = standard_error(influence, drawn)
    if max(sizes) < 2:
        return Interval(value, *np.full((2, *value.shape), np.nan))
    if drawn == 1 and sizes[0] < _FEW:
        half = student_quantile(sizes[0] - 1) * error
        return Interval(value, value - half, value + half)
    number = resamples or int(np.clip(_NUMBERS // math.prod(sizes), *_RESAMPLES))
    values, influences = statistic(resampled(scores, drawn, number, seed), drawn)
    errors = np.maximum(standard_error(influences, drawn), _LEAST_ERROR * error[..., None])
    with np.errstate(invalid="ignore", divide="ignore"):  # where all scores, or all in the middle, are equal
        distance = np.nan_to_num((values - value[..., None]) / errors)
    low, high = np.quantile(distance, _TAILS, axis=-1)
    percentiles = np.quantile(values, _TAILS, axis=-1)  # where the middle is one value, it has no standard error
    ends = np.stack([value - high * error, value - low * error])
    return Interval(value, *np.where(error > 0, ends, percentiles))


def standard_error(influence: np.ndarray, drawn: int) -> np.ndarray:
    """The standard error of a mean over axes that were drawn independently: their variances add up (a little too much,
    since what depends on all of them is in each).

    Args:
      influence: ``[..., *drawn]``.
      drawn: how many of the last axes were drawn.

    Example:
      >>> standard_error(np.array([1.0, 3.0]), 1).item(), standard_error(np.array([[1.0, 3.0], [1.0, 3.0]]), 2).item()
      (1.0, 1.0)
    """
    variance = np.zeros(influence.shape[: influence.ndim - drawn])
    for axis in _last(drawn):
        size = influence.shape[axis]
        if size > 1:
            others = tuple(other for other in _last(drawn) if other != axis)
            along = influence.mean(axis=others) if others else influence
            variance = variance + along.var(axis=-1, ddof=1) / size
    return np.sqrt(variance)


def resampled(scores: np.ndarray, drawn: int, resamples: int, seed: int) -> np.ndarray:
    """Scores of which each drawn axis is drawn anew, with replacement: ``[..., *drawn] -> [..., resamples, *drawn]``.

    Example:
      >>> resampled(np.zeros((3, 40)), drawn=2, resamples=5, seed=0).shape
      (5, 3, 40)
    """
    generator = np.random.default_rng(seed)
    sizes = scores.shape[-drawn:]
    picks = [
        generator.integers(size, size=(resamples, *[1] * axis, size, *[1] * (drawn - 1 - axis)))
        for axis, size in enumerate(sizes)
    ]
    drawn_anew: np.ndarray = scores[(Ellipsis, *picks)]  # type: ignore[arg-type] # numpy takes it
    return drawn_anew


def percentile_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends between which 95 % of the resampled values lie, ``[resamples, ...] -> [...]``; of few, too narrow."""
    low, high = np.quantile(values, _TAILS, axis=0)
    return low, high


def student_quantile(degrees: float) -> float:
    """How many standard errors each way hold 95 %, by Student's distribution.

    Example:
      >>> round(student_quantile(9), 3), round(student_quantile(1e9), 3)
      (2.262, 1.96)
    """
    return float(_student(np.asarray(degrees)))


def _student(degrees: np.ndarray) -> np.ndarray:
    from scipy.special import stdtrit  # slow to import, and no training needs it

    quantiles: np.ndarray = stdtrit(degrees, _TAILS[1])
    return quantiles


def half_interval(values: np.ndarray) -> np.ndarray:
    """Half of the 95 % Student interval of the mean over the last axis; NaN are left out, ``[..., N] -> [...]``.

    Example:
      >>> half_interval(np.array([4.0, 6.0, 5.0, np.nan])).round(2).item()
      2.48
    """
    count = np.isfinite(values).sum(axis=-1)
    quantile = _student(np.maximum(count - 1, 0))
    half: np.ndarray = quantile * np.nanstd(values, axis=-1, ddof=1) / np.sqrt(count)
    return half


def improvements(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Whether one method is better than another: 1, or a half where they are equal, or 0.

    The mean over all of it is the probability of improvement (Agarwal et al., 2021).

    Args:
      ours: ``[seeds, tasks]``.
      theirs: ``[seeds, tasks]``, of the same tasks.

    Returns:
      ``[our seeds, their seeds, tasks]``.

    Example:
      >>> improvements(np.array([[1.0, 2.0]]), np.array([[0.0, 2.0]])).tolist()
      [[[1.0, 0.5]]]
    """
    return 0.5 + 0.5 * np.sign(ours[:, None] - theirs[None])


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The share of the scores above each threshold (Agarwal et al., 2021): ``[seeds, tasks], [N] -> [N]``.

    Example:
      >>> performance_profile(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([0.5, 2.0])).tolist()
      [0.75, 0.25]
    """
    ordered = np.sort(scores, axis=None)
    share: np.ndarray = 1.0 - np.searchsorted(ordered, thresholds, side="right") / ordered.size
    return share
