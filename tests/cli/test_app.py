"""What all commands share: places that cannot be written to are refused before any work is done for them."""

import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import jax
import pytest

from metarl_jax.cli.app import check_file, check_folder, check_plot
from metarl_jax.cli.benchmark import benchmark
from metarl_jax.cli.check_gradients import check_gradients
from metarl_jax.cli.compare import compare
from metarl_jax.cli.evaluate import evaluate_run
from metarl_jax.cli.export import export_to
from metarl_jax.cli.render import draw_run
from metarl_jax.cli.report import report
from metarl_jax.cli.sweep import sweep
from metarl_jax.config import ConfigError
from metarl_jax.diagnostics import benchmark as measuring
from metarl_jax.diagnostics import throughput
from metarl_jax.diagnostics.timing import ALONE
from metarl_jax.runs import startup
from metarl_jax.runs.run import Run
from tests.helpers import tiny_config, untrained, write_config


def test_a_folder_may_have_to_be_made_and_is_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_folder("--output", tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    monkeypatch.chdir(tmp_path)
    check_folder("--output", Path())
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(ConfigError, match=r"^--output: \S+ may not be written into; choose another folder"):
        check_folder("--output", tmp_path / "a")


def test_a_file_may_have_to_be_made_and_is_not_made_yet(tmp_path: Path) -> None:
    check_file("--output", tmp_path / "a" / "b.html")
    assert not (tmp_path / "a").exists()


@cache
def run() -> Run:
    return untrained({"name": "navigation_finn"}, {"name": "maml"})


def _export(file: Path) -> None:
    export_to(file, run(), adapted=-1, task=None)  # no task that there is: what is refused comes before adaptation


def _sweep(file: Path) -> None:
    config = write_config(file.parent)
    study = file.parent / "study.yaml"
    study.write_text(f"config: {config}\ngrid: {{algorithm.inner_lr: [0.1]}}\n")
    sweep(study, directory=file)


@pytest.mark.parametrize(
    ("option", "command"),
    [
        ("--profile", lambda file: benchmark(write_config(file.parent), profile=file)),
        ("--turns", lambda file: benchmark(write_config(file.parent), turns=file / "lock")),
        ("--picture", lambda file: benchmark(write_config(file.parent), picture=file / "x.png")),
        ("--picture", lambda file: check_gradients(picture=file / "x.png")),
        ("--output", lambda file: compare([], output=file)),
        ("--output", lambda file: report([], output=file / "x.html")),
        ("--output", lambda file: evaluate_run(Path("nowhere"), "latest", {}, output=file / "x.json")),
        ("--output", lambda file: evaluate_run(Path("nowhere"), "latest", {}, output=file)),
        ("--output", lambda file: draw_run(run(), file.parent, file / "x.png", None, 0)),
        ("--output", _export),
        ("--dir", lambda file: compare([str(write_config(file.parent))], directory=file)),
        ("--dir", _sweep),
    ],
)
def test_a_file_is_no_folder(tmp_path: Path, option: str, command: Callable[[Path], None]) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match=rf"^{option}: \S+file is a file, so nothing can be put into"):
        command(file)


@pytest.mark.parametrize(
    ("option", "command"),
    [
        ("--picture", lambda folder: benchmark(write_config(folder.parent), picture=folder)),
        ("--picture", lambda folder: check_gradients(picture=folder)),
        ("--output", lambda folder: report([], output=folder)),
    ],
)
def test_a_folder_is_no_file(tmp_path: Path, option: str, command: Callable[[Path], None]) -> None:
    (folder := tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match=rf"^{option}: \S+there is a folder; name a file"):
        command(folder)


@pytest.mark.parametrize("name", ["plot", "plot.txt"])
def test_a_plot_that_cannot_be_saved_is_refused_before_it_is_drawn(tmp_path: Path, name: str) -> None:
    check_plot("--picture", tmp_path / "plot.PDF")
    for command in (partial(benchmark, write_config(tmp_path)), check_gradients):
        with pytest.raises(ConfigError, match=rf"^--picture \S+{name}: end the name of the picture in \.png"):
            command(picture=tmp_path / name)


@pytest.mark.parametrize(
    "command",
    [
        lambda folder: draw_run(run(), folder, None, [0.0], 0),  # a task has two numbers: that is asked later
        lambda folder: draw_run(run(), folder.parent, folder, [0.0], 0),
        lambda folder: export_to(folder / "export", run(), adapted=-1, task=None),
    ],
)
def test_a_run_that_may_only_be_read_is_told_before_it_adapts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[Path], None]
) -> None:
    (folder := tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder)
    with pytest.raises(ConfigError, match=r"^--output: \S+run may not be written into; choose another folder"):
        command(folder)


@pytest.mark.parametrize("kind", ["link", "text", "config"])
def test_what_is_no_lock_file_is_not_taken_for_one(tmp_path: Path, kind: str) -> None:
    config = file = write_config(tmp_path)
    if kind != "config":
        file = tmp_path / "lock"
        file.symlink_to(tmp_path / "elsewhere") if kind == "link" else file.write_text("mine")
    with pytest.raises(ConfigError, match=r"^--turns: \S+ is no lock file"):
        benchmark(config, turns=file)


def test_a_benchmark_without_turns_has_the_device_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(startup, "set_up", lambda devices: None)
    monkeypatch.setattr(jax.config, "update", lambda *setting: None)
    monkeypatch.setattr(measuring, "benchmark", lambda *arguments: {"config": "tiny"})
    monkeypatch.setattr(throughput, "sweep", lambda *arguments: given.extend(arguments))
    benchmark(write_config(tmp_path), sweep=True, as_json=True)
    assert ALONE in given
    assert {"config": "tiny", "sweep": None} in given
    settled = given[-1]
    assert callable(settled)
    assert settled(tiny_config(training={"meta_batch_size": 6})).config.training.meta_batch_size == 6
