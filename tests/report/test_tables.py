"""Tables: every number is shown whole, beside its own amount of adaptation."""

from typing import Any

import pytest
from rich.table import Table

from metarl_jax.report.expected import expected_table, read_expected
from metarl_jax.report.speed import benchmark_table
from metarl_jax.report.speed import sweep_table as throughput_table
from metarl_jax.report.sweeps import sweep_table
from metarl_jax.report.tables import adaptation_table, gradients_table, milestones, plan_table
from tests.helpers import EVALUATION, printed
from tests.report.test_speed_report import RESULT

TOTAL = {"mean_return": -51.25, "ci_low": -54.0, "ci_high": -47.5}
LARGE = {"mean_return": [-12345.6, -1e30], "ci_low": [-23456.7, float("nan")], "ci_high": [-11111.1, float("inf")]}


def evaluation(trained: dict[str, Any] | None = None, random: dict[str, Any] | None = None) -> dict[str, Any]:
    untrained = EVALUATION["random_initialisation"] | (random or {})
    return {**EVALUATION, **(trained or {}), "random_initialisation": untrained}


GRADIENTS = {
    "process": {"states": 3, "actions": 2, "horizon": 3},
    "sample_sizes": [10, 1000],
    "repeats": 500,
    "inner_lr": 0.5,
    "estimators": {
        "likelihood_ratio": {
            "hessian_bias": 0.092,
            "hessian_spread": [1.26, 0.12],
            "meta_gradient_bias": [0.496, 0.195],
            "meta_gradient_spread": [1.27, 0.11],
        },
        "dice": {
            "hessian_bias": 8.5e-16,
            "hessian_spread": [1.09, 0.11],
            "meta_gradient_bias": [0.511, 0.172],
            "meta_gradient_spread": [1.18, 0.10],
        },
    },
}
PLAN = {
    "target": "h100",
    "devices": 1,
    "meta_batch_size": 20,
    "compiles": True,
    "settings": {"remat": True},
    "memory": {"arguments": 10, "temporary": 2**33, "total": 2**33 + 10, "usable": 2**36, "fits": True},
    "largest_meta_batch": 1_525_576,
    "compiled_meta_batch": None,
    "kernels": {"per_environment_step": 305, "per_update": 14_080},
    "operations": {"products": 1e13, "others": 2e6},
    "bytes": 3e9,
    "seconds": dict.fromkeys(("products", "other_operations", "memory", "launches", "kernels", "per_update"), 0.0001),
    "compile_seconds": 17.0,
}
KEYS = [f"long_key_{i}" for i in range(6)]
TABLES: dict[str, Table] = {
    "adaptation": adaptation_table(evaluation({"success_rate": [0.0, 1.0]}, {"success_rate": [0.0, 0.5]})),
    "large": adaptation_table(
        evaluation(
            {**LARGE, "success_rate": [0.0, 1.0], "total": TOTAL}, {**LARGE, "success_rate": [0.0, 0.5], "total": TOTAL}
        )
    ),
    "gradients": gradients_table(GRADIENTS),
    "plan": plan_table(PLAN, "promp_half_cheetah_velocity"),
    "no plan": plan_table({**PLAN, "compiles": False, "why": "RESOURCE_EXHAUSTED: [used 5] " * 9}, "mine"),
    "benchmark": benchmark_table(RESULT),
    "throughput": throughput_table(RESULT),
    "sweep": sweep_table(
        "settings", ["trial", "objective", *KEYS], [["12", "-8.613 [-8.67, -8.54]", *"123456"]], "IQM"
    ),
    **{name: expected_table(name, told) for name, told in read_expected().items()},
}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", TABLES)
def test_no_cell_is_broken_and_what_has_no_room_is_named(name: str, columns: int, encoding: str) -> None:
    text = printed(TABLES[name], columns, encoding)
    assert ("not shown" in text) == (columns == 80 and name == "sweep")


def test_the_last_columns_are_left_out_first_and_two_always_stay() -> None:
    text = " ".join(printed(TABLES["sweep"], 80).split())
    assert "for want of room in 80 columns: long_key_4, long_key_5" in text
    assert "12 -8.613 [-8.67, -8.54] 1 2 3 4 IQM" in text


def test_table_shows_means_intervals_and_settings() -> None:
    text = printed(adaptation_table(EVALUATION))
    for words in ("7 held-out tasks, 9 episodes", "-11.25 [-12.00, -10.00]", "-60.00", "95 % bootstrap"):
        assert words in text
    beyond = evaluation({"settings": {**EVALUATION["settings"], "distribution": "beyond"}})
    assert "7 tasks beyond the training distribution" in printed(adaptation_table(beyond))
    by_mode = evaluation({"settings": {**EVALUATION["settings"], "test_policy": "deterministic"}})
    assert "7 held-out tasks by the policy's mode, 9 episodes" in printed(adaptation_table(by_mode))
    few = evaluation({"settings": {**EVALUATION["settings"], "num_different_tasks": 2}})
    assert "7 draws of the 2 training tasks" in printed(adaptation_table(few))


@pytest.mark.parametrize(("reached", "says"), [(6, True), (100, False)])
def test_the_title_says_of_which_iteration_an_unfinished_run_is(reached: int, says: bool) -> None:
    text = printed(adaptation_table(evaluation({"checkpoint": reached, "num_iterations": 100})))
    assert ("each, at iteration 6 of 100\n" in text) == says


@pytest.mark.parametrize(("reached", "ends"), [(60, "60 of 100, where"), (40, "40 of 100, at 60")])
def test_the_title_says_that_patience_ended_training(reached: int, ends: str) -> None:
    ended = {"checkpoint": reached, "num_iterations": 100, "stopped_early_at": 60}
    text = " ".join(printed(adaptation_table(evaluation(ended))).split())
    assert f"each, at iteration {ends} patience ended training" in text


def test_long_adaptation_is_shown_at_milestones_each_beside_its_own_number() -> None:
    means = [float(k) for k in range(61)]
    many = {"mean_return": means, "ci_low": means, "ci_high": means}
    text = printed(adaptation_table(evaluation({**many, "gradient_steps": list(range(61))}, many)))
    rows = [line.split()[:2] for line in text.splitlines() if line.count("[") == 2]
    shown = (0, 1, 2, 5, 10, 20, 50, 60)
    assert [(int(k), float(mean)) for k, mean in rows] == [(k, float(k)) for k in shown]


def test_milestones_are_all_of_a_few_and_end_with_the_last_of_many() -> None:
    assert milestones(0) == [0]
    assert milestones(12) == list(range(13))
    assert milestones(13) == [0, 1, 2, 5, 10, 13]
    assert milestones(20) == [0, 1, 2, 5, 10, 20]
    assert milestones(1234)[-3:] == [500, 1000, 1234]


def test_table_shows_how_many_episodes_reach_a_goal() -> None:
    with_goal = printed(adaptation_table(evaluation({"success_rate": [0.0, 0.875]}, {"success_rate": [0.0, 0.125]})))
    assert "88%" in with_goal
    assert "12%" in with_goal
    assert "success" not in printed(adaptation_table(EVALUATION))


def test_below_are_the_optimum_where_it_is_known_and_the_total_of_a_trial() -> None:
    text = printed(
        adaptation_table(evaluation({"optimum": -9.875, "total": TOTAL}, {"total": {**TOTAL, "mean_return": -140.0}}))
    )
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines() if line.strip()}
    assert rows["optimum"] == "-9.88"
    assert rows["total"] == "-51.25 [-54.00, -47.50] -140.0 [-54.0, -47.5]"


def test_what_is_best_without_knowing_the_task_is_a_column_with_its_total() -> None:
    known = {"optimum": -9.875, "bayes_optimum": [-30.5, -10.25], "success_rate": [0.0, 0.5], "total": TOTAL}
    text = printed(adaptation_table(evaluation(known, {"success_rate": [0.0, 0.25], "total": TOTAL})))
    rows = {line.split()[0]: line.split("]")[2:] for line in text.splitlines() if "]" in line}
    assert {name: cells[0].split()[0] for name, cells in rows.items() if cells} == {
        "0": "-30.50",
        "1": "-10.25",
        "total": "-40.75",
    }
    assert next(line for line in text.splitlines() if "optimum" in line).split() == ["optimum", "-9.88"]
    assert "Bayes" in text
    assert "Bayes" not in printed(adaptation_table(EVALUATION))
