"""Sweeps: more tasks until that is no faster, does not fit, or takes too long."""

import sys
from contextlib import nullcontext
from typing import Any

import jax
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config import Config, config_from_dict
from metarl_jax.diagnostics import throughput
from metarl_jax.diagnostics.benchmark import RATES
from metarl_jax.diagnostics.throughput import sweep
from metarl_jax.diagnostics.timing import ALONE, Turn
from metarl_jax.runs.build import Experiment, build
from metarl_jax.runs.fit import decided, settle
from metarl_jax.types import AUTO, TrainState
from tests.helpers import TINY, tiny_config

SATURATES = 12  # tasks
KEYS = {
    "units",
    "meta_batch_size",
    "seconds",
    "cpu_seconds",
    "noise_seconds",
    "compile_seconds",
    "memory_bytes",
    "decided",
    *RATES,
}
"""Of a point, whether it was timed by the sweep or known before."""


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
        if tasks > 32:
            raise Refusal("training.meta_batch_size", tasks, "no")
        return {"env_steps_per_second": float(min(tasks, SATURATES))}

    monkeypatch.setattr(throughput, "_measure", measure)
    return seen


def test_meta_batches_grow_until_throughput_is_flat(experiment: Experiment, timed: list[tuple[int, int]]) -> None:
    result = sweep(experiment, (1, 3))
    sizes = [4, 8, 32]  # twice as fast with 8, so four times as many; with 12 tasks' throughput 32 are not yet flat
    assert timed == [(units, size) for units in (1, 3) for size in [*sizes, 64]]
    assert result["points"][0] == {"units": 1, "meta_batch_size": 4, "env_steps_per_second": 4.0}
    assert result["points"][3] == {"units": 1, "meta_batch_size": 64, "refused": "training.meta_batch_size = 64: no"}
    assert (result["unit"], result["complete_units"], result["is_complete"]) == ("gradient step", [1, 3], True)


def test_four_times_the_tasks_must_gain_what_twice_as_many_must_twice(
    experiment: Experiment, timed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SATURATES", 9.5)  # 1.19 times that of 8; 1.1 squared is 1.21
    result = sweep(experiment, (1,))
    assert ([size for _, size in timed], result["is_complete"]) == ([4, 8, 32], True)


def test_what_was_known_is_not_timed_again(experiment: Experiment, timed: list[tuple[int, int]]) -> None:
    rates = {"meta_iterations_per_second": 1.0, "adaptations_per_second": 1.0, "efficiency": 0.5}
    total = {"seconds": 1.0, "cpu_seconds": 1.0, "noise_seconds": 0.1}
    others: dict[str, Any] = {
        "meta_batch_size": 4,
        "env_steps_per_second": 11.5,
        "compile_seconds": 2.0,
        "memory_bytes": 3,
        "decided": {"task_chunk": 2},
    }
    result = sweep(experiment, known={"per_iteration": {"total": total}, **rates, **others, "derivatives": None})
    assert timed[0] == (1, 8)
    assert result["points"][0] == {"units": 1, **total, **rates, **others}
    assert result["points"][0].keys() == KEYS


def test_half_of_what_does_not_fit_ends_a_row(timed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SATURATES", 1000)
    result = sweep(build(tiny_config(training={"meta_batch_size": 6})), (1,))
    assert [size for _, size in timed] == [6, 12, 48, 24]
    assert ["refused" in point for point in result["points"]] == [False, False, False, True]
    assert result["is_complete"]


def test_what_a_config_leaves_open_is_decided_for_each_meta_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks: list[int] = []

    def measure(experiment: Experiment, iterations: int, turn: object) -> dict[str, Any]:
        chunks.append(decided(experiment)["task_chunk"])
        return {"env_steps_per_second": float(experiment.config.training.meta_batch_size)}

    def settled(config: Config) -> Experiment:
        return settle(config, "gpu", usable, 1)[0]

    monkeypatch.setattr(throughput, "_measure", measure)
    config = tiny_config(algorithm={"task_chunk": AUTO})
    fit = settle(config, "gpu", None, 1)[1]
    usable = 8 * fit.trajectories + 25 * fit.plain  # 32 tasks are stored, but not all differentiated at once
    sweep(settled(config), (1,), is_over=lambda: len(chunks) == 3, settled=settled)
    assert chunks[:2] == [4, 8]
    assert 8 < chunks[2] < 32


@pytest.mark.parametrize(
    ("turn", "words", "is_complete"),
    [
        (ALONE, "the memory of the device", True),
        (nullcontext("a lock"), "the memory that others", False),
    ],
)
def test_memory_that_others_hold_says_nothing_of_the_device(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, turn: Turn, words: str, is_complete: bool
) -> None:
    def compile_update(experiment: Experiment, state: TrainState) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(throughput, "compile_update", compile_update)
    result = sweep(experiment, (1,), turn=turn)
    (point,) = result["points"]
    assert point["refused"].startswith(f"training.meta_batch_size = 4: does not fit {words}")
    assert result["is_complete"] == is_complete


def test_the_configs_amount_is_swept_first_and_the_usual_ones(
    experiment: Experiment, timed: list[tuple[int, int]]
) -> None:
    sweep(build(experiment.config, num_inner_steps=2))
    assert list(dict.fromkeys(units for units, _ in timed)) == [2, 1, 5]


def test_no_point_begins_when_time_is_up(experiment: Experiment, timed: list[tuple[int, int]]) -> None:
    result = sweep(experiment, (1, 2), is_over=lambda: len(timed) == 5)
    assert (len(result["points"]), result["complete_units"], result["is_complete"]) == (5, [1], False)


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
    assert (point["units"], point["meta_batch_size"], result["is_complete"]) == (2, 4, False)
    assert point.keys() == KEYS
    assert point["env_steps_per_second"] == pytest.approx(4 * 3 * 5 * 3 / point["seconds"])
    assert point["meta_iterations_per_second"] == pytest.approx(1 / point["seconds"])
    assert point["memory_bytes"] > 0
    assert point["adaptations_per_second"] > 0
