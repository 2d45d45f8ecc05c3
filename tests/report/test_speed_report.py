"""Speed as tables that fit a terminal, and as a picture."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from metarl_jax.report.speed import benchmark_table, plot_benchmark, sweep_table

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
        "is_complete": True,
    },
}


def lines(table: Table) -> list[str]:
    console = Console(width=140)
    with console.capture() as shown:
        console.print(table)
    return shown.get().splitlines()


def test_a_table_fits_eighty_columns_and_marks_noise() -> None:
    shown = lines(benchmark_table(RESULT))
    assert max(map(len, shown)) < 80
    rows = {cells[1].strip(): cells[2].strip() for line in shown if len(cells := line.split("│")) > 3}
    assert (rows["policy"], rows["outer"], rows["efficiency: physics / total"]) == ("~0.2500", "0.2500", "62%")
    assert rows["GFLOP / s: products"] == "5,000 (1.0% of peak)"
    assert rows["second- / first-order meta-gradient"] == "1.75"


def test_what_a_method_does_not_have_is_left_out() -> None:
    unknown = {"per_second": RESULT["achieved"]["per_second"]}
    shown = lines(benchmark_table(RESULT | {"derivatives": None, "adaptations_per_second": None, "achieved": unknown}))
    assert not any("gradient /" in line or "adaptations per" in line or "of peak" in line for line in shown)


def test_a_sweep_fits_eighty_columns_and_says_what_was_best_and_what_was_refused() -> None:
    shown = lines(sweep_table(RESULT))
    assert max(map(len, shown)) < 80
    assert not any("…" in line for line in shown)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown if line.startswith("│")]
    assert rows[0] == ["1", "5", "17.2", "", "*123,456,789", "12%", "1.5 GiB"]
    assert rows[2][:3] == ["5", "25600", "refused"]
    assert any("until throughput is flat" in line for line in shown)
    assert any("refused: does not fit" in line for line in shown)
    cut = {**RESULT, "sweep": RESULT["sweep"] | {"is_complete": False}}
    assert any("time was up" in line for line in lines(sweep_table(cut)))


def test_a_picture_is_wider_with_a_sweep(tmp_path: Path) -> None:
    plain = {name: value for name, value in RESULT.items() if name != "sweep"}
    widths = []
    for name, result in (("plain", plain), ("sweep", RESULT)):
        plot_benchmark(result, tmp_path / f"{name}.png")
        widths.append(int.from_bytes((tmp_path / f"{name}.png").read_bytes()[16:20]))
    assert widths == [750, 1500]
