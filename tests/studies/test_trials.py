"""Trials: totals of what was learned and of who knows what to expect."""

import json
from pathlib import Path

import numpy as np

from metarl_jax.config import load_config
from metarl_jax.studies import trials

CONFIGS = Path(__file__).parents[2] / "configs"


def test_a_learner_stands_beside_its_untrained_self_and_the_classical_algorithms(
    played: list[list[str]], tmp_path: Path
) -> None:
    """The total is that of all episodes; of the minutes of four updates only their rows' are known."""
    config = CONFIGS / "rl2_bandit.yaml"
    result = trials.study(tmp_path / "b.json", config, [5], tasks=300, runs=tmp_path)
    totals = result["total"]
    assert totals["RL^2, seed 5, 7 updates, 2M steps in 2 min"][0] == 13.0
    assert totals["random initialisation"][0] == 1.5
    assert list(totals)[2:] == ["Thompson sampling", "UCB1", "greedy", "random"]
    mean, half = totals["random"]  # ten pulls of arms that pay half of the time
    assert abs(mean - 5.0) < 3 * half
    assert totals["Thompson sampling"][0] - totals["random"][0] > half
    text = (tmp_path / "b.md").read_text()
    assert "Training time is that of one core" in text
    assert "| Gittins | | 6.6 |" in text


def test_published_totals_stand_beside_trials_like_theirs() -> None:
    """Of tasks or trials that are not the config's, by the name of the results; of another network, as ever."""
    result = {"config": "configs/rl2_tabular_mdp.yaml", "trials": 9, "total": {"RL^2, seed 1, x": [900.0, 1.0]}}
    longer = result | {"overrides": ["algorithm.episodes_per_trial=50"]}
    assert "| 936.1 |" in trials.page("rl2_tabular_mdp_50", longer)
    assert "156.2" not in trials.page("mine", longer)
    assert "| 156.2 |" in trials.page("mine", result | {"overrides": ["policy.memory_slots=null"]})


def test_of_random_processes_the_classical_algorithms_are_psrl_and_its_optimistic_kin() -> None:
    config = load_config(CONFIGS / "rl2_tabular_mdp.yaml", ["tasks.horizon=3", "evaluation.num_inner_steps=1"])
    totals = trials.classical(config, 4)
    assert list(totals) == ["PSRL", "OPSRL"]
    assert np.isfinite(list(totals.values())).all()


def test_a_family_without_classical_algorithms_has_its_optima(played: list[list[str]], tmp_path: Path) -> None:
    """The best total of a trial, for who knows the task and for who does not; seeds are counted by a goal."""
    optima = trials._optima(
        {"per_task_return": [[0.0, 0.0]] * 3, "per_task_optimum": [2.0, 4.0], "bayes_optimum": [1, 2, 2]}
    )
    assert optima == {"Bayes-optimal": (5.0, 0.0), "told the task": (9.0, optima["told the task"][1])}
    (tmp_path / "n_seed2").mkdir()
    start = {"iteration": 0, "devices": [{"platform": "gpu", "kind": "H100", "count": 1}]}
    (tmp_path / "n_seed2" / "provenance.jsonl").write_text(json.dumps(start))
    result = trials.study(
        tmp_path / "n.json", CONFIGS / "rl2_navigation.yaml", [1, 2], tasks=3, goal=13.0, runs=tmp_path
    )
    steps = "7 updates, 2M steps in 2 min"
    assert list(result["total"])[:2] == [f"RL^2, seed 1, {steps}", f"RL^2, seed 2, {steps} on H100"]
    assert (result["goal"], result["reached"]) == (13.0, 2)
    assert "2 seeds reach 13." in (tmp_path / "n.md").read_text()
    assert not {"PSRL", "random"} & set(result["total"])


def test_gaussian_arms_are_played_with_their_own_posterior() -> None:
    """Of mean 0: who pulls any earns nothing; who learns which is best nearly its mean, 1.16 standard deviations."""
    totals = trials.classical(load_config(CONFIGS / "rl2_bandit_gaussian.yaml", ["tasks.mean_std=10"]), 300)
    assert abs(totals["random"][0]) < 3 * totals["random"][1]
    assert 60.0 < totals["Thompson sampling"][0] < 116.0
