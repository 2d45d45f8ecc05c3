"""How far a run is: a line for every so many updates, or a bar that fits."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from metarl_jax.runs.progress import progress


def row(iteration: int, seconds: float = 0.5, **numbers: Any) -> dict[str, Any]:
    usual = {"return_pre": -40.25, "return_post": -1234.5, "env_steps_per_second": 12345.6}
    return {"iteration": iteration, "iteration_seconds": seconds, **usual, **numbers}


def test_a_pipe_gets_one_plain_line_for_so_many_updates(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the first visit, whose time includes compilation, do not tell how long the rest takes."""
    with progress([12], Console(file=io.StringIO()), 5) as report:
        for iteration in range(1, 13):
            report(0, row(iteration, 60.0 if iteration <= 5 else 0.5, return_post=None if iteration == 5 else -1.0))
    assert capsys.readouterr().err.splitlines() == [
        "iteration  1/12  return -40.25 -> -1  12,346 steps/s",
        "iteration  5/12  return -40.25 -> not finite  12,346 steps/s",
        "iteration 10/12  return -40.25 -> -1  12,346 steps/s  0:00:01 left",
        "iteration 12/12  return -40.25 -> -1  12,346 steps/s",
    ]


@pytest.mark.parametrize("side_by_side", [True, False])
def test_the_lines_of_several_runs_are_as_many_as_those_of_one(
    side_by_side: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [(run, iteration) for iteration in range(1, 11) for run in range(3)]
    with progress([10] * 3, Console(file=io.StringIO()), 5) as report:
        for run, iteration in runs if side_by_side else sorted(runs):
            report(run, row(iteration))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3  # the first, and two times five updates
    assert lines[0].startswith("run 1/3, iteration  1/10")
    assert lines[-1].startswith("run 3/3, iteration 10/10")


def test_a_bar_fits_eighty_columns() -> None:
    screen = io.StringIO()
    with progress([3000], Console(file=screen, width=80, force_terminal=True), 10) as report:
        report(0, row(2999, return_pre=-12345.678, return_post=1e30, env_steps_per_second=1_234_567.0))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    last = plain.replace("\r", "\n").splitlines()[-1]
    assert "2999/3000 return -1.235e+04 -> 1e+30  1,234,567 steps/s" in last
    assert len(last) <= 80


def test_each_evaluation_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = {"evaluation_return_per_stage": [-4.0, None, -1.5], "evaluation_return_post": -1.5}
    validation = {"validation_return_per_stage": [-5.0, None], "validation_return_post": None}
    with progress([9, 9], Console(file=io.StringIO()), 5) as report:
        report(0, row(1))
        report(1, row(2, **evaluation, **validation, evaluation_seconds=0.1))
        report(1, row(3))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("run 1/2, iteration 1/9  return -40.25 -> -1234")
    assert second == "run 2/2, iteration 2/9  evaluation -4 -> -1.5  validation -5 -> not finite"
