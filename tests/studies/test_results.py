"""Results: every committed page is that of its numbers, and what is not measured again stays."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from metarl_jax.studies import (
    accelerator,
    comparisons,
    coverage,
    episodes,
    families,
    floor,
    learning,
    memory_lengths,
    peers,
    percepts,
    plan,
    plan_here,
    plan_remat,
    processes,
    scaling,
    speed,
    startup,
    trials,
)
from metarl_jax.studies.results import one_by_one, table

COMMITTED = Path(__file__).parents[2] / "benchmarks" / "results"
PAGES = sorted(page for page in COMMITTED.glob("*.md") if page.stem != "README")
BY_NAME: dict[str, ModuleType] = {
    "accelerator": accelerator,
    **{f"comparison_{name}": comparisons for name in comparisons.COMPARISONS},
    "coverage": coverage,
    "dark_key_door": episodes,
    "dark_room": episodes,
    "half_cheetah_velocity_protocol": episodes,
    "half_cheetah_direction_protocol": episodes,
    "families": families,
    "floor": floor,
    "grid_navi": episodes,
    "memory_lengths": memory_lengths,
    "peers": peers,
    "percepts": percepts,
    "plan": plan,
    "plan_here": plan_here,
    "plan_remat": plan_remat,
    "processes": processes,
    "scaling": scaling,
    "speed": speed,
    "startup": startup,
}


def study_of(name: str, result: dict[str, Any]) -> ModuleType:
    return BY_NAME.get(name, trials if "trials" in result else learning)


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_a_committed_page_is_that_of_its_numbers(file: Path) -> None:
    result = json.loads(file.with_suffix(".json").read_text())
    assert study_of(file.stem, result).page(file.stem, result) == file.read_text()


def test_all_committed_numbers_have_a_page() -> None:
    assert {file.stem for file in COMMITTED.glob("*.json")} - {page.stem for page in PAGES} == {
        "speed_promp_navigation_corner",  # as `metarl benchmark --json` prints it
        "h100_promp_navigation_corner",  # metrics of `metarl train`
        "h100_command_buffers",  # two of `metarl benchmark --json`
    }


def test_what_is_not_measured_again_is_kept_and_all_is_in_order(tmp_path: Path) -> None:
    file, told = tmp_path / "folder" / "study.json", []

    def page(name: str, results: dict[str, Any]) -> str:
        return f"{name} {' '.join(results)}"

    def measure(number: int) -> dict[str, Any]:
        def one(name: str) -> dict[str, Any]:
            return {"number": number}

        return one_by_one(file, names, "abc", one, page, lambda name, measured: told.append((name, measured["number"])))

    names = "ca"
    measure(1)
    names = "bc"
    assert measure(2) == {"a": {"number": 1}, "b": {"number": 2}, "c": {"number": 2}}
    assert list(json.loads(file.read_text())) == ["a", "b", "c"]
    assert file.with_suffix(".md").read_text() == "study a b c"
    assert told == [("c", 1), ("a", 1), ("b", 2), ("c", 2)]


def test_a_failure_leaves_what_was_measured_before_it(tmp_path: Path) -> None:
    def measure(name: str) -> dict[str, Any]:
        if name == "b":
            raise OSError
        return {"number": 1}

    with pytest.raises(OSError):  # noqa: PT011 - ours
        one_by_one(tmp_path / "study.json", "ab", "ab", measure, lambda name, results: "")
    assert json.loads((tmp_path / "study.json").read_text()) == {"a": {"number": 1}}


def test_a_blank_cell_is_wider_than_none() -> None:
    assert table(["a", "b"], [["", None]]).splitlines()[-1] == "|  | |"
