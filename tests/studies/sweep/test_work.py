"""Trials are trained: a study ends as it would have, whoever was killed on the way."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config import Config
from metarl_jax.runs.build import build
from metarl_jax.runs.evaluation import evaluate
from metarl_jax.runs.program import Program, make_program
from metarl_jax.runs.run import load
from metarl_jax.studies.sweep.objective import make_measure
from metarl_jax.studies.sweep.results import to_csv
from metarl_jax.studies.sweep.sweep import load_sweep, record_of, seeds_of
from metarl_jax.studies.sweep.trials import Trial, is_over, open_trials, read_trials, tell, trial_directory
from metarl_jax.studies.sweep.work import Worker, _lanes, work
from metarl_jax.tracking.jsonl import read_metrics
from tests.helpers import environment, metarl, tiny_config, wait_for

WriteStudy = Callable[..., Path]
ProgramOf = Callable[[Config], Program]
ONE = jax.devices()[:1]


@contextmanager
def silent(updates: Sequence[int]) -> Iterator[Callable[[int, dict[str, Any]], None]]:
    yield lambda run, row: None


@pytest.fixture(scope="module")
def program_of() -> ProgramOf:
    """All studies here are of one program."""
    program = make_program(build(tiny_config()), ONE, 4)
    return lambda config: program


def worker(file: Path, program_of: ProgramOf, **changes: Any) -> Worker:
    sweep = load_sweep(file)
    trials = open_trials(sweep.study, file.parent / "study", record_of(sweep))
    measure = make_measure(sweep.study.objective, lambda text: None)
    return Worker(sweep, trials, program_of, measure, 2, lambda text: None, silent, lambda: None, "again")._replace(
        **changes
    )


def csv_of(who: Worker) -> str:
    return to_csv(who.sweep.study, seeds_of(who.sweep), read_trials(who.trials))


def test_a_grid_is_trained_in_one_program_and_measured_on_held_out_tasks(
    write_study: WriteStudy, program_of: ProgramOf
) -> None:
    said: list[str] = []
    who = worker(write_study(objective=None), program_of, say=said.append)
    assert work(who, waits=False) is None
    assert is_over(who.trials)
    assert said[0] == "trials 0, 1: training 4 runs to update 6"
    rows = list(csv.DictReader(csv_of(who).splitlines()))
    assert [(row["algorithm.inner_lr"], row["optimizer.learning_rate"]) for row in rows] == [
        ("0.01", "0.001"),
        ("0.01", "0.01"),
        ("0.1", "0.001"),
        ("0.1", "0.01"),
    ]
    directory = trial_directory(who.trials.directory, 2) / "seed-4"
    numbers = json.loads((directory / "evaluation.json").read_text())
    assert float(rows[2]["seed 4"]) == numbers["mean_return"][-1]
    assert float(rows[2]["objective"]) == pytest.approx((float(rows[2]["seed 3"]) + float(rows[2]["seed 4"])) / 2)
    alone = evaluate(load(directory))  # as 'metarl evaluate' does
    np.testing.assert_allclose(alone["mean_return"], numbers["mean_return"], rtol=1e-5)
    np.testing.assert_allclose(
        alone["random_initialisation"]["mean_return"], numbers["random_initialisation"]["mean_return"], rtol=1e-5
    )
    assert alone["settings"] == numbers["settings"]


def test_a_study_that_was_stopped_goes_on_and_ends_the_same(
    write_study: WriteStudy, program_of: ProgramOf, tmp_path: Path
) -> None:
    file = write_study(halving={"first": 2, "factor": 2}, seeds=1)
    whole = worker(file, program_of)
    work(whole, waits=False)
    expected = csv_of(whole)
    assert [line.split(",")[1:3] for line in expected.splitlines()[1:]].count(["finished", "6"]) == 1
    assert [line.split(",")[1:3] for line in expected.splitlines()[1:]].count(["halved", "2"]) == 2
    (tmp_path / "study").rename(tmp_path / "whole")
    asked: list[None] = []

    def stop_requested() -> int | None:
        asked.append(None)
        return signal.SIGTERM if len(asked) % 7 == 0 else None  # now in a run, now between two trials

    stops = 0
    while not is_over((who := worker(file, program_of, stop_requested=stop_requested)).trials):
        stops += work(who, waits=False) == signal.SIGTERM
    assert stops > 1
    assert csv_of(who) == expected
    for run in (tmp_path / "study" / "trials").glob("*/seed-3"):
        updates = [row["iteration"] for row in read_metrics(run)]
        assert updates == list(range(1, len(updates) + 1))


def test_settings_are_compared_by_an_evaluation_while_they_train(
    write_study: WriteStudy, program_of: ProgramOf
) -> None:
    """At the comparison of halving, and at the end, the newest one."""
    objective = {"of": "training", "metric": "evaluation_return_post", "last": 1}
    overrides = {"evaluation.every": 2, "training.num_iterations": 5}
    who = worker(write_study(objective=objective, overrides=overrides, halving={"first": 2}, seeds=1), program_of)
    work(who, waits=False)
    for trial in read_trials(who.trials):
        rows = {
            row["iteration"]: row
            for row in read_metrics(trial_directory(who.trials.directory, trial.number) / "seed-3")
        }
        assert trial.scores == {
            end: rows[newest]["evaluation_return_post"] for end, newest in ((2, 2), (5, 4)) if end in trial.scores
        }
    assert sum(5 in trial.scores for trial in read_trials(who.trials)) == 1


def test_a_setting_that_diverges_fails_alone(write_study: WriteStudy, program_of: ProgramOf) -> None:
    rates = {"algorithm.inner_lr": [0.1, 1e30]}
    objective = {"of": "training", "metric": "grad_norm", "last": 6}
    who = worker(write_study(grid=rates, seeds=1, objective=objective), program_of)
    assert work(who, waits=False) is None
    fine, failed = read_trials(who.trials)
    assert (fine.state, failed.state) == ("finished", "failed")
    assert csv_of(who).splitlines()[2] == "1,failed,,1e+30,,"


LONG = {"training.num_iterations": 60, "training.checkpoint_every": 20}


def started(file: Path, directory: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "metarl_jax", "sweep", str(file), "--dir", str(directory), "--devices=1", *options]
    return subprocess.Popen(command, env=environment(1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def checkpoints(directory: Path) -> list[Path]:
    return list(directory.glob("trials/*/seed-*/checkpoints/20"))


@pytest.mark.slow
def test_killed_workers_leave_a_study_that_ends_the_same(write_study: WriteStudy, tmp_path: Path) -> None:
    """One is killed in its first trial; of two that go on, one is killed, too; the other takes over what it had."""
    file = write_study(overrides=LONG, batch=1)
    done = metarl("sweep", file, "--dir", tmp_path / "whole", devices=1)
    assert done.returncode == 0, done.stderr

    shared = tmp_path / "shared"
    first = started(file, shared)
    wait_for(lambda: bool(checkpoints(shared)))
    first.kill()
    first.wait()
    second, third = started(file, shared, "--worker"), started(file, shared)
    wait_for(lambda: len(list(shared.glob("trials/*/seed-*/metrics.jsonl"))) >= 3)
    second.kill()
    second.wait()
    assert third.wait() == 0
    assert (shared / "study.csv").read_bytes() == (tmp_path / "whole" / "study.csv").read_bytes()
    assert {path.name for path in shared.iterdir()} >= {"study.csv", "heat_map.png", "learning.png"}
    runs = list(shared.glob("trials/*/seed-*"))
    assert len(runs) == 8
    for run in runs:
        assert [row["iteration"] for row in read_metrics(run)] == list(range(1, 61))


def test_a_batch_is_of_one_program_and_full(write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second trial is of the same network; of the third, too few are left to fill a batch."""
    said: list[str] = []
    grid = {"algorithm.inner_lr": [0.01, 0.1, 0.2], "policy.hidden_sizes": [[4], [6]]}
    monkeypatch.setattr(sys.modules[work.__module__], "_train", lambda worker, taken, rungs: finish(worker, taken))

    def finish(worker: Worker, taken: Sequence[Trial]) -> None:
        said.append(" ".join(str(trial.number) for trial in taken))
        for trial in taken:
            tell(worker.trials, trial.number, 6, True, {3: 1.0})

    who = worker(write_study(grid=grid, seeds=1), lambda config: None)
    assert work(who, waits=False) is None
    assert said == ["0 2", "1 3", "4", "5"]
    assert is_over(who.trials)


def test_a_refusal_of_a_trial_leaves_it_to_others(write_study: WriteStudy, program_of: ProgramOf) -> None:
    """The study has begun, so it stays; of the runs nothing does."""

    def refuse(config: Config) -> Program:
        raise Refusal("training.meta_batch_size", 4, "too much")

    file = write_study()
    who = worker(file, refuse)
    before = sorted(who.trials.directory.rglob("*"))
    with pytest.raises(Refusal, match="too much"):
        work(who, waits=False)
    assert sorted(who.trials.directory.rglob("*")) == before
    assert [trial.state for trial in read_trials(who.trials)] == ["unfinished"] * 2
    arrived = iter([None, None, *[signal.SIGTERM] * 9])
    said: list[str] = []
    work(worker(file, program_of, say=said.append, stop_requested=lambda: next(arrived)), waits=False)
    assert said == ["trials 0, 1: training 4 runs to update 6"]


def test_the_seeds_of_a_trial_are_a_group(write_study: WriteStudy, program_of: ProgramOf) -> None:
    who = worker(write_study(objective=None), program_of)
    lanes = _lanes(who, Trial(7, {}, "unfinished", {}, {}))
    assert {lane.group for lane in lanes} == {"study/0007"}
