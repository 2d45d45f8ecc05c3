"""How far runs are, where there is no terminal."""

from typing import Any

import pytest
from rich.console import Console

from metarl_jax.runs.progress import progress

ROW: dict[str, Any] = {"return_pre": -3.0, "return_post": -2.0, "env_steps_per_second": 1e3, "iteration_seconds": 1.0}


def test_each_evaluation_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = {"evaluation_return_per_stage": [-4.0, None, -1.5], "evaluation_return_post": -1.5}
    validation = {"validation_return_per_stage": [-5.0, None], "validation_return_post": None}
    with progress([9, 9], Console(force_terminal=False)) as report:
        report(0, {**ROW, "iteration": 1})
        report(1, {**ROW, "iteration": 2, **evaluation, **validation, "evaluation_seconds": 0.1})
        report(1, {**ROW, "iteration": 3})
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("run 1/2, iteration 1/9  return -3.00 -> -2.00")
    assert second == "run 2/2, iteration 2/9  evaluation -4.00 -> -1.50  validation -5.00 -> not finite"
