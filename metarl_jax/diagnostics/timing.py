"""Timing programs in turn, so that what disturbs the machine disturbs all of them, and telling a part from noise."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np

Turn = AbstractContextManager[object]
"""Held while something runs that others are not to disturb, such as a lock between processes."""
ALONE: Turn = nullcontext()
_FEWEST = 3  # rounds, below which nothing is known of noise
_NOISES = 2.0  # standard errors below which a difference says nothing


class Timings(NamedTuple):
    """Of one program in each round, ``[rounds]``."""

    seconds: np.ndarray
    cpu_seconds: np.ndarray


def in_rounds(
    programs: Mapping[str, Callable[[Any], Any]],
    argument: Any,
    rounds: int,
    longest: float = math.inf,
    advance: str | None = None,
    turn: Turn = ALONE,
) -> dict[str, Timings]:
    """Time programs one after the other, on the same argument, several times; the first call of each is not counted.

    Args:
      programs: by name.
      argument: of all of them.
      rounds: at most.
      longest: seconds after which no further round begins, once there are three.
      advance: the program that returns the argument of the next round first; it stays the same if None.
      turn: is held meanwhile.

    Returns:
      By name.

    Example:
      >>> timings = in_rounds({"add": lambda x: (x + 1, None), "nothing": lambda x: x}, 0, rounds=3, advance="add")
      >>> timings["add"].seconds.shape
      (3,)
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    with turn:
        for program in programs.values():
            _timed(program, argument)
        started = time.perf_counter()
        for i in range(rounds):
            if i >= _FEWEST and time.perf_counter() - started > longest:
                break
            following = argument
            for name, program in programs.items():
                timing, result = _timed(program, argument)
                taken[name].append(timing)
                if name == advance:
                    following = result[0]
            argument = following
    return {name: Timings(*np.array(timings).T) for name, timings in taken.items()}


def _timed(program: Callable[[Any], Any], argument: Any) -> tuple[tuple[float, float], Any]:
    """Wall seconds and CPU seconds of all threads, and the result."""
    started, cpu_started = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(program(argument))
    return (time.perf_counter() - started, time.process_time() - cpu_started), result


def summary(timings: Timings) -> dict[str, float]:
    """Medians over rounds, and ``noise_seconds``: twice the standard error of that of the wall seconds.

    Example:
      >>> summary(Timings(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 2.0, 2.0])))
      {'seconds': 2.5, 'cpu_seconds': 2.0, 'noise_seconds': 1.5}
    """
    low, high = np.percentile(timings.seconds, [25.0, 75.0])
    # Of normal noise the standard error of a median is 0.93 interquartile ranges over the root of the number.
    return {
        "seconds": float(np.median(timings.seconds)),
        "cpu_seconds": float(np.median(timings.cpu_seconds)),
        "noise_seconds": _NOISES * float(high - low) / len(timings.seconds) ** 0.5,
    }


def difference(whole: Timings, part: Timings) -> dict[str, float | bool]:
    """What is left of a program without a part of it, round by round; never less than nothing.

    Args:
      whole: of a program.
      part: of another that does a part of its work.

    Returns:
      A :func:`summary`, and whether the wall seconds are ``within_noise``.

    Example:
      >>> difference(Timings(np.ones(3), np.ones(3)), Timings(np.full(3, 1.5), np.zeros(3)))
      {'seconds': 0.0, 'cpu_seconds': 1.0, 'noise_seconds': 0.0, 'within_noise': True}
    """
    left = summary(Timings(whole.seconds - part.seconds, whole.cpu_seconds - part.cpu_seconds))
    positive = {name: max(0.0, value) for name, value in left.items()}
    return {**positive, "within_noise": positive["seconds"] <= positive["noise_seconds"]}


def ratio(above: Timings, below: Timings) -> float:
    """How many times as long, in wall seconds: the median over rounds.

    Example:
      >>> ratio(Timings(np.array([2.0, 4.0, 9.0]), np.ones(3)), Timings(np.array([1.0, 1.0, 3.0]), np.ones(3)))
      3.0
    """
    return float(np.median(above.seconds / below.seconds))
