"""The suite for accelerators: what is asked of each case, what is kept, and the page."""

import json
import os
from pathlib import Path
from subprocess import CalledProcessError
from threading import Barrier
from typing import Any

import pytest
import typer
import yaml

from metarl_jax.cli import app
from metarl_jax.config import load_config
from metarl_jax.studies import accelerator, commands
from metarl_jax.studies.accelerator import CASES, study
from metarl_jax.studies.plan import CASES as PLANNED

MEASURED: dict[str, Any] = {
    "config": "config",
    "per_iteration": {"total": {"seconds": 0.05}},
    "adaptations_per_second": 4000.0,
    "env_steps_per_second": 3.2e6,
    "efficiency": 0.25,
    "derivatives": {"hvp_over_gradient": 2.0, "second_over_first_order": 1.75},
    "compile_seconds": 31.0,
    "memory_bytes": 2**30,
    "meta_batch_size": 40,
    "adaptation": {"unit": "gradient step", "trained": 1},
    "hardware": {"device": "NVIDIA H100", "cpu": "Xeon"},
    "versions": {"python": "3.12.3", "jax": "0.11.2"},
    "sweep": {
        "points": [
            {"units": 1, "meta_batch_size": 1280, "env_steps_per_second": 5e7},
            {"units": 1, "meta_batch_size": 2560, "refused": "does not fit"},
            {"units": 5, "meta_batch_size": 1280, "env_steps_per_second": 6e7},
        ],
        "complete_units": [1],
        "is_complete": False,
    },
}
FIRST, LAST = "promp, navigation_corner", "rl2, tabular_mdp"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Families and minutes of the benchmarks that a study asks for, each of which takes a minute."""
    given: list[tuple[str, float]] = []
    monkeypatch.setattr(accelerator.time, "monotonic", lambda: 60.0 * len(given))

    def metarl(command: str, config: Path, *words: object, capture: bool, environment: dict[str, str]) -> str:
        parser = typer.main.get_command(app).commands[command]
        options = parser.make_context(command, [str(config), *map(str, words)]).params
        assert (options["sweep"], options["as_json"], capture) == (True, True, True)
        given.append((load_config(config).tasks.name, options["minutes"]))
        return json.dumps(MEASURED)

    monkeypatch.setattr(commands, "metarl", metarl)
    return given


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({f"{FIRST}: h100": {"compiles": True, "seconds": {"per_update": 0.0211}}}))
    return file


def test_every_case_is_planned_and_is_a_config_for_accelerators(tmp_path: Path) -> None:
    assert set(CASES) <= set(PLANNED)
    for case in CASES:
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(accelerator.tree_of(case)))
        assert load_config(file).tasks.model_dump().get("backend") in (None, "spring", "mjx")


def test_cases_share_the_time_that_is_left(asked: list[tuple[str, float]], tmp_path: Path, plans: Path) -> None:
    study([FIRST, LAST], 9.0, file=tmp_path / "accelerator.json", plans=plans)
    assert asked == [("navigation_corner", 4.5), ("tabular_mdp", 8.0)]


def test_what_is_measured_stands_beside_what_is_planned(
    asked: list[tuple[str, float]], tmp_path: Path, plans: Path
) -> None:
    file = tmp_path / "accelerator.json"
    study([FIRST, LAST], measures=False, file=file, plans=plans)
    rows = file.with_suffix(".md").read_text().splitlines()[-2:]
    assert rows == [f"| {FIRST} | 21.1 |" + " |" * 10, f"| {LAST} |" + " |" * 11]
    study([FIRST], file=file, plans=plans)
    results = study([FIRST, LAST], measures=False, file=file, plans=plans)
    assert results[FIRST]["measured"] == MEASURED | {"config": FIRST}  # kept
    numbers = "NVIDIA H100 | 50.0 | 4,000 | 3,200,000 | 25% | 2.00 | 1.75 | 31 | 1,024 | 50,000,000 (1,280)"
    assert file.with_suffix(".md").read_text().splitlines()[-2] == f"| {FIRST} | 21.1 | {numbers} |"
    assert len(asked) == 1
    cut = MEASURED | {"sweep": MEASURED["sweep"] | {"complete_units": [5]}}
    assert "| 50,000,000 (1,280, not flat yet) |" in accelerator.page("", {FIRST: {"planned": None, "measured": cut}})
    assert "is empty. NVIDIA H100 (Xeon): python 3.12.3, jax 0.11.2." in file.with_suffix(".md").read_text()


def test_what_runs_side_by_side_has_cores_of_its_own_and_takes_turns(
    asked: list[tuple[str, float]], tmp_path: Path, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two cases begins while the other runs, on cores that the other has not, with the same lock file."""
    both, seen = Barrier(2, timeout=60.0), {}
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()

    def measure(case: str, minutes: float, turns: Path) -> dict[str, Any]:
        both.wait()
        seen[case] = (minutes, turns, os.sched_getaffinity(0) if cores else set())
        return MEASURED

    monkeypatch.setattr(accelerator, "measure", measure)
    results = study([FIRST, LAST], 9.0, 2, file=tmp_path / "accelerator.json", plans=plans)
    assert {case: result["measured"] for case, result in results.items()} == {FIRST: MEASURED, LAST: MEASURED}
    (minutes, turns, first), (others_minutes, others_turns, last) = seen[FIRST], seen[LAST]
    assert (minutes, turns) == (others_minutes, others_turns)
    assert minutes == 9.0
    if len(cores) > 1:
        assert first | last == cores
        assert not first & last


def test_one_that_fails_loses_no_other(tmp_path: Path, plans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(case: str, *_: object) -> dict[str, Any]:
        if case == FIRST:
            raise CalledProcessError(2, "metarl")
        return MEASURED

    monkeypatch.setattr(accelerator, "measure", measure)
    file = tmp_path / "accelerator.json"
    with pytest.raises(CalledProcessError) as failed:
        study([FIRST, LAST], file=file, plans=plans)
    assert failed.value.__notes__ == [FIRST]
    assert list(json.loads(file.read_text())) == [LAST]


def test_what_has_not_begun_when_the_work_is_given_up_never_does(
    tmp_path: Path, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def measure(case: str, *_: object) -> dict[str, Any]:
        begun.append(case)
        return MEASURED

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(accelerator, "measure", measure)
    monkeypatch.setattr(accelerator, "one_by_one", stop)
    with pytest.raises(KeyboardInterrupt):
        study([FIRST, LAST] * 100, file=tmp_path / "accelerator.json", plans=plans)
    assert len(begun) < 200
