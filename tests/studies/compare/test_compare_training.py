"""Training what is missing: the command that is given, and when none is."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from metarl_jax.cli import app
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.studies.compare import training
from metarl_jax.studies.compare.sources import Recipe
from metarl_jax.studies.compare.training import command, is_done, to_compute
from metarl_jax.tracking.files import METRICS_FILE
from tests.comparisons import MAML, config_of, write_run


def test_the_command_is_one_that_train_knows() -> None:
    words = command(Recipe(Path("configs/maml_navigation.yaml"), ("seed=4",)), Path("runs/x"), 5, 4e6, 2)
    parser = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    given = parser.make_context(words[0], words[1:]).params
    assert (given["seeds"], given["env_steps"], given["devices"], given["resume_if_exists"]) == (5, 4e6, 2, True)
    assert given["overrides"] == ["seed=4", "training.keep_checkpoints=20"]
    assert "--env-steps" not in command(Recipe(Path("x.yaml")), Path("runs/x"), 1, None, None)


def test_of_seeds_that_take_more_steps_than_others_earlier_checkpoints_are_kept() -> None:
    """All seeds are trained until the last has taken as many steps as are compared; what was asked for stays."""
    for number in (2, 30):
        asked = Recipe(Path("configs/maml_navigation.yaml"), (f"training.keep_checkpoints={number}",))
        words = command(asked, Path("runs/x"), 5, 4e6, 2)
        assert [word for word in words if "keep_checkpoints" in word] == list(asked.overrides)


def test_runs_are_done_at_the_nearest_update(tmp_path: Path) -> None:
    """Two updates of 100 steps are the nearest to 240, of which the third would be half too much."""
    runs = [write_run(tmp_path / str(seed), config_of(MAML, seed=seed), {1: 100, 2: 200}) for seed in range(2)]
    assert is_done(runs, 240.0)
    assert not is_done(runs, 260.0)
    assert not is_done([*runs, tmp_path / "missing"], 200.0)
    assert not is_done(runs, None)  # the config asks for six updates
    (runs[0] / "checkpoints" / "6").mkdir()
    assert is_done(runs[:1], None)


def test_a_run_that_patience_ended_is_done(tmp_path: Path) -> None:
    run = write_run(tmp_path / "0", config_of(MAML), {})
    with Checkpoints(run / "checkpoints") as checkpoints:
        checkpoints.save(2, {"x": np.zeros(1)}, {"ended": "patience"})
    assert is_done([run], None)
    assert is_done([run], 500.0)


def test_where_episodes_end_early_more_is_computed(tmp_path: Path) -> None:
    """An update computes 100 steps; the first takes all of them, the later ones half."""
    run = write_run(tmp_path / "0", config_of(MAML), {1: 100, 2: 150, 3: 200})
    rows = [json.loads(line) | {"computed_env_steps": 100 * i} for i, line in enumerate(_lines(run), 1)]
    (run / METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert to_compute([run], 300.0) == 500.0
    assert to_compute([tmp_path / "missing"], 300.0) == 300.0
    assert not is_done([run], 300.0)
    assert is_done([run], 230.0)


def _lines(run: Path) -> list[str]:
    return (run / METRICS_FILE).read_text().splitlines()


def test_a_signal_is_passed_on_and_its_number_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process is told once it listens, and ends as it wants to."""
    ready, script = tmp_path / "ready", tmp_path / "wait.py"
    script.write_text(
        "import pathlib, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "while True: signal.pause()\n"
    )
    monkeypatch.setattr(training, "_command", lambda words: [sys.executable, *words])
    assert training.train([str(script)], lambda: int(signal.SIGTERM) if ready.exists() else None) == signal.SIGTERM


def test_a_failure_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_command", lambda words: [sys.executable, "-c", *words])
    with pytest.raises(subprocess.CalledProcessError):
        training.train(["raise SystemExit(2)"], lambda: None)
