"""``metarl sweep``: refusals, and how it ends."""

import errno
import json
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import typer

from metarl_jax.checks import Refusal
from metarl_jax.cli.sweep import sweep
from metarl_jax.config import ConfigError
from metarl_jax.runs.directory import WriteError
from metarl_jax.runs.log import RunLog, _explain_failed_writes
from tests.helpers import write_config


def write_study(folder: Path, **sections: Any) -> Path:
    write_config(folder)
    path = folder / "grid.yaml"
    study = {"config": "tiny.yaml", "seeds": 1, "grid": {"algorithm.inner_lr": [0.1]}, "objective": {"of": "training"}}
    path.write_text(json.dumps(study | sections))
    return path


def test_without_optuna_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[sweep.__module__], "find_spec", {}.get)
    with pytest.raises(Refusal) as refusal:
        sweep(write_study(tmp_path))
    assert str(refusal.value) == "metarl sweep needs Optuna: pip install 'metarl-jax[sweep]'"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"grid": {"algorithm.inner_rl": [0.1]}}, "algorithm.inner_rl: unknown key"),
        ({"objective": {"of": "training", "metric": "retrun_post"}}, "did you mean 'return_post'"),
        ({"objective": {"metric": "total"}}, "promp on navigation_finn does not report it"),
    ],
)
def test_a_wrong_study_makes_no_directory(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep(write_study(tmp_path, **sections), directory=tmp_path / "study", devices=1)
    assert not (tmp_path / "study").exists()


def test_the_results_are_written_and_the_best_setting_s_command_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = {"algorithm.name": ["promp"], "algorithm.inner_lr": [0.1, 0.2]}
    study = write_study(tmp_path, grid=grid, overrides={"training.num_iterations": 2})
    for _ in range(2):  # the second time nothing is left to do
        sweep(study, directory=tmp_path / "study", devices=1)
        shown = capsys.readouterr()
        assert f"study directory: {tmp_path / 'study'}" in shown.out
        best = "training.num_iterations=2 algorithm.name=promp algorithm.inner_lr=0."
        assert f"train the best setting with:\n  metarl train {tmp_path / 'tiny.yaml'} {best}" in shown.out
        assert f"  metarl report {tmp_path / 'study'}\n" in shown.out
    assert "trial" not in shown.err
    assert len((tmp_path / "study" / "study.csv").read_text().splitlines()) == 3


def test_a_signal_ends_it_with_its_code_and_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("metarl_jax.studies.sweep.work.work", lambda worker, waits: signal.SIGTERM)
    monkeypatch.setattr("metarl_jax.studies.sweep.sweep.make_programs", lambda *_: lambda config: Mock())
    keys = ("algorithm.inner_lr", "inner_lr")
    with pytest.raises(typer.Exit) as ending:
        sweep(write_study(tmp_path), directory=tmp_path / "my study", devices=1, worker=True, keys=keys)
    assert ending.value.exit_code == 143
    options = f"--dir '{tmp_path / 'my study'}' --devices 1 --worker --keys algorithm.inner_lr inner_lr"
    again = f"metarl sweep {tmp_path / 'grid.yaml'} {options}"
    assert f"0 of 1 trials have ended; continue with:\n  {again}\n" in capsys.readouterr().out


def test_what_does_not_fit_begins_no_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl_jax.runs.memory.usable_bytes", lambda devices: 1)
    with pytest.raises(Refusal, match="an update needs"):
        sweep(write_study(tmp_path), directory=tmp_path / "studies" / "one", devices=1)
    assert not (tmp_path / "studies").exists()


def test_a_full_disk_tells_how_the_study_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: RunLog, state: object) -> None:
        with _explain_failed_writes(self.run_dir, self.again):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunLog, "save", full)
    study = write_study(tmp_path)
    with pytest.raises(WriteError) as error:
        sweep(study, directory=tmp_path / "study", devices=1)
    again = f"make room, then continue with:\n  metarl sweep {study} --dir {tmp_path / 'study'} --devices 1"
    assert str(error.value).endswith(again)
