"""``benchmarks/learning.py``: the gain that it prints, and the table around it."""

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parent.parent / "benchmarks" / "learning.py"
# Finn et al. (2017), half-cheetah direction: MAML after 0..3 steps, a random initialisation, the oracle.
MAML, RANDOM, ORACLE = [-50.7, 293.2, 313.5, 315.7], [-35.7, 21.8, 62.3, 86.2], [442.7]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("learning", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def evaluation(mean: list[float]) -> dict:
    settings = {"num_tasks": 40, "num_inner_steps": 3, "episodes_per_task": 20, "step_sizes": [0.1, 0.05, 0.05]}
    steps = list(range(len(mean)))
    tasks = [[x - 1.0, x + 1.0] for x in mean]
    return {
        "checkpoint": 7,
        "per_task_return": tasks,
        "gradient_steps": steps,
        "mean_return": mean,
        "ci_low": mean,
        "ci_high": mean,
        "settings": settings,
    }


def run(mean: list[float]) -> dict:
    random = {"random_initialisation": evaluation(RANDOM)}
    return {"seed": 1, "evaluation": evaluation(mean) | random, "curve": [{"return_post": 1.0}]}


def test_published_returns_give_the_published_gain(script) -> None:
    gains = script.normalised_gain(run(MAML)["evaluation"], evaluation(ORACLE))
    np.testing.assert_allclose([gains[1], gains[3]], [0.69, 0.73], atol=0.005)


def test_a_gain_is_that_of_each_task_by_itself(script) -> None:
    """Tasks of very different returns that gain 1 and 3: 2, give or take 1.96 standard errors, here of 1 each."""
    mean, half = script.paired_gain({"per_task_return": [[0.0, 500.0], [1.0, 503.0]]})
    np.testing.assert_allclose([mean, half], [[0.0, 2.0], [0.0, 1.96]])


def test_table_has_the_oracle_and_the_gain_only_when_there_is_one(script) -> None:
    result = {"config": "m.yaml", "overrides": [], "checkpoint": "latest", "seeds": [run(MAML)], "oracle": None}
    assert "oracle" not in script.make_table(result, "name")
    lines = script.make_table({**result, "oracle": {"config": "o.yaml", **run(ORACLE)}}, "name").splitlines()
    assert "40 held-out tasks" in "".join(lines)
    result["seeds"][0]["evaluation"]["settings"]["num_different_tasks"] = 2
    assert "40 draws of the 2 training tasks, 20 episodes" in script.make_table(result, "name")
    assert "| oracle | 7 | 442.70 [442.70, 442.70] | | | |" in lines
    assert "| 1 | -0.031 | 0.688 | 0.730 | 0.735 |" in lines
    assert "| 1 | +343.90 ± 0.00 | +364.20 ± 0.00 | +366.40 ± 0.00 |" in lines
    widths = {line.count("|") for line in lines if line.startswith("| oracle") or "random init" in line}
    assert len(widths) == 1, "every row has as many cells as the head"


def test_long_adaptation_has_a_column_for_each_milestone(script) -> None:
    mean = [float(k) for k in range(61)]
    long = {"seed": 1, "evaluation": evaluation(mean), "curve": [{"return_post": 1.0}]}
    long["evaluation"] |= {"random_initialisation": evaluation(mean)}
    long["evaluation"]["settings"]["step_sizes"] = [0.003] * 60
    result = {"config": "m.yaml", "overrides": [], "checkpoint": "latest", "seeds": [long], "oracle": None}
    table = script.make_table(result, "name")
    assert "step sizes 0.003, 60 times." in table
    (row,) = [line for line in table.splitlines() if line.startswith("| random initialisation")]
    assert [float(cell.split("[")[0]) for cell in row.split("|")[3:-1]] == [0, 1, 2, 5, 10, 20, 50, 60]
    gains = [line for line in table.splitlines() if "± " in line and line.startswith("| 1 ")]
    assert "| +1.00 ± 0.00 | +2.00 ± 0.00 | +5.00 ± 0.00 |" in gains[0]


ASKED = {"config": Path("m.yaml"), "overrides": [], "checkpoint": "latest", "tasks": 40, "steps": 3, "episodes": None}


@pytest.mark.parametrize(("seeds", "left"), [([2, 3], [1]), ([1], [])])
def test_other_seeds_and_the_oracle_are_kept(script, tmp_path, seeds, left) -> None:
    """Protects results from other machines: only the seeds that are run again are replaced."""
    result = {"config": "m.yaml", "overrides": [], "checkpoint": "latest", "seeds": [run(MAML)], "oracle": {"x": 1}}
    (tmp_path / "m.json").write_text(json.dumps(result))
    runs, oracle = script.kept(argparse.Namespace(**ASKED, seeds=seeds), tmp_path / "m.json")
    assert [run["seed"] for run in runs] == left
    assert oracle == {"x": 1}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"config": Path("n.yaml")}, "config m.yaml, not n.yaml"),
        ({"overrides": ["seed=2"]}, "overrides"),
        ({"checkpoint": "best"}, "checkpoint latest, not best"),
        ({"tasks": 10}, "tasks 40, not 10"),
        ({"steps": 1}, "steps 3, not 1"),
        ({"episodes": 5}, "episodes 20, not 5"),
    ],
)
def test_results_of_something_else_are_not_mixed_in(script, tmp_path, asked, named) -> None:
    result = {"config": "m.yaml", "overrides": [], "checkpoint": "latest", "seeds": [run(MAML)]}
    (tmp_path / "m.json").write_text(json.dumps(result))
    with pytest.raises(SystemExit, match=named):
        script.kept(argparse.Namespace(**ASKED | asked, seeds=[2]), tmp_path / "m.json")
    with pytest.raises(SystemExit, match=r"n\.json does not exist"):
        script.kept(argparse.Namespace(**ASKED, seeds=[2]), tmp_path / "n.json")
