"""What is written of a study."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config.source import normalise, read_yaml
from metarl_jax.runs.directory import METRICS_FILE
from metarl_jax.studies.sweep.results import (
    heat_map_keys,
    heat_maps,
    learning_curves,
    ranked,
    table,
    to_csv,
    write_results,
)
from metarl_jax.studies.sweep.study import Study
from metarl_jax.studies.sweep.trials import Trial, trial_directory
from tests.helpers import printed

GRID = {
    "algorithm.name": ("maml", "promp"),
    "algorithm.inner_lr": (0.1, 0.5, 1.0),
    "policy.hidden_sizes": ((4,), (8, 8)),
}
SEEDS = (1, 2)


def study(**fields: Any) -> Study:
    return Study.model_validate({"config": "x", "grid": GRID, **fields})


def trial(
    number: int, values: tuple[Any, ...], score: float | None, state: str = "finished", updates: int = 10
) -> Trial:
    seeds = dict.fromkeys(SEEDS, score)
    return Trial(number, dict(zip(GRID, values, strict=True)), state, {} if score is None else {updates: score}, seeds)


TRIALS = [
    trial(0, ("maml", 0.1, (4,)), 1.0),
    trial(1, ("maml", 0.5, (8, 8)), None, "failed"),
    trial(2, ("promp", 1.0, (4,)), 9.0, "halved", 3),
    trial(3, ("promp", 0.1, (8, 8)), 2.0),
]


def test_the_best_comes_first_and_what_was_stopped_early_after_what_finished() -> None:
    assert [one.number for one in ranked(study(), TRIALS)] == [3, 0, 2, 1]
    assert [one.number for one in ranked(study(objective={"direction": "minimize"}), TRIALS)] == [0, 3, 2, 1]


def test_the_csv_has_a_row_for_each_trial_and_no_clock() -> None:
    rows = list(csv.DictReader(to_csv(study(), SEEDS, TRIALS).splitlines()))
    assert rows[1] == {
        "trial": "1",
        "state": "failed",
        "updates": "",
        "algorithm.name": "maml",
        "algorithm.inner_lr": "0.5",
        "policy.hidden_sizes": "[8, 8]",
        "objective": "",
        "seed 1": "",
        "seed 2": "",
    }
    assert (rows[2]["state"], rows[2]["updates"], rows[2]["objective"]) == ("halved", "3", "9.0")


def test_the_table_fits_a_terminal() -> None:
    text = printed(table(study(), TRIALS * 8), 80)
    assert ["0", "1", "[1,", "1]", "maml", "0.1", "[4]"] in [line.split() for line in text.splitlines()]
    assert "9 [9, 9] after 3" in text
    assert "12 more in study.csv" in text


def test_the_heat_map_is_of_the_numbers_that_vary_most() -> None:
    two = study(grid={"a": ("x", "y", "z"), "b": (1, 2), "c": (0.1, 0.2, 0.3), "d": (1, 2)})
    trials = [Trial(i, {"a": "xyz"[i], "b": i, "c": 0.1 * i, "d": 1}, "finished", {1: 1.0}, {}) for i in range(3)]
    assert heat_map_keys(two, trials) == ("b", "c")
    assert heat_map_keys(two, trials, ("a", "d")) == ("a", "d")
    assert heat_map_keys(study(), TRIALS, ("inner_lr", "policy.hidden_sizes")) == (
        "algorithm.inner_lr",
        "policy.hidden_sizes",
    )
    assert heat_map_keys(study(grid={"a": (1, 2)}), [Trial(0, {"a": 1}, "finished", {1: 1.0}, {})]) is None
    with pytest.raises(Refusal, match=r"^keys = 'inner_rl': is not varied; choose two of algorithm.name, "):
        heat_map_keys(study(), TRIALS, ("inner_rl", "hidden_sizes"))


def test_a_panel_for_each_setting_of_the_other_keys() -> None:
    panels = heat_maps(study(), TRIALS, "algorithm.inner_lr", "policy.hidden_sizes")
    assert [(panel.title, len(panel.points)) for panel in panels] == [("algorithm maml", 2), ("algorithm promp", 2)]
    assert panels[0].points[1] == (0.5, (8, 8), None)
    many = study(grid={"a": (1, 2), "b": (1, 2), "c": tuple(range(9))})
    trials = [Trial(i, {"a": 1, "b": 1, "c": i}, "finished", {1: float(i)}, {}) for i in range(9)]
    (panel,) = heat_maps(many, trials, "a", "b")
    assert len(panel.points) == 9


def test_everything_is_written_and_curves_are_over_seeds(tmp_path: Path) -> None:
    for one in TRIALS:
        for seed in SEEDS:
            run = trial_directory(tmp_path, one.number) / f"seed-{seed}"
            run.mkdir(parents=True)
            rows = [{"iteration": i, "return_post": None if one.number == 1 else seed * i} for i in range(1, 4)]
            (run / METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    curves = learning_curves(study(), SEEDS, TRIALS, tmp_path)
    assert curves[0].name == "algorithm promp, inner_lr 0.1, hidden_sizes [8, 8]"
    assert curves[0].updates == [1, 2, 3]
    np.testing.assert_allclose(curves[0].middle, [1.5, 3.0, 4.5])
    assert curves[0].interval is not None
    half = 12.706 * np.array([0.5, 1.0, 1.5])  # Student, of two seeds
    np.testing.assert_allclose(curves[0].interval, [curves[0].middle - half, curves[0].middle + half], rtol=1e-4)
    assert np.isnan(curves[3].middle).all()
    written = write_results(study(), SEEDS, TRIALS, tmp_path)
    assert [path.name for path in written] == ["study.csv", "heat_map.png", "learning.png"]
    assert all(path.stat().st_size for path in written)
    assert Study.model_validate(normalise(read_yaml(tmp_path / "study.yaml"))[0]) == study()


def test_curves_of_an_objective_that_not_every_update_reports(tmp_path: Path) -> None:
    """An evaluation while training, which is due every second update."""
    objective = {"of": "training", "metric": "evaluation_return_post"}
    for seed in SEEDS:
        run = trial_directory(tmp_path, 0) / f"seed-{seed}"
        run.mkdir(parents=True)
        rows = [{"iteration": i, **({} if i % 2 else {"evaluation_return_post": 1.0 * seed * i})} for i in range(1, 6)]
        (run / METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (curve,) = learning_curves(study(objective=objective), SEEDS, TRIALS[:1], tmp_path)
    assert curve.updates == [2, 4]
    np.testing.assert_allclose(curve.middle, [3.0, 6.0])
