"""Timing: rounds in turn, what is left when one part is taken from the whole, and what is noise."""

from threading import Lock

import numpy as np

from metarl_jax.diagnostics.timing import Timings, difference, in_rounds, ratio, summary


def timings(*seconds: float) -> Timings:
    return Timings(np.array(seconds), 2 * np.array(seconds))


def test_no_part_takes_less_than_no_time() -> None:
    left = difference(timings(2.0, 2.0, 2.0), timings(2.1, 2.2, 2.3))
    assert (left["seconds"], left["cpu_seconds"], left["within_noise"]) == (0.0, 0.0, True)


def test_a_difference_is_taken_round_by_round() -> None:
    """A machine that becomes slower disturbs both alike: the median of the wholes is 30, of the parts 20."""
    left = difference(timings(11.0, 31.0, 30.0), timings(10.0, 30.0, 20.0))
    assert left["seconds"] == 1.0


def test_noise_is_marked() -> None:
    quiet, loud = timings(1.0, 1.01, 0.99, 1.0), timings(1.0, 3.0, 0.2, 1.5)
    nothing = timings(0.0, 0.0, 0.0, 0.0)
    assert not difference(quiet, nothing)["within_noise"]
    assert difference(loud, timings(1.0, 1.0, 1.0, 1.0))["within_noise"]


def test_the_noise_of_a_median_is_two_standard_errors() -> None:
    """Of many normal numbers that of a median is 1.25 deviations over the root of their number."""
    normal = np.random.default_rng(0).normal(size=(2000, 25))
    spread = np.median(normal, axis=1).std()
    noises = [summary(Timings(row, row))["noise_seconds"] for row in normal]
    assert abs(np.mean(noises) / (2 * spread) - 1.0) < 0.15


def test_rounds_advance_by_the_program_that_is_named_and_end_in_time() -> None:
    seen: list[int] = []

    def look(number: int) -> int:
        seen.append(number)
        return number

    programs = {"look": look, "add": lambda number: (number + 1, None)}
    assert in_rounds(programs, 0, 3, advance="add")["look"].seconds.shape == (3,)
    assert seen == [0, 0, 1, 2]
    assert in_rounds(programs, 0, 3)["add"].cpu_seconds.shape == (3,)
    assert seen[4:] == [0, 0, 0, 0]
    assert len(in_rounds(programs, 0, 50, longest=0.0)["add"].seconds) == 3


def test_a_ratio_is_that_of_most_rounds() -> None:
    assert ratio(timings(2.0, 2.0, 90.0), timings(1.0, 1.0, 3.0)) == 2.0


def test_what_is_timed_has_its_turn() -> None:
    """Also the first calls, which are not counted: they would disturb others."""
    turn, held = Lock(), []
    in_rounds({"look": lambda _: held.append(turn.locked())}, 0, 2, turn=turn)
    assert held == [True, True, True]
    assert not turn.locked()
