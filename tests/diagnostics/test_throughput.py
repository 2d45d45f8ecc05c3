"""Sweeps: twice the tasks until that is no faster, does not fit, or takes too long."""

import sys
from typing import Any

import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config import config_from_dict
from metarl_jax.diagnostics import throughput
from metarl_jax.diagnostics.throughput import sweep
from metarl_jax.runs.build import Experiment, build
from tests.helpers import TINY, tiny_config

SATURATES = 12  # tasks


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return build(tiny_config())


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What was measured: units and tasks; throughput grows up to a size, and 64 tasks do not fit."""
    seen: list[tuple[int, int]] = []

    def measure(experiment: Experiment, iterations: int, turn: object) -> dict[str, Any]:
        tasks, adaptation = experiment.config.training.meta_batch_size, experiment.algorithm.adaptation
        assert adaptation is not None
        seen.append((adaptation.trained, tasks))
        if tasks > 32 or tasks < 2:
            raise Refusal("training.meta_batch_size", tasks, "no")
        return {"env_steps_per_second": float(min(tasks, SATURATES))}

    monkeypatch.setattr(throughput, "_measure", measure)
    return seen


def test_meta_batches_double_until_throughput_is_flat(experiment: Experiment, timed: list[tuple[int, int]]) -> None:
    result = sweep(experiment, (1, 3))
    sizes = [1, 2, 4, 8, 16, 32]  # from a quarter of 4; 1 is refused, 16 is faster than 8, 32 is not
    assert timed == [(units, size) for units in (1, 3) for size in sizes]
    assert result["points"][0] == {"units": 1, "meta_batch_size": 1, "refused": "training.meta_batch_size = 1: no"}
    assert result["points"][-1] == {"units": 3, "meta_batch_size": 32, "env_steps_per_second": 12.0}
    assert (result["unit"], result["is_complete"]) == ("gradient step", True)


def test_a_row_begins_with_what_halves_to_whole_numbers(timed: list[tuple[int, int]]) -> None:
    sweep(build(tiny_config(training={"meta_batch_size": 20})), (1,))
    assert timed == [(1, size) for size in (5, 10, 20, 40)]


def test_what_does_not_fit_ends_a_row(
    experiment: Experiment, timed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SATURATES", 1000)
    result = sweep(experiment, (1,))
    assert timed[-1] == (1, 64)
    assert ("refused" in result["points"][-1], result["is_complete"]) == (True, True)


def test_the_usual_amounts_and_the_configs_are_swept(experiment: Experiment, timed: list[tuple[int, int]]) -> None:
    sweep(build(experiment.config, num_inner_steps=2))
    assert list(dict.fromkeys(units for units, _ in timed)) == [1, 2, 5]


def test_no_point_begins_when_time_is_up(experiment: Experiment, timed: list[tuple[int, int]]) -> None:
    result = sweep(experiment, (1, 2), is_over=lambda: len(timed) == 3)
    assert (len(result["points"]), result["is_complete"]) == (3, False)


def test_a_method_that_does_not_adapt_in_training_is_timed_as_it_is(timed: list[tuple[int, int]]) -> None:
    plain = build(config_from_dict({**TINY, "algorithm": {"name": "pretraining"}}))
    sweep(plain)
    assert {units for units, _ in timed} == {0}
    with pytest.raises(Refusal, match="does not adapt in training"):
        sweep(plain, (1,))


@pytest.mark.slow
def test_a_point_says_what_an_update_takes(experiment: Experiment) -> None:
    is_over = iter((False, True))
    result = sweep(experiment, (2,), 1, lambda: next(is_over))
    (point,) = result["points"]
    assert (point["units"], point["meta_batch_size"], result["is_complete"]) == (2, 1, False)
    assert point["env_steps_per_second"] == pytest.approx(1 * 3 * 5 * 3 / point["seconds"])
    assert point["meta_iterations_per_second"] == pytest.approx(1 / point["seconds"])
    assert point["memory_bytes"] > 0
    assert point["adaptations_per_second"] > 0
