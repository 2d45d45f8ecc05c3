"""Learning: the runs that are trained and kept, and the page and picture of them."""

import json
from pathlib import Path

import pytest
from matplotlib.image import imread

from metarl_jax.checks import Refusal
from metarl_jax.studies.learning import kept, page, redraw, study
from tests.studies.evaluations import MAML, ORACLE, evaluation, run

RESULT = {"config": "m.yaml", "overrides": [], "checkpoint": "latest"}


def test_table_has_the_oracle_and_the_gain_only_when_there_is_one() -> None:
    result = {**RESULT, "seeds": [run(MAML)], "oracle": None}
    assert "oracle" not in page("name", result)
    lines = page("name", {**result, "oracle": {"config": "o.yaml", **run(ORACLE)}}).splitlines()
    assert "40 held-out tasks" in "".join(lines)
    result["seeds"][0]["evaluation"]["settings"]["num_different_tasks"] = 2
    assert "40 draws of the 2 training tasks, 20 episodes" in page("name", result)
    assert "| oracle | 7 | 442.70 [429.99, 455.41] | | | |" in lines
    gains = "-0.031 [-0.03, -0.03] | 0.688 [0.69, 0.69] | 0.730 [0.73, 0.73] | 0.735 [0.73, 0.73]"
    assert f"| 1 | {gains} |" in lines
    assert "| 1 | +343.90 ± 0.00 | +364.20 ± 0.00 | +366.40 ± 0.00 |" in lines
    widths = {line.count("|") for line in lines if line.startswith("| oracle") or "random init" in line}
    assert len(widths) == 1, "every row has as many cells as the head"


def test_long_adaptation_has_a_column_for_each_milestone() -> None:
    mean = [float(k) for k in range(61)]
    long = {"seed": 1, "evaluation": evaluation(mean), "curve": [{"return_post": 1.0}]}
    long["evaluation"] |= {"random_initialisation": evaluation(mean)}
    long["evaluation"]["settings"]["step_sizes"] = [0.003] * 60
    text = page("name", {**RESULT, "seeds": [long], "oracle": None})
    assert "step sizes 0.003, 60 times." in text
    (row,) = [line for line in text.splitlines() if line.startswith("| random initialisation")]
    assert [float(cell.split("[")[0]) for cell in row.split("|")[3:-1]] == [0, 1, 2, 5, 10, 20, 50, 60]
    gains = [line for line in text.splitlines() if "± " in line and line.startswith("| 1 ")]
    assert "| +1.00 ± 0.00 | +2.00 ± 0.00 | +5.00 ± 0.00 |" in gains[0]


def test_every_seed_and_the_oracle_are_trained_and_evaluated(played: list[list[str]], tmp_path: Path) -> None:
    """The oracle is of the first seed, takes no step and gets of the overrides those of the tasks."""
    file, overrides = tmp_path / "m.json", ["tasks.horizon=5", "algorithm.inner_lr=1"]
    options = {"oracle": Path("oracle_half_cheetah_velocity"), "checkpoint": "best", "runs": tmp_path}
    result = study(file, Path("maml_half_cheetah_velocity"), [2, 1], overrides=overrides, **options)
    assert [run["seed"] for run in result["seeds"]] == [1, 2]
    assert result["oracle"]["config"] == "oracle_half_cheetah_velocity"
    trained, evaluated = played[::2], played[1::2]
    learner, oracle = "maml_half_cheetah_velocity", "oracle_half_cheetah_velocity"
    assert [words[1:3] for words in trained] == [[learner, "seed=2"], [learner, "seed=1"], [oracle, "seed=2"]]
    assert trained[0][3:5] == overrides
    assert trained[2][3:5] == ["tasks.horizon=5", "--run-dir"]
    assert all("--resume-if-exists" in words for words in trained)
    assert [words[1] for words in evaluated] == [
        str(tmp_path / name) for name in ("m_seed2", "m_seed1", f"{oracle}_seed2")
    ]
    for words, steps in zip(evaluated, (3, 3, 0), strict=True):
        assert words[2:8] == ["--checkpoint", "best", "--steps", str(steps), "--tasks", "40"]
    assert json.loads(file.read_text())["seeds"][0]["evaluation"] == result["seeds"][0]["evaluation"]
    assert file.with_suffix(".md").read_text() == page("m", result)
    assert imread(file.with_suffix(".png")).std() > 0.01  # not one colour


def test_redrawing_runs_nothing_and_keeps_the_numbers(played: list[list[str]], tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    numbers = json.dumps({**RESULT, "seeds": [run(MAML)], "oracle": None}, indent=1) + "\n"
    file.write_text(numbers)
    redraw(file)
    assert file.read_text() == numbers
    assert "+343.90" in file.with_suffix(".md").read_text()
    assert not played
    with pytest.raises(Refusal, match=r"n\.json': does not exist"):
        redraw(tmp_path / "n.json")


ASKED = {"config": "m.yaml", "overrides": [], "checkpoint": "latest", "tasks": 40, "steps": 3, "episodes": None}


@pytest.mark.parametrize(("seeds", "left"), [([2, 3], [1]), ([1], [])])
def test_other_seeds_and_the_oracle_are_kept(tmp_path: Path, seeds: list[int], left: list[int]) -> None:
    """Protects results from other machines: only the seeds that are run again are replaced."""
    (tmp_path / "m.json").write_text(json.dumps({**RESULT, "seeds": [run(MAML)], "oracle": {"x": 1}}))
    runs, oracle = kept(tmp_path / "m.json", ASKED, seeds)
    assert [run["seed"] for run in runs] == left
    assert oracle == {"x": 1}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"config": "n.yaml"}, "config m.yaml, not n.yaml"),
        ({"overrides": ["seed=2"]}, "overrides"),
        ({"checkpoint": "best"}, "checkpoint latest, not best"),
        ({"tasks": 10}, "tasks 40, not 10"),
        ({"steps": 1}, "steps 3, not 1"),
        ({"episodes": 5}, "episodes 20, not 5"),
    ],
)
def test_results_of_something_else_are_not_mixed_in(tmp_path: Path, asked: dict, named: str) -> None:
    (tmp_path / "m.json").write_text(json.dumps({**RESULT, "seeds": [run(MAML)]}))
    with pytest.raises(Refusal, match=named):
        kept(tmp_path / "m.json", ASKED | asked, [2])
    with pytest.raises(Refusal, match=r"n\.json'?: does not exist"):
        kept(tmp_path / "n.json", ASKED, [2])
