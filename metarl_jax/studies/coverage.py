"""How often intervals that say 95 % hold what they are about, on numbers whose truth is known."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from metarl_jax.ops.statistics import (
    interquartile_mean,
    interval,
    iqm,
    mean,
    percentile_interval,
    resampled,
    student_quantile,
)
from metarl_jax.studies.results import RESULTS, markdown, table, write

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Ends = tuple[np.ndarray, np.ndarray]

TASKS = (10, 20, 40)
SEEDS = ((2, 40), (3, 20), (3, 100), (5, 20), (5, 100), (10, 40))
"""Numbers of seeds and of tasks."""
_RESAMPLES = 1_000
_BLOCK = 50  # samples that are looked at together
_TRUTH = 2_000_000  # draws that tell the interquartile mean of a distribution


def _bimodal(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    is_learned = generator.random(shape) < 0.8
    return is_learned + 0.1 * generator.normal(size=shape)


def _success(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    chance = np.where(generator.random(shape) < 0.8, 0.95, 0.1)
    return generator.binomial(20, chance) / 20


DISTRIBUTIONS: Mapping[str, tuple[Draw, float]] = {
    "normal": (lambda generator, shape: generator.normal(size=shape), 0.0),
    "skewed: log-normal": (lambda generator, shape: generator.lognormal(size=shape), float(np.exp(0.5))),
    "heavy-tailed: Student, 3 degrees": (lambda generator, shape: generator.standard_t(3, size=shape), 0.0),
    "bimodal: four of five tasks learned": (_bimodal, 0.8),
    "success rates of 20 episodes": (_success, 0.8 * 0.95 + 0.2 * 0.1),
}
"""What tasks score, and its mean."""


def _percentile(scores: np.ndarray, seed: int) -> Ends:
    values, _ = mean(resampled(scores, 1, _RESAMPLES, seed), 1)
    return percentile_interval(np.moveaxis(values, -1, 0))


def _bca(scores: np.ndarray, seed: int) -> Ends:
    with np.errstate(invalid="ignore", divide="ignore"):
        found = bootstrap(
            (scores,), np.mean, axis=-1, n_resamples=_RESAMPLES, method="BCa", rng=np.random.default_rng(seed)
        )
    return found.confidence_interval.low, found.confidence_interval.high


def _student(scores: np.ndarray, seed: int) -> Ends:
    size = scores.shape[-1]
    half = student_quantile(size - 1) * scores.std(axis=-1, ddof=1) / size**0.5
    return scores.mean(axis=-1) - half, scores.mean(axis=-1) + half


def _bootstrap_t(scores: np.ndarray, seed: int) -> Ends:
    return interval(scores, seed=seed, resamples=_RESAMPLES)[1:]


OF_A_MEAN: Mapping[str, Callable[[np.ndarray, int], Ends]] = {
    "percentile": _percentile,
    "BCa": _bca,
    "Student": _student,
    "bootstrap-t": _bootstrap_t,
}
"""Intervals of a mean over tasks."""


def _within_tasks(scores: np.ndarray, seed: int) -> Ends:
    """As rliable does by default: of each task on its own, runs are drawn."""
    seeds, tasks = scores.shape[-2:]
    picks = np.random.default_rng(seed).integers(seeds, size=(_RESAMPLES, seeds, tasks))
    values, _ = interquartile_mean(scores[..., picks, np.arange(tasks)], 2)
    return percentile_interval(np.moveaxis(values, -1, 0))


def _percentile_of_both(scores: np.ndarray, seed: int) -> Ends:
    values, _ = interquartile_mean(resampled(scores, 2, _RESAMPLES, seed), 2)
    return percentile_interval(np.moveaxis(values, -1, 0))


def _bootstrap_t_of_both(scores: np.ndarray, seed: int) -> Ends:
    return interval(scores, interquartile_mean, drawn=2, seed=seed, resamples=_RESAMPLES)[1:]


OF_AN_IQM: Mapping[str, Callable[[np.ndarray, int], Ends]] = {
    "percentile, runs within each task": _within_tasks,
    "percentile, seeds and tasks": _percentile_of_both,
    "bootstrap-t, seeds and tasks": _bootstrap_t_of_both,
}
"""Intervals of an interquartile mean over seeds and tasks."""


def study(samples: int = 2_000, file: Path = RESULTS / "coverage.json") -> dict[str, Any]:
    """Measure how often each interval holds the truth; write numbers and page.

    Args:
      samples: of each kind; of seeds and tasks, a quarter as many.
      file: of the numbers, a ``.json``; the page lies beside it.

    Returns:
      ``of_a_mean``: the share by distribution, number of tasks and interval; ``of_an_iqm`` by distribution, numbers of
      seeds and tasks, and interval; and how many ``samples``.
    """
    result = {"samples": samples, "of_a_mean": over_tasks(samples), "of_an_iqm": over_seeds(max(1, samples // 4))}
    write(file, result, page)
    return result


def over_tasks(samples: int) -> dict[str, dict[str, dict[str, float]]]:
    """How often intervals of a mean over tasks hold the true one.

    Args:
      samples: of each distribution and number of tasks.

    Returns:
      By distribution, number of tasks, interval.
    """
    return {
        name: {str(tasks): covered(draw, truth, (tasks,), samples, OF_A_MEAN) for tasks in TASKS}
        for name, (draw, truth) in DISTRIBUTIONS.items()
    }


def over_seeds(samples: int) -> dict[str, dict[str, dict[str, float]]]:
    """How often intervals of an interquartile mean over seeds and tasks hold the true one.

    A score is the sum of what the seed is worth and of what the task is worth, a third and all of the distribution's
    scale, and of noise.

    Args:
      samples: of each distribution and numbers of seeds and tasks.

    Returns:
      By distribution, numbers of seeds and tasks, interval.
    """
    found = {}
    for name in list(DISTRIBUTIONS)[:2]:
        one, _ = DISTRIBUTIONS[name]

        def crossed(generator: np.random.Generator, shape: tuple[int, ...], one: Draw = one) -> np.ndarray:
            rows, columns = shape[:-1], (*shape[:-2], 1, shape[-1])
            return one(generator, (*rows, 1)) / 3 + one(generator, columns) + 0.3 * generator.normal(size=shape)

        truth = float(iqm(crossed(np.random.default_rng(1), (_TRUTH, 1, 1)).ravel()))
        found[name] = {f"{s} x {t}": covered(crossed, truth, (s, t), samples, OF_AN_IQM) for s, t in SEEDS}
    return found


def covered(
    draw: Draw,
    truth: float,
    shape: tuple[int, ...],
    samples: int,
    intervals: Mapping[str, Callable[[np.ndarray, int], Ends]],
) -> dict[str, float]:
    """The share of samples of which each interval holds the truth.

    Args:
      draw: the samples, independent of each other.
      truth: what the intervals are about.
      shape: of a sample.
      samples: how many.
      intervals: ``(samples [..., *shape], seed) -> ends``, by name.

    Example:
      >>> covered(DISTRIBUTIONS["normal"][0], 0.0, (10,), 50, {"all": lambda scores, seed: (scores[:, 0] - 9, 9)})
      {'all': 1.0}
    """
    generator = np.random.default_rng(0)
    hits = dict.fromkeys(intervals, 0)
    for first in range(0, samples, _BLOCK):
        scores = draw(generator, (min(_BLOCK, samples - first), *shape))
        for name, ends_of in intervals.items():
            low, high = ends_of(scores, first)
            hits[name] += int(np.sum((low <= truth) & (truth <= high)))
    return {name: hit / samples for name, hit in hits.items()}


def page(name: str, result: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each kind of sample."""
    samples, fewer = result["samples"], max(1, result["samples"] // 4)
    return markdown(
        f"# {name}",
        f"`python benchmarks/coverage.py`: how often a 95 % interval holds the truth, in {samples:,} samples of each "
        f"kind (of seeds and tasks, {fewer:,}); give or take {_noise(samples):.1f} and {_noise(fewer):.1f} points. Of "
        "a mean over tasks:",
        _table("tasks", result["of_a_mean"], OF_A_MEAN),
        "The bootstrap-t is what this project uses: no other covers as much in the worst case, which are skewed scores "
        "and rare failures. Its resamples have at least a fifth of the sample's standard error. Student's interval "
        "stands where half an interval is given (±) and for fewer than four seeds. Where one of five tasks is not "
        "learned, a tenth of all samples of ten tasks holds none of these, of which no interval can know.",
        "Of an interquartile mean over seeds and tasks, where every seed meets the same tasks (numbers of both):",
        _table("seeds x tasks", result["of_an_iqm"], OF_AN_IQM),
        "Runs that are drawn within each task tell how the same tasks would come out with other runs, each of one. "
        "A seed that meets all tasks, and tasks that are a sample themselves, have to be drawn as wholes.",
    )


def _noise(samples: int) -> float:
    """Two standard errors of a share near 95 %, in percentage points."""
    return 200 * (0.95 * 0.05 / samples) ** 0.5


def _table(sizes: str, found: Mapping[str, Any], intervals: Mapping[str, object]) -> str:
    rows = [
        [name, size, *(f"{100 * shares[one]:.1f}" for one in intervals)]
        for name, by_size in found.items()
        for size, shares in by_size.items()
    ]
    least = [min(100 * by[one] for by_size in found.values() for by in by_size.values()) for one in intervals]
    return table(["scores", sizes, *intervals], [*rows, ["least of all", None, *(f"{share:.1f}" for share in least)]])
