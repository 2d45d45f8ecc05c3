"""How training is started, and started again."""

import errno
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import jax
import pytest
import typer

from metarl_jax.cli import app
from metarl_jax.cli.evaluate import evaluate_lanes
from metarl_jax.cli.train import _again, _Options, train
from metarl_jax.config import load_config
from metarl_jax.runs import launch as launching
from metarl_jax.runs.build import Experiment, build
from metarl_jax.runs.directory import continuation, hold
from metarl_jax.runs.evaluation import evaluate, make_evaluation
from metarl_jax.runs.log import RunLog, _explain_failed_writes
from metarl_jax.runs.program import make_program
from metarl_jax.runs.run import load, prepare_directory
from metarl_jax.runs.training import Lane, train_lanes
from tests.helpers import tiny_config, write_config


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--devices", "2", "--evaluate"],
        ["--distributed", "auto"],
        ["--coordinator", "node1:7777", "--num-processes", "4", "--process-id", "0"],
    ],
)
def test_a_run_is_continued_with_the_options_that_it_was_started_with(options: list[str]) -> None:
    group = typer.main.get_command(app)
    started = group.commands["train"].make_context("train", ["quickstart", *options]).params  # type: ignore[attr-defined]
    launch = _Options._make(started[name] for name in _Options._fields)
    _, name, *arguments = continuation(Path("run"), *_again(launch)).split()
    continued = group.commands[name].make_context(name, arguments).params  # type: ignore[attr-defined]
    assert _Options._make(continued[field] for field in _Options._fields) == launch


@contextmanager
def held_elsewhere(run_dir: Path) -> Iterator[None]:
    is_held, is_over = Event(), Event()

    def keep() -> None:
        with hold(run_dir):
            is_held.set()
            is_over.wait()

    thread = Thread(target=keep)
    thread.start()
    is_held.wait()
    yield
    is_over.set()
    thread.join()


@pytest.mark.parametrize(
    ("seeds", "how", "message"),
    [
        (None, {}, "already holds a run: continue it with --resume"),
        (2, {"resume": True}, "holds a single run: choose another --run-dir"),
        (None, {"resume": True}, "nothing to resume in"),
        (None, {"resume": True}, "now, 5 in the run"),
        (None, {"overwrite": True}, "is in use by process"),
        (None, {"resume_if_exists": True}, "is in use by process"),
        (None, {}, "is a file, so nothing can be put into"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_anything_is_traced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seeds: int | None,
    how: dict[str, bool],
    message: str,
) -> None:
    monkeypatch.setattr(launching, "prepare_program", lambda *_: pytest.fail("traced"))
    run_dir = tmp_path / "run"
    if "file" in message:
        run_dir.touch()
    elif "nothing" not in message:
        config = load_config(write_config(tmp_path), ["seed=5"] if "5" in message else [])
        prepare_directory(run_dir, config, resume=False, overwrite=False)
    with ExitStack() as held:
        if "use" in message:
            held.enter_context(held_elsewhere(run_dir))
        with pytest.raises(SystemExit, match="2"):
            train(write_config(tmp_path), run_dir=run_dir, seeds=seeds, devices=1, **how)
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_full_disk_tells_how_all_seeds_go_on_with_the_options_that_they_were_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: RunLog, state: object) -> None:
        with _explain_failed_writes(self.run_dir, self.again):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunLog, "save", full)
    with pytest.raises(SystemExit, match="1"):
        train(write_config(tmp_path), run_dir=tmp_path / "run", seeds=2, devices=1, evaluate_after=True)
    again = f"metarl resume {tmp_path / 'run'} --devices 1 --evaluate"
    assert capsys.readouterr().err.endswith(f"continue with:\n  {again}\n")


def test_seeds_are_evaluated_by_one_program_as_each_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of another evaluation by another."""
    configs = [tiny_config(seed=seed) for seed in range(3)]
    configs[2] = tiny_config(seed=2, evaluation={"num_tasks": 2})
    lanes = [Lane(config, tmp_path / f"seed-{config.seed}") for config in configs]
    for lane in lanes:
        prepare_directory(lane.directory, lane.config, False, False)
    program = make_program(build(configs[0]), jax.devices()[:1], len(lanes))
    train_lanes(program, lanes, until=2)
    made: list[int] = []

    def counted(experiment: Experiment, *given: Any) -> Any:
        made.append(experiment.config.seed)
        return make_evaluation(experiment, *given)

    monkeypatch.setattr("metarl_jax.runs.evaluation.make_evaluation", counted)
    evaluate_lanes(program, lanes)
    assert made == [0, 2]
    shown = capsys.readouterr().out
    assert shown.count("numbers: ") == 3
    assert all(f"\nseed-{seed}: Return on " in shown for seed in range(3))
    monkeypatch.undo()
    together = json.loads((lanes[1].directory / "evaluation.json").read_text())
    reached = {"checkpoint": 2, "num_iterations": configs[1].training.num_iterations}
    assert together == {**reached, **evaluate(load(lanes[1].directory))}
