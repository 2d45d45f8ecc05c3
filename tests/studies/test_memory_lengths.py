"""Memories against the length of what they have to bridge: what is trained, and what is shown of it."""

from pathlib import Path
from typing import Any

import pytest

from metarl_jax.studies import commands, memory_lengths
from metarl_jax.studies.results import read

COST = {"env_steps": 500, "seconds": 1}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What is changed in the config at each training; every second success is a failure."""
    changed: list[tuple[str, ...]] = []
    monkeypatch.setattr(commands, "train", lambda run_dir, config, *changes: changed.append(changes))
    monkeypatch.setattr(
        commands,
        "evaluate",
        lambda run_dir, tasks: {"success_rate": [0.5 if len(changed) % 2 else 1.0]} if tasks == 1000 else {},
    )
    monkeypatch.setattr(commands, "training_cost", lambda run_dir: COST)
    return changed


def test_each_memory_is_trained_at_growing_lengths(trained: list[tuple[str, ...]], tmp_path: Path) -> None:
    """Each from the one before, a transformer with the whole corridor in sight; what was measured before stays."""
    file = tmp_path / "m.json"
    memory_lengths.study(["transformer 30", "gru 10"], overrides=["seed=2"], file=file, runs=tmp_path)
    remembered = ("policy.chrono_steps=null", "optimizer.learning_rate=3e-4")
    longer = (
        f"training.initial_run={tmp_path / 'transformer_10'}",
        "training.num_iterations=100",
        "optimizer.warmup_steps=160",
        "optimizer.decay_steps=1440",
        "algorithm.entropy_decay_updates=50",
    )
    assert trained == [
        ("tasks.length=10", "policy.memory=transformer", "policy.window=11", *remembered, "seed=2"),
        ("tasks.length=30", "policy.memory=transformer", "policy.window=31", *remembered, *longer, "seed=2"),
        ("tasks.length=10", "policy.chrono_steps=1000", "seed=2"),
    ]
    memory_lengths.study(["gru without chrono_steps 10"], file=file, runs=tmp_path)
    results: dict[str, Any] = read(file)
    assert list(results) == ["gru 10", "gru without chrono_steps 10", "transformer 30"]
    assert results["gru 10"] == {
        "command": "metarl train configs/rl2_t_maze.yaml tasks.length=10 policy.chrono_steps=1000 seed=2",
        "success": 0.5,
        "env_steps": 500,
        "seconds": 1,
    }
    assert "| transformer | | 1.00 (1 s) |" in file.with_suffix(".md").read_text()
    assert file.with_suffix(".png").stat().st_size > 1000


def test_where_an_update_takes_minutes_there_are_fewer(trained: list[tuple[str, ...]], tmp_path: Path) -> None:
    """Their schedule is that of the others, of which it is the beginning; the table says how many they were."""
    file = tmp_path / "m.json"
    memory_lengths.study(["transformer of one layer 1000"], file=file, runs=tmp_path)
    *_, longer, before, last = (changes[-4:] for changes in trained)
    assert [changes[0] for changes in (longer, before, last)] == [
        f"training.num_iterations={updates}" for updates in (100, 60, 10)
    ]
    assert longer[1:] == before[1:] == last[1:]
    assert "| transformer of one layer | 1.00 (1 s, 10 updates) |" in file.with_suffix(".md").read_text()
