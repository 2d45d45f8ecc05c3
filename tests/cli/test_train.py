"""How training is started, and started again."""

from pathlib import Path

import pytest
import typer

from metarl_jax.cli import app
from metarl_jax.cli.train import _again, _Options
from metarl_jax.runs.directory import continuation


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
