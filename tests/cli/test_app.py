"""What all commands share: places that cannot be written to are refused before any work is done for them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from metarl_jax.cli.app import check_folder
from metarl_jax.cli.benchmark import benchmark
from metarl_jax.cli.check_gradients import check_gradients
from metarl_jax.cli.compare import compare
from metarl_jax.cli.evaluate import evaluate_run
from metarl_jax.cli.render import draw_run
from metarl_jax.cli.report import report
from metarl_jax.config import ConfigError
from tests.helpers import untrained, write_config


def test_a_folder_may_have_to_be_made_and_is_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_folder("--output", tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    monkeypatch.chdir(tmp_path)
    check_folder("--output", Path())
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(ConfigError, match=r"^--output: \S+ may not be written into; choose another folder"):
        check_folder("--output", tmp_path / "a")


def _draw(file: Path) -> None:
    draw_run(untrained({"name": "navigation_finn"}, {"name": "maml"}), file.parent, file / "x.png", None, 0)


@pytest.mark.parametrize(
    ("option", "command"),
    [
        ("--profile", lambda file: benchmark(write_config(file.parent), profile=file)),
        ("--picture", lambda file: benchmark(write_config(file.parent), picture=file / "x.png")),
        ("--picture", lambda file: check_gradients(picture=file / "x.png")),
        ("--output", lambda file: compare([], output=file)),
        ("--output", lambda file: report([], output=file / "x.html")),
        ("--output", lambda file: evaluate_run(Path("nowhere"), "latest", {}, output=file / "x.json")),
        ("--output", lambda file: evaluate_run(Path("nowhere"), "latest", {}, output=file)),
        ("--output", _draw),
    ],
)
def test_a_file_is_no_folder(tmp_path: Path, option: str, command: Callable[[Path], None]) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match=rf"^{option}: \S+file is a file, so nothing can be put into"):
        command(file)
