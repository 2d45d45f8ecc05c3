"""Studies without training: the command reads its words as ever, and leaves behind what it would have."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from metarl_jax.cli import app
from metarl_jax.studies import commands
from metarl_jax.tracking.files import METRICS_FILE
from tests.studies.evaluations import evaluation

ROW = {"env_steps": 2_000_000, "return_pre": None, "return_post": 2.0, "iteration_seconds": 90.0}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that a study gives, as words."""
    given: list[list[str]] = []
    monkeypatch.chdir(Path(__file__).parents[2])  # studies name configs from here

    def metarl(*arguments: object, capture: bool = False) -> str:
        words = [str(argument) for argument in arguments]
        parser = typer.main.get_command(app).commands[words[0]]
        parser.make_context(words[0], words[1:])  # the command knows all options
        given.append(words)
        if words[0] == "train":
            run_dir = Path(words[words.index("--run-dir") + 1])
            run_dir.mkdir(parents=True, exist_ok=True)
            (run_dir / METRICS_FILE).write_text(json.dumps({"iteration": 4, **ROW}) + "\n")
        elif words[0] == "evaluate":
            Path(words[words.index("--output") + 1]).write_text(json.dumps(_evaluated(words)))
        return json.dumps(
            {
                "env_steps_per_iteration": 250_000,
                "computed_env_steps_per_iteration": 500_000,
                "per_iteration": {"total": {"cpu_seconds": 3.0}, "outer": {"cpu_seconds": 1.0}},
                "temporary_bytes": 2**20,
            }
        )

    monkeypatch.setattr(commands, "metarl", metarl)
    return given


def _evaluated(words: list[str]) -> dict[str, Any]:
    steps = int(words[words.index("--steps") + 1]) if "--steps" in words else 3
    trained, random = ([1.0, 3.0, 4.0, 5.0], [0.0, 0.5, 0.5, 0.5])
    return evaluation(trained[: steps + 1]) | {"random_initialisation": evaluation(random[: steps + 1])}
