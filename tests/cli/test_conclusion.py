"""What is said when training ends: commands that work, what to expect of a shipped config, or what went wrong."""

import json
import shlex
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
import typer

from metarl_jax.cli import app
from metarl_jax.cli.conclusion import tell_end, tell_what_next
from metarl_jax.config import Config, load_config
from metarl_jax.runs.build import build
from metarl_jax.runs.launch import Trained
from metarl_jax.runs.training import Lane, TrainResult
from metarl_jax.tracking.files import METRICS_FILE
from metarl_jax.types import TrainState
from tests.helpers import tiny_config


def trained(config: Config, *folders: Path, finished: bool = True, again: str = "", **numbers: Any) -> Trained:
    """Runs of six updates that have these numbers."""
    row = {"return_pre": -40.0, "return_post": -12.0, "env_steps": 1, "skipped": 0.0, **numbers}
    for folder in folders:
        folder.mkdir(parents=True)
        lines = (json.dumps({"iteration": i + 1, **row}) + "\n" for i in range(6))
        (folder / METRICS_FILE).write_text("".join(lines))
    state = TrainState(params={}, opt_state=(), aux=(), step=jnp.array(6))
    lanes, results = [Lane(config, folder) for folder in folders], [TrainResult(state, finished, 1.0) for _ in folders]
    return Trained(lanes, results, again)


def commands_in(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.splitlines() if line.startswith("  metarl")]


def test_what_to_run_next_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, config = tmp_path / "my run", tiny_config()
    tell_what_next(trained(config, folder), build(config), False)
    text = capsys.readouterr().out
    commands = commands_in(text)
    assert commands == [["metarl", name, str(folder)] for name in ("evaluate", "render", "report")]
    for _, name, *arguments in commands:
        command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
        params = command.make_context(name, arguments).params
        assert params["what"] == [folder] if name == "report" else params["run_dir"] == folder
    assert "good result" not in text
    tell_what_next(trained(config, tmp_path / "other"), build(config), True)
    assert [words[1] for words in commands_in(capsys.readouterr().out)] == ["render", "report"]


def test_a_family_that_cannot_be_drawn_is_not_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_config(tasks={"name": "tabular_mdp"})
    tell_what_next(trained(config, tmp_path / "a", tmp_path / "b"), build(config), False)
    commands = commands_in(capsys.readouterr().out)
    assert [words[1] for words in commands] == ["evaluate", "evaluate", "compare", "report"]
    assert [words[2] for words in commands[2:]] == [str(tmp_path)] * 2, "of all seeds together"


def test_a_shipped_config_has_a_good_result_to_be_compared_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config("quickstart", ["seed=9"])
    tell_what_next(trained(config, tmp_path / "run"), build(config), False)
    assert "A good result: what quickstart came to (3 seeds, 40 iterations" in capsys.readouterr().out


@pytest.mark.parametrize("folders", [["run"], ["seed-1", "seed-2"]])
def test_a_diverged_run_says_so_in_its_last_line(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config()
    done = trained(config, *(tmp_path / name for name in folders), return_post=None, skipped=1.0)
    tell_end(done, "tiny")
    tell_what_next(done, build(config), False)
    text = capsys.readouterr().out
    name = "" if len(folders) == 1 else "seed-2: "
    assert text.splitlines()[-1] == f"{name}diverged: 6 of the last 6 updates were not finite and changed nothing"
    assert not commands_in(text)


def test_a_stopped_run_is_continued_by_a_command_in_its_own_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = "metarl resume 'my run' --devices 1"
    tell_end(trained(tiny_config(), tmp_path / "my run", finished=False, again=again), "tiny")
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == ["stopped and saved at iteration 6; continue with:", f"  {again}"]


@pytest.mark.parametrize(
    ("folders", "reasons", "said"),
    [
        (["run"], ["iterations"], "with all 6 iterations; train further with:\n  AGAIN training.num_iterations=12"),
        (
            ["run"],
            ["patience"],
            "by evaluation.patience at iteration 6; train further with:\n  AGAIN evaluation.patience=null",
        ),
        (
            ["seed-1", "seed-2"],
            ["iterations", "iterations"],
            "with all 6 iterations of each of 2 runs; train further with:\n  AGAIN training.num_iterations=12",
        ),
        (
            ["seed-1", "seed-2"],
            ["patience", "iterations"],
            "by evaluation.patience in 1 of 2 runs; train further with:\n  AGAIN evaluation.patience=null",
        ),
    ],
)
def test_a_run_that_had_ended_before_says_what_trains_it_further(
    folders: list[str], reasons: list[Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = trained(tiny_config(), *(tmp_path / name for name in folders), again="AGAIN")
    ended = zip(done.results, reasons, strict=True)
    results = [result._replace(seconds_to_first_update=None, reason=reason) for result, reason in ended]
    tell_end(done._replace(results=results), "tiny")
    printed = capsys.readouterr().out
    assert printed == f"finished already, {said}\n"
    assert max(map(len, printed.splitlines())) <= 80
