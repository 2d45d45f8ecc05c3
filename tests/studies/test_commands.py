"""Commands: a run in processes of its own, which goes on where it stopped."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from metarl_jax.studies import commands
from metarl_jax.tracking.jsonl import read_metrics
from tests.helpers import TINY, write_config


@pytest.mark.slow
def test_a_run_is_trained_and_evaluated(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "run"
    commands.train(run_dir, write_config(tmp_path), "training.num_iterations=2", "seed=5")
    assert [row["iteration"] for row in read_metrics(run_dir)] == [1, 2]
    evaluation = commands.evaluate(run_dir, steps=1, tasks=2, episodes=None)
    assert evaluation["checkpoint"] == 2
    assert len(evaluation["per_task_return"]) == 2
    assert evaluation["settings"]["episodes_per_task"] == TINY["evaluation"]["episodes_per_task"]
    assert "Return on 2 held-out tasks" in capfd.readouterr().out


def test_what_the_command_prints_is_shown_or_returned_and_a_failure_is_not_passed_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "quickstart" in commands.metarl("list", capture=True)
    assert capfd.readouterr().out == ""
    with pytest.raises(subprocess.CalledProcessError):
        commands.evaluate(tmp_path / "nowhere", steps=1)
    assert "nowhere" in capfd.readouterr().err


def test_the_cost_of_a_training_is_that_of_all_its_updates(tmp_path: Path) -> None:
    rows = [{"iteration": i, "env_steps": 50 * i, "iteration_seconds": 0.4} for i in (1, 2, 3, 4)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert commands.training_cost(tmp_path) == {"env_steps": 200, "seconds": 2, "devices": []}


def test_a_training_took_place_where_updates_were_made(tmp_path: Path) -> None:
    """Not where a run that was done was only opened again."""
    cpu, gpu = {"platform": "cpu", "kind": "cpu"}, {"platform": "gpu", "kind": "H100"}
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"iteration": 9, "env_steps": 9, "iteration_seconds": 1.0}))

    def cost_of(*starts: tuple[int, list[dict[str, str]] | None]) -> dict[str, Any]:
        rows = [json.dumps({"iteration": iteration, "devices": devices}) for iteration, devices in starts]
        (tmp_path / "provenance.jsonl").write_text("".join(row + "\n" for row in rows))
        return commands.training_cost(tmp_path)

    assert cost_of((0, [cpu]), (9, [gpu]))["devices"] == ["cpu"]
    assert cost_of((0, None), (4, [gpu]), (9, [cpu]))["devices"] == ["H100"]
    both = cost_of((0, [gpu]), (4, [cpu]))
    assert commands.training_place(both) == " on H100 and cpu"


def test_the_memory_of_a_command_is_its_peak() -> None:
    assert 2**24 < commands.peak_bytes("--version") < 2**34
    with pytest.raises(subprocess.CalledProcessError):
        commands.peak_bytes("--no-such-option")
