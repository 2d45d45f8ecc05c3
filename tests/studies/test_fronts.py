"""The scripts in ``benchmarks/``: what they ask a study for, and what they print."""

import runpy
import sys
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from metarl_jax.plan import targets
from metarl_jax.studies.results import RESULTS, read

ROOT = Path(__file__).parents[2]
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a script whose study is replaced by one that knows the committed numbers; what the study was asked."""
    monkeypatch.chdir(ROOT)

    def front(script: str, *words: str) -> dict[str, Any]:
        module, asked = import_module(f"metarl_jax.studies.{script}"), {}
        wanted = signature(module.study)

        def study(*given: Any, **named: Any) -> dict[str, Any]:
            bound = wanted.bind(*given, **named)
            asked.update(bound.arguments)
            bound.apply_defaults()
            return read(bound.arguments["file"])

        monkeypatch.setattr(module, "study", study)
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *words])
        runpy.run_path(str(ROOT / "benchmarks" / f"{script}.py"), run_name="__main__")
        return asked

    return front


@pytest.mark.parametrize(
    ("script", "words", "asked", "name"),
    [
        (
            "learning",
            "configs/maml_half_cheetah_direction.yaml --seeds 1 2 --oracle configs/o.yaml --keep",
            {"seeds": [1, 2], "oracle": Path("configs/o.yaml"), "keep": True, "steps": 3, "tasks": 40},
            "maml_half_cheetah_direction",
        ),
        (
            "learning",
            "configs/a.yaml --name maml_navigation_corner --checkpoint best --overrides seed=3",
            {"config": Path("configs/a.yaml"), "checkpoint": "best", "overrides": ["seed=3"], "episodes": None},
            "maml_navigation_corner",
        ),
        (
            "trials",
            "configs/rl2_tabular_mdp.yaml --name rl2_tabular_mdp_gru --overrides policy.memory_slots=null",
            {"seeds": [1], "tasks": 2000, "overrides": ["policy.memory_slots=null"]},
            "rl2_tabular_mdp_gru",
        ),
        ("comparisons", "navigation --devices 1", {"name": "navigation", "devices": 1}, "comparison_navigation"),
        ("accelerator", "--planned --minutes 3", {"measures": False, "minutes": 3.0}, "accelerator"),
        ("coverage", "--samples 200", {"samples": 200}, "coverage"),
        ("families", "--families ant_goal --tasks 7", {"families": ["ant_goal"], "tasks": 7}, "families"),
    ],
)
def test_a_script_asks_its_study_and_prints_the_page(
    run: Run, capsys: pytest.CaptureFixture[str], script: str, words: str, asked: dict[str, Any], name: str
) -> None:
    given = run(script, *words.split())
    assert {key: given[key] for key in asked} == asked
    assert given.get("file", RESULTS / f"{name}.json") == RESULTS / f"{name}.json"
    assert capsys.readouterr().out == (RESULTS / f"{name}.md").read_text() + "\n"


def test_speed_tells_of_each_case(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    asked = run("speed", "--cases", "tabular_mdp", "--lanes", "3")
    assert (asked["cases"], asked["lanes"]) == (["tabular_mdp"], 3)
    asked["report"]("tabular_mdp", {"lanes": 3})
    assert capsys.readouterr().out == "tabular_mdp {'lanes': 3}\n"


def test_plan_stays_on_the_cpu(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stayed: list[bool] = []
    monkeypatch.setattr(targets, "stay_on_cpu", lambda: stayed.append(True))
    asked = run("plan", "--targets", "h100", "--again")
    assert (asked["targets"], asked["again"], stayed) == (["h100"], True, [True])
    assert capsys.readouterr().out == (RESULTS / "plan.md").read_text() + "\n"


@pytest.mark.parametrize("script", ["floor", "percepts", "processes"])
def test_a_script_measures_its_cases(
    script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The committed numbers stand for those that are measured, by the option that the study takes."""
    committed, module = read(ROOT / RESULTS / f"{script}.json"), import_module(f"metarl_jax.studies.{script}")
    case, option = list(committed)[-1], list(signature(module.measure).parameters)[-1]
    monkeypatch.setattr(module, "measure", lambda case, **given: {**committed[case], **given})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--cases", case, f"--{option}", "7"])
    runpy.run_path(str(ROOT / "benchmarks" / f"{script}.py"), run_name="__main__")
    assert read(RESULTS / f"{script}.json") == {case: {**committed[case], option: 7}}
    assert capsys.readouterr().out.startswith(f"{case} {{")


def test_plans_that_are_not_of_cases_are_one_or_the_other(capsys: pytest.CaptureFixture[str], run: Run) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("plan", "--here", "--remat")
    assert "not allowed with argument" in capsys.readouterr().err


def test_peers_tells_of_each_case(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    asked = run("peers", "--cases", "promp_corner", "--rounds", "3", "--peer", "my_module:make_update")
    assert (asked["cases"], asked["rounds"], asked["peer"]) == (["promp_corner"], 3, "my_module:make_update")
    asked["report"]("promp_corner", {"ratio": 3.0})
    assert capsys.readouterr().out == "promp_corner {'ratio': 3.0}\n"


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("trials", "configs/rl2_bandit.yaml --overrides seed=1", "--overrides: give the results a --name of their own"),
        ("learning", "configs/nowhere.yaml --redraw", "nowhere.json': does not exist"),
        ("comparisons", "magic", "invalid choice: 'magic'"),
    ],
)
def test_a_mistake_is_explained(
    run: Run, capsys: pytest.CaptureFixture[str], script: str, words: str, message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(script, *words.split())
    assert message in capsys.readouterr().err
