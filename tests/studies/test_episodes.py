"""What each episode of a trial earns: what is trained and tested, and the page."""

from pathlib import Path
from typing import Any

import pytest

from metarl_jax.checks import Refusal
from metarl_jax.studies import commands, episodes
from metarl_jax.studies.results import read

EVALUATION = {
    "per_task_return": [[1.0, 3.0], [4.0, 6.0]],  # two episodes of two trials
    "success_rate": [0.5, 1.0],
    "bayes_optimum": [3.0, 6.5],
    "optimum": 7.0,
}


def test_each_config_is_a_row_beside_the_optima(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was measured before stays."""
    given: list[Any] = []
    monkeypatch.setattr(commands, "train", lambda run_dir, config: given.append((run_dir, config)))
    monkeypatch.setattr(commands, "evaluate", lambda run_dir, **options: given.append(options) or EVALUATION)
    monkeypatch.setattr(commands, "training_cost", lambda run_dir: {"env_steps": 3_000_000, "seconds": 90})
    file = tmp_path / "room.json"
    episodes.study(file, ["rl2_room"], episodes=2, tasks=2, runs=tmp_path)
    assert given == [(tmp_path / "room_rl2_room", "rl2_room"), {"tasks": 2, "steps": 1}]
    episodes.study(file, ["ad_room"], episodes=2, tasks=2, runs=tmp_path)
    results = read(file)
    assert list(results) == ["rl2_room", "ad_room"]
    assert results["ad_room"]["return"] == [2.0, 5.0]
    text = file.with_suffix(".md").read_text()
    assert "python benchmarks/episodes.py rl2_room ad_room --name room --episodes 2 --tasks 2" in text
    assert "95 % interval, and in brackets the share of trials in which it succeeds, on held-out tasks" in text
    assert "| `rl2_room` | 2.0 ± 12.7 (50%) | 5.0 ± 12.7 (100%) | 3M steps, 2 min |" in text
    assert "| Bayes-optimal, of all tasks | 3.00 | 6.50 | |" in text
    assert "| told the task, of those tested | 7.00 | 7.00 | |" in text
    given.clear()
    with pytest.raises(Refusal, match=r"has rl2_room with .*'episodes': 2.*: measure all alike"):
        episodes.study(file, ["dpt_room"], episodes=3, tasks=2, runs=tmp_path)
    assert not given, "nothing is trained first"


def test_a_family_that_knows_no_optimum_has_no_row_for_it() -> None:
    result = {"tasks": 5, "episodes": 1, "return": [1.5], "half": [0.25], "env_steps": 2e6, "seconds": 60}
    text = episodes.page("room", {"rl2_room": result})
    assert "brackets" not in text
    assert text.splitlines()[-2:] == [
        "|---|---|---|",
        "| `rl2_room` | 1.5 ± 0.2 | 2M steps, 1 min |",
    ]
