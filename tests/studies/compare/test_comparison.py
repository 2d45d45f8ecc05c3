"""The comparison: made-up returns come out where they belong."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.runs.build import Experiment
from metarl_jax.studies.compare.comparison import _few, _means, notes, unlike
from metarl_jax.studies.compare.measures import scores_of
from metarl_jax.studies.compare.sources import Method
from tests import comparisons
from tests.comparisons import compared
from tests.helpers import tiny_config


def test_without_a_task_that_all_have_episodes_of_there_is_nothing_to_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment failed in all of them."""

    def nothing(found: Sequence[Any]) -> np.ndarray:
        return np.full_like(scores_of(found), np.nan)

    monkeypatch.setattr("metarl_jax.studies.compare.measures.scores_of", nothing)
    with pytest.raises(Refusal, match=r"no new task is left to compare on: .*; give more --tasks"):
        compared(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        return compared(tmp_path_factory.mktemp("runs"), patch)


def test_every_method_has_its_effect_at_the_same_steps(result: dict[str, Any]) -> None:
    assert result["env_steps"] == 500
    assert list(result["methods"]) == ["maml", "rl2", "oracle (pretraining)"]
    maml, rl2, oracle = (method["effect"]["held_out"] for method in result["methods"].values())
    np.testing.assert_allclose(maml["iqm"], [-1.9, -0.9, 0.1])  # of seeds that are 0.1 apart
    np.testing.assert_allclose(rl2["iqm"], [-3.95, -3.7, -3.45])
    np.testing.assert_allclose(oracle["iqm"], [-1.0])  # it sees its task, and adapts to nothing
    assert all(np.less(maml["low"], maml["iqm"]))
    assert all(np.less(maml["iqm"], maml["high"]))
    np.testing.assert_allclose(maml["per_seed"], [0.0, 0.1, 0.2], atol=1e-12)


def test_seeds_and_a_random_initialisation_have_their_means(result: dict[str, Any]) -> None:
    effect = result["methods"]["maml"]["effect"]["held_out"]
    np.testing.assert_allclose(effect["means"]["seeds"], np.add.outer([-2.0, -1.9, -1.8], [0.0, 1.0, 2.0]), atol=1e-12)
    np.testing.assert_allclose(effect["means"]["random_initialisation"], [-6.0] * 3)
    np.testing.assert_allclose(effect["from_scratch"], [-6.0] * 3)


def test_a_random_initialisation_that_diverges_has_nothing_to_show() -> None:
    found = [{"random_initialisation": {"per_task_return": [[1.0, 2.0], [None, 3.0], [None, None]]}}]
    told = _means(found, np.zeros((3, 1, 2)), np.array([True, True]))
    assert told["from_scratch"] == told["means"]["random_initialisation"] == [1.5, 3.0, None]
    assert _means(found, np.zeros((3, 1, 1)), np.array([True, False]))["from_scratch"] == [1.0, None, None]


def test_of_a_family_of_few_tasks_their_number_is_told() -> None:
    """Its new tasks are those of training, in other episodes."""
    assert _few({"settings": {"num_different_tasks": 2}}) == {"num_different_tasks": 2}
    assert _few({"settings": {"num_different_tasks": None}}) == {}


def test_units_are_counted_in_episodes_of_the_new_task(result: dict[str, Any]) -> None:
    """A gradient step needs all the episodes of an evaluation, RL^2 one after another."""
    maml, rl2, _ = result["methods"].values()
    assert maml["effect"]["held_out"]["episodes"] == [0, 3, 6]
    assert rl2["effect"]["held_out"]["episodes"] == [0, 1, 2]
    assert (maml["adaptation"]["unit"], rl2["adaptation"]["unit"]) == ("gradient step", "episode")


def test_random_is_nothing_and_the_optimum_or_else_the_oracle_is_one(result: dict[str, Any]) -> None:
    assert result["references"]["held_out"] == {
        "random": pytest.approx(-6.0),
        "oracle": pytest.approx(-1.0),
        "oracle_is": "oracle",
    }
    maml, _, oracle = result["methods"].values()
    np.testing.assert_allclose(oracle["effect"]["held_out"]["normalised"]["iqm"], [1.0])
    np.testing.assert_allclose(maml["effect"]["held_out"]["normalised"]["iqm"], [4.1 / 5, 5.1 / 5, 6.1 / 5])


def test_the_better_one_is_told_with_certainty_where_it_always_is(result: dict[str, Any]) -> None:
    chance = {(pair["of"], pair["over"]): pair for pair in result["improvement"]["held_out"]}
    assert chance["maml", "rl2"]["probability"] == chance["maml", "rl2"]["low"] == 1.0
    assert chance["rl2", "maml"]["probability"] == chance["rl2", "maml"]["high"] == 0.0
    assert len(chance) == 6


def test_profiles_fall_from_all_to_none(result: dict[str, Any]) -> None:
    for share in result["profiles"]["held_out"]["share_above"].values():
        assert (np.diff(share) <= 0).all()
        assert share[-1] == 0.0
    assert result["profiles"]["held_out"]["share_above"]["maml"][0] == 1.0


def test_stability_tells_the_worst_seed_and_what_was_skipped(result: dict[str, Any]) -> None:
    maml, _, oracle = (method["stability"] for method in result["methods"].values())
    assert maml["spread"] == pytest.approx(0.1)
    assert (maml["worst_seed"], maml["worst"]) == (0, pytest.approx(0.0, abs=1e-12))
    assert maml["skipped"] == pytest.approx(1 / 3)  # all updates of one of three seeds
    assert maml["dropped"] == 0.0
    assert oracle["spread"] is None


def test_what_a_method_asks_for_is_as_it_declares(result: dict[str, Any]) -> None:
    maml, rl2, oracle = (method["reach"] for method in result["methods"].values())
    keys = ("memory", "second_derivatives", "sees_task")
    assert [maml[key] for key in keys] == [False, True, False]
    assert [rl2[key] for key in keys] == [True, False, False]
    assert [oracle[key] for key in keys] == [False, False, True]
    assert (maml["actions"], maml["observations"]) == ("continuous", "vector")


def test_a_reader_is_told_of_a_head_start_and_of_other_test_policies() -> None:
    plain = tiny_config()
    warm = tiny_config(training={"initial_run": "runs/before"}, evaluation={"test_policy": "deterministic"})
    assert unlike([Method("maml", plain, {}), Method("other", plain, {})]) == []
    assert unlike([Method("maml", plain, {}), Method("warm", warm, {})]) == [
        "warm began with the parameters of runs/before, whose environment steps are not counted",
        "test policies differ: maml stochastic, warm deterministic",
    ]


def test_a_reader_is_told_of_unequal_seeds(result: dict[str, Any]) -> None:
    unequal, single = notes(result)
    assert unequal == "numbers of seeds differ: maml 3, rl2 2, oracle (pretraining) 1"
    assert single.endswith("oracle (pretraining)")
    cut = notes(result | {"cut": ["maml"], "methods": {}})
    assert cut == ["at 500 environment steps, which all have; the rest of maml is left out"]


def test_of_several_trials_the_longest_says_what_is_best_without_knowing_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Methods without trials have no such number."""
    made_up = comparisons._evaluations

    def evaluations(experiment: Experiment, *rest: Any) -> list[dict[str, Any]]:
        best = {"bayes_optimum": [-3.0, -2.0, -1.0]} if experiment.config.algorithm.name == "rl2" else {}
        return [{**found, **best} for found in made_up(experiment, *rest)]

    monkeypatch.setattr(comparisons, "_evaluations", evaluations)
    assert compared(tmp_path, monkeypatch)["references"]["held_out"]["bayes_optimum"] == [-3.0, -2.0, -1.0]
