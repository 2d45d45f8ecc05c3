"""Speed as tables that fit a terminal, and as a picture."""

from pathlib import Path
from typing import Any

from metarl_jax.report.speed import benchmark_table, plot_benchmark, sweep_table
from tests.helpers import printed

POINT: dict[str, Any] = {
    "units": 5,
    "meta_batch_size": 12_800,
    "meta_iterations_per_second": 17.25,
    "adaptations_per_second": 1_234_567.0,
    "env_steps_per_second": 123_456_789.0,
    "efficiency": 0.125,
    "memory_bytes": 3 * 2**29,
}
PART = {"seconds": 0.25, "cpu_seconds": 0.5, "noise_seconds": 0.01}
RESULT: dict[str, Any] = {
    "config": "promp_half_cheetah_velocity",
    "iterations": 10,
    "meta_batch_size": 40,
    "adaptation": {"unit": "gradient step", "trained": 5},
    "per_iteration": {
        "total": PART,
        "physics": PART,
        "policy": PART | {"within_noise": True},
        "outer": PART | {"within_noise": False},
    },
    "meta_iterations_per_second": 4.0,
    "adaptations_per_second": 320.0,
    "env_steps_per_second": 40_000.0,
    "computed_env_steps_per_second": 80_000.0,
    "efficiency": 0.625,
    "derivatives": {"hvp_over_gradient": 2.5, "second_over_first_order": 1.75},
    "achieved": {
        "per_second": {"products": 5e12, "other_operations": 2e11, "bytes": 1e12},
        "of_peak": {"products": 0.01, "other_operations": 0.003, "bytes": 0.3},
    },
    "lower_seconds": 3.0,
    "compile_seconds": 40.0,
    "temporary_bytes": 2**30,
    "peak_bytes": 2**31,
    "hardware": {"device": "NVIDIA H100 80GB HBM3"},
    "sweep": {
        "unit": "gradient step",
        "points": [
            POINT | {"units": 1, "meta_batch_size": 5, "adaptations_per_second": None},
            POINT,
            {"units": 5, "meta_batch_size": 25_600, "refused": "does not fit"},
        ],
        "complete_units": [1, 5],
        "is_complete": True,
    },
}


def test_a_table_marks_noise() -> None:
    shown = printed(benchmark_table(RESULT), 80)
    for row in (
        "  policy ~0.2500 0.5000",
        "outer 0.2500 0.5000",
        "efficiency: physics / total 62%",
        "GFLOP / s: products 5,000 (1.0% of peak)",
        "second- / first-order meta-gradient 1.75",
    ):
        assert row.split() in [line.split() for line in shown.splitlines()]


def test_a_short_update_has_digits_enough() -> None:
    short = {"seconds": 0.00025, "cpu_seconds": 0.0005, "noise_seconds": 0.0}
    assert "0.000250" in printed(benchmark_table(RESULT | {"per_iteration": {"total": short}}))


def test_what_a_method_does_not_have_is_left_out() -> None:
    unknown = {"per_second": RESULT["achieved"]["per_second"]}
    shown = printed(
        benchmark_table(RESULT | {"derivatives": None, "adaptations_per_second": None, "achieved": unknown})
    )
    assert not any(words in shown for words in ("gradient /", "adaptations per", "of peak"))


def test_a_sweep_says_what_was_best_and_what_was_refused() -> None:
    shown = printed(sweep_table(RESULT), 80)
    rows = [line.split() for line in shown.splitlines()]
    assert ["1", "5", "17.2", "*123,456,789", "12%", "1.5", "GiB"] in rows
    assert ["5", "25600", "refused"] in rows
    assert "until throughput is flat" in shown
    assert "refused: does not fit" in shown
    assert "not shown" not in shown
    cut = {**RESULT, "sweep": RESULT["sweep"] | {"is_complete": False, "points": []}}
    assert "time was up" in printed(sweep_table(cut))


def test_a_picture_is_wider_with_a_sweep(tmp_path: Path) -> None:
    plain = {name: value for name, value in RESULT.items() if name != "sweep"}
    widths = []
    for name, result in (("plain", plain), ("sweep", RESULT)):
        plot_benchmark(result, tmp_path / f"{name}.png")
        widths.append(int.from_bytes((tmp_path / f"{name}.png").read_bytes()[16:20]))
    assert widths == [750, 1500]
