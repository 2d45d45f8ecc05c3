"""Evaluation while training: right, repeated bit for bit, of no effect on training, and what is decided by it."""

from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.collect.randomness import fold_in_each, stream
from metarl_jax.config import ConfigError
from metarl_jax.runs.build import build
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.directory import CHECKPOINTS
from metarl_jax.runs.monitor import Patience
from metarl_jax.runs.program import Program, _lanes_apart, check_lanes, make_program
from metarl_jax.runs.run import load, prepare_directory, restore, stopped_early_at
from metarl_jax.runs.training import Lane, TrainResult, train_lanes
from metarl_jax.tracking.jsonl import read_metrics
from tests.helpers import final_params, metarl, tiny_config, write_config

ONE = jax.devices()[:1]
MONITORED = {"every": 2, "validation_tasks": 2}
NEVER_BETTER = {**MONITORED, "min_improvement": 1e6}


def rows_of(directory: Path) -> list[dict[str, Any]]:
    """What does not depend on the clock."""
    return [
        {key: value for key, value in row.items() if not key.endswith(("seconds", "per_second"))}
        for row in read_metrics(directory)
    ]


def evaluations_of(directory: Path) -> dict[int, dict[str, Any]]:
    return {
        row["iteration"]: {key: value for key, value in row.items() if key.startswith(("evaluation", "validation"))}
        for row in rows_of(directory)
        if "evaluation_return_post" in row
    }


@pytest.fixture(scope="module")
def program() -> Program:
    """Of all runs here, whatever the host alone reads of their configs."""
    return make_program(build(tiny_config(evaluation=MONITORED)), ONE)


def train_in(directory: Path, program: Program, **sections: Any) -> TrainResult:
    """Start a run, or go on."""
    config = tiny_config(**{"evaluation": MONITORED, **sections})
    prepare_directory(directory, config, (directory / "config.yaml").exists(), False)
    (result,) = train_lanes(program, [Lane(config, directory)])
    return result


@pytest.fixture(scope="module")
def monitored(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("monitored") / "run"
    assert train_in(directory, program).reason == "iterations"
    return directory


def test_training_is_bit_for_bit_that_without_it(monitored: Path, uninterrupted: Path) -> None:
    chex.assert_trees_all_equal(final_params(monitored), final_params(uninterrupted))
    told = [
        {key: row[key] for key in plain} for row, plain in zip(rows_of(monitored), rows_of(uninterrupted), strict=True)
    ]
    assert told == rows_of(uninterrupted)
    assert list(evaluations_of(monitored)) == [2, 4, 6]


def test_it_measures_what_the_addresses_say(monitored: Path) -> None:
    """The tasks of 'metarl evaluate', and others for validation; what happens in them by purpose and update."""
    experiment = build(tiny_config(evaluation=MONITORED))
    assert experiment.algorithm.adaptation is not None
    adapt = experiment.algorithm.adaptation.with_budget(2, 3, "constant").adapt
    params = restore(experiment, monitored, 4).state.params
    found = evaluations_of(monitored)[4]
    for name, tasks, number in (("evaluation", "held_out_tasks", 3), ("validation", "validation_tasks", 2)):
        episodes = fold_in_each(jax.random.fold_in(stream(0, f"{name}_episodes"), 4), jnp.arange(number))
        drawn = jax.vmap(experiment.family.sample)(fold_in_each(stream(0, tasks), jnp.arange(number)))
        _, info = jax.jit(jax.vmap(adapt, in_axes=(None, 0, 0)))(params, drawn, episodes)
        np.testing.assert_allclose(found[f"{name}_return_per_stage"], info["return"].mean(axis=(0, 2)), rtol=1e-5)
        assert found[f"{name}_return_post"] == found[f"{name}_return_per_stage"][-1]
        assert found[f"{name}_success_rate"] == [0.0] * 3


def test_a_resumed_run_repeats_it_bit_for_bit(monitored: Path, program: Program, tmp_path: Path) -> None:
    """Stopped between two evaluations, and at one; what is not logged otherwise is, where it was evaluated."""
    for training in ({"num_iterations": 3}, {"num_iterations": 4}, {"log_every": 100}):
        train_in(tmp_path, program, training=training)
    chex.assert_trees_all_equal(final_params(tmp_path), final_params(monitored))
    assert evaluations_of(tmp_path) == evaluations_of(monitored)
    assert rows_of(tmp_path) == [row for row in rows_of(monitored) if row["iteration"] != 5]
    kept = [
        {step: run._score(step) for step in (4, 6)}
        for run in map(Checkpoints, (tmp_path / CHECKPOINTS, monitored / CHECKPOINTS))
    ]
    assert kept[0] == kept[1]


def test_the_best_checkpoint_is_the_best_on_validation_tasks(monitored: Path) -> None:
    """Each evaluation is a checkpoint, scored by it; others, and what training returns, do not count."""
    scores = {
        iteration: np.mean(row["validation_return_per_stage"][1:])
        for iteration, row in evaluations_of(monitored).items()
    }
    assert load(monitored, "best").iteration == max(scores, key=lambda iteration: scores[iteration])
    with Checkpoints(monitored / CHECKPOINTS) as checkpoints:
        assert checkpoints._score(6) == pytest.approx(scores[6])
        assert checkpoints.read().record["score_of"] == "validation"


def test_a_visit_ends_where_an_evaluation_is_due_and_that_is_a_checkpoint(program: Program, tmp_path: Path) -> None:
    train_in(tmp_path, program, evaluation={**MONITORED, "every": 3}, training={"checkpoint_every": 100})
    assert Checkpoints(tmp_path / CHECKPOINTS).steps() == [3, 6]
    assert list(evaluations_of(tmp_path)) == [3, 6]


def test_what_the_best_was_chosen_by_stays(monitored: Path) -> None:
    for changed, key in (
        ({"validation_tasks": None}, "validation_tasks: None now, 2 in the run"),
        ({"num_inner_steps": 1}, "num_inner_steps: 1 now, 2 in the run"),
    ):
        with pytest.raises(ConfigError, match=f"\n  evaluation.{key}$"):
            prepare_directory(monitored, tiny_config(evaluation={**MONITORED, **changed}), True, False)
    freely = {**MONITORED, "every": 3, "num_tasks": 5, "patience": 9}
    prepare_directory(monitored, tiny_config(evaluation=freely), True, False)
    prepare_directory(monitored, tiny_config(evaluation=MONITORED), True, False)


def test_patience_compares_with_the_best_and_nan_is_never_better() -> None:
    told = Patience()
    states = [told := told.after(score, 0.5) for score in (-2.0, -1.75, None, -1.5, -1.25)]
    assert [state.best for state in states] == [-2.0, -2.0, -2.0, -2.0, -1.25]
    assert [state.waited for state in states] == [0, 1, 2, 3, 0]


def test_lanes_end_each_on_their_own_and_have_nothing_more_to_do(program: Program, tmp_path: Path) -> None:
    """After the first evaluation, of which any is better, so many more; side by side, and one by one."""
    configs = [tiny_config(evaluation={**NEVER_BETTER, "patience": patience}) for patience in (1, 2, 9)]
    check_lanes(configs)
    for name, shared in (("batched", _lanes_apart(program.experiment, ONE, per_device=3)), ("apart", program)):
        lanes = [Lane(config, tmp_path / f"{name}-{i}") for i, config in enumerate(configs)]
        for lane in lanes:
            prepare_directory(lane.directory, lane.config, False, False)
        results = train_lanes(shared, lanes)
        assert [int(result.state.step) for result in results] == [4, 6, 6]
        assert [result.reason for result in results] == ["patience", "iterations", "iterations"]
        assert all(result.finished for result in results)
        with Checkpoints(lanes[0].directory / CHECKPOINTS) as checkpoints:
            assert checkpoints.read().record["ended"] == "patience"
        assert [stopped_early_at(lane.directory) for lane in lanes] == [4, None, None]
        before = rows_of(lanes[0].directory)
        (again,) = train_lanes(shared, lanes[:1])
        assert (again.reason, again.seconds_to_first_update) == ("patience", None)
        assert rows_of(lanes[0].directory) == before
        patient = Lane(configs[1], lanes[0].directory)
        assert int(train_lanes(shared, [patient])[0].state.step) == 6


def test_lanes_that_are_evaluated_differently_need_programs_of_their_own() -> None:
    few, more = ({**MONITORED, "num_tasks": number} for number in (3, 4))
    with pytest.raises(ConfigError, match=r"^evaluation\.num_tasks: not the same in all of these runs"):
        check_lanes([tiny_config(evaluation=few), tiny_config(evaluation=more)])
    check_lanes([tiny_config(evaluation={"num_tasks": 3}), tiny_config(evaluation={"num_tasks": 4})])


def test_keys_that_say_nothing_without_another_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        tiny_config(evaluation={"patience": 2}, training={"initial_params": ["mean"], "initial_checkpoint": 3})
    assert set(caught.value.problems) == {
        "evaluation.patience: needs evaluation.validation_tasks (got 2); give it, too",
        "training.initial_params: needs training.initial_run (got ['mean']); give it, too",
        "training.initial_checkpoint: needs training.initial_run (got 3); give it, too",
    }


def test_a_method_that_cannot_be_evaluated_is_refused_before_anything_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    experiment = build(tiny_config(evaluation={"every": 2}))
    undeclared = experiment.algorithm._replace(adaptation=None)
    for num_lanes in (1, 2):
        with pytest.raises(ConfigError, match="declares no adaptation"):
            make_program(experiment._replace(remake=lambda values: undeclared), ONE, num_lanes)


@pytest.mark.slow
def test_two_devices_share_the_tasks_of_an_evaluation(monitored: Path, tmp_path: Path) -> None:
    """Five tasks on two: one is adapted to twice, and counts once."""
    command = ("train", write_config(tmp_path), "evaluation.every=2", "evaluation.validation_tasks=2")
    done = metarl(*command, "--run-dir", tmp_path / "run", devices=2)
    assert done.returncode == 0, done.stderr
    alone = evaluations_of(monitored)
    assert "iteration 6/6  evaluation " in done.stderr
    for iteration, found in evaluations_of(tmp_path / "run").items():
        for name, value in found.items():
            np.testing.assert_allclose(value, alone[iteration][name], rtol=1e-3)
