"""``metarl plan``: what it asks the planner for, what it prints, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from metarl_jax.checks import Refusal
from metarl_jax.cli.plan import plan
from metarl_jax.config import Config, ConfigError
from metarl_jax.plan import estimate, targets
from metarl_jax.runs import startup
from tests.helpers import write_config

REFUSED = {"target": "h100", "devices": 1, "meta_batch_size": 4, "compiles": False, "why": "INTERNAL: no"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the planner is asked, in the place of which a known answer stands; JAX's settings stay as they are."""
    asked: list[Any] = []

    def answer(config: Config, target: str) -> dict[str, Any]:
        asked.extend((config.training.meta_batch_size, target))
        return REFUSED

    monkeypatch.setattr(estimate, "plan", answer)
    monkeypatch.setattr(targets, "stay_on_cpu", lambda: None)
    monkeypatch.setattr(startup, "set_up", asked.append)
    return asked


def test_a_target_is_planned_for(asked: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(write_config(tmp_path), ["training.meta_batch_size=8"], target="h100", as_json=True)
    assert asked == [8, "h100"]
    assert json.loads(capsys.readouterr().out) == REFUSED
    plan(write_config(tmp_path), target="h100")
    shown = capsys.readouterr().out
    assert "does not compile" in shown
    assert "INTERNAL: no" in shown


def test_this_machine_is_set_up_as_for_training(asked: list[Any], tmp_path: Path) -> None:
    plan(write_config(tmp_path), target="cpu", devices=2)
    assert asked == [2, 4, "cpu"]


def test_what_makes_no_sense_is_refused_before_anything_compiles(asked: list[Any], tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="target = 'v5:2x2': no such target; did you mean 'v5e:2x2'"):
        plan(write_config(tmp_path), target="v5:2x2")
    with pytest.raises(ConfigError, match="--devices 2: is for --target cpu"):
        plan(write_config(tmp_path), target="h100", devices=2)
    assert asked == []
