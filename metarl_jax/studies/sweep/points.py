"""Which setting a trial has: a function of its number alone, so that no worker and no interruption changes it."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from metarl_jax.studies.sweep.study import Spread, Study

Point = dict[str, Any]
"""Values by key."""
_DIGITS = 6  # a drawn number is one that can be read, and the same on every machine


def grid_cells(study: Study) -> list[Point]:
    """All combinations of the grid's values; the last key changes first.

    Example:
      >>> grid_cells(Study(config="maml_navigation", grid={"a": (1, 2), "b": (3,)}))
      [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    return [dict(zip(study.grid, values, strict=True)) for values in itertools.product(*study.grid.values())]


def num_trials(study: Study) -> int:
    """Trials in all: the budget, but no more than a grid has settings.

    Example:
      >>> num_trials(Study(config="maml_navigation", grid={"a": (1, 2), "b": (3, 4)}))
      4
    """
    cells = math.prod(map(len, study.grid.values()))
    return cells if study.budget.trials is None or not study.sample else study.budget.trials


def point(study: Study, number: int) -> Point:
    """The setting of a trial, of a sampler that does not learn: its cell of the grid, and what is drawn for its round.

    Each round through the grid shares one draw, so that cells are compared at equal samples.

    Args:
      study: with sampler ``random`` or ``sobol``.
      number: of the trial.

    Example:
      >>> study = Study(config="maml_navigation", grid={"a": (1, 2)}, sample={"b": Spread(uniform=(0.0, 1.0))})
      >>> [point(study, number)["a"] for number in range(3)], point(study, 0)["b"] == point(study, 1)["b"]
      ([1, 2, 1], True)
    """
    cells = grid_cells(study)
    drawn = _unit_cube(study, number // len(cells))
    sampled = {key: place(spread, x) for (key, spread), x in zip(study.sample.items(), drawn, strict=True)}
    return cells[number % len(cells)] | sampled


def known_points(study: Study) -> list[Point]:
    """The settings that are decided before anything is trained: all of them or, if the sampler learns, none."""
    return [] if study.sampler == "tpe" else [point(study, number) for number in range(num_trials(study))]


def _unit_cube(study: Study, index: int) -> Sequence[float]:
    size = len(study.sample)
    if size == 0:
        return []
    if study.sampler == "random":
        return np.random.default_rng([study.sampler_seed, index]).random(size).tolist()
    from scipy.stats import qmc  # slow to import

    sequence = qmc.Sobol(size, scramble=True, rng=study.sampler_seed)
    if index:
        sequence.fast_forward(index)
    drawn: list[float] = sequence.random(1)[0].tolist()
    return drawn


def place(spread: Spread, x: float) -> Any:
    """Where a number from ``[0, 1)`` lies in a spread.

    Example:
      >>> place(Spread(log_uniform=(0.01, 1.0)), 0.5), place(Spread(choice=("a", "b", "c")), 0.99)
      (0.1, 'c')
    """
    if spread.choice is not None:
        return spread.choice[int(x * len(spread.choice))]
    if spread.uniform is not None:
        low, high = spread.uniform
        drawn = low + (high - low) * x
    else:
        assert spread.log_uniform is not None
        low, high = spread.log_uniform
        drawn = math.exp(math.log(low) + math.log(high / low) * x)
    return rounded(drawn, low, high)


def rounded(drawn: float, low: float, high: float) -> float:
    """A drawn number with few digits, within its range."""
    return min(max(float(f"{drawn:.{_DIGITS}g}"), low), high)


def corners(study: Study) -> list[Point]:
    """Settings that have every value of every key, and both ends of every range, in every cell of the grid.

    Example:
      >>> corners(Study(config="maml_navigation", sample={"a": Spread(uniform=(0.0, 1.0))}))
      [{'a': 0.0}, {'a': 1.0}]
    """
    sides = {key: spread.ends or spread.choice or () for key, spread in study.sample.items()}
    most = max(map(len, sides.values()), default=1)
    sampled = [{key: side[i % len(side)] for key, side in sides.items()} for i in range(most)]
    return [cell | drawn for cell in grid_cells(study) for drawn in sampled]
