"""A study's file: what it says, and all that can be wrong with it, at once."""

from pathlib import Path

import pytest

from metarl_jax.config import ConfigError
from metarl_jax.config.errors import render
from metarl_jax.studies.sweep.study import Study, read_study


def written(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def refused(folder: Path, text: str) -> list[str]:
    path = written(folder, text)
    problems = render(read_study(path)[1], str(path), []).problems
    return [problem.removeprefix(f"{path}: ") for problem in problems]


def read(folder: Path, text: str) -> Study:
    study, problems = read_study(written(folder, text))
    assert study is not None
    assert problems == []
    return study


def test_a_study_has_defaults_for_all_but_its_config_and_what_it_varies(tmp_path: Path) -> None:
    study = read(tmp_path, "config: maml_navigation\ngrid: {algorithm.inner_lr: [0.1, 1e-2]}\nbudget:")
    assert study.grid == {"algorithm.inner_lr": (0.1, 0.01)}
    assert (study.seeds, study.objective.of, study.objective.name) == (3, "evaluation", "mean_return")
    study = read(tmp_path, "config: x\ngrid: {seedless: [[64, 64], [32]]}\nobjective: {of: training}")
    assert (study.grid["seedless"][0], study.objective.name) == ((64, 64), "return_post")


def test_every_wrong_key_and_value_is_named_at_once(tmp_path: Path) -> None:
    text = """
    seed: 3
    grid: {algorithm.inner_lr: 0.1, optimizer.learning_rate: []}
    sample:
      algorithm.discount: {uniform: [0.9]}
      policy.init_std: {log_unifrm: [0.1, 1]}
      policy.min_std: 3
    objective: {of: test, last: 0}
    halving: {factor: 1}
    sampler: sobl
    """
    assert refused(tmp_path, text) == [
        "config: is required",
        "grid.algorithm.inner_lr: must be a list of values, at least one (got 0.1)",
        "grid.optimizer.learning_rate: must be a list of values, at least one (got [])",
        "sample.algorithm.discount.uniform: must be a list of 2: a number, a number (got [0.9])",
        "sample.policy.init_std.log_unifrm: unknown key; did you mean 'log_uniform'? Valid keys: uniform, log_uniform, "
        "choice",
        "sample.policy.min_std: must be a section of indented 'key: value' lines (got 3)",
        "sampler: must be one of random, sobol, tpe (got 'sobl')",
        "objective.of: must be one of training, evaluation (got 'test')",
        "objective.last: must be greater than 0 (got 0)",
        "halving.first: is required",
        "halving.factor: must be at least 2 (got 1)",
        "seed: unknown key; did you mean 'seeds'? Valid keys: config, overrides, seeds, grid, sample, sampler, "
        "sampler_seed, objective, budget, halving, batch, storage",
    ]


def test_contradictions_are_named_at_once(tmp_path: Path) -> None:
    text = """
    config: maml_navigation
    overrides: {algorithm.discount: 0.9}
    seeds: [1, 2, 1]
    grid: {algorithm.inner_lr: [0.1, 0.1], algorithm.discount: [0.9, 0.99], seed: [1]}
    sample:
      algorithm.inner_lr: {uniform: [0.2, 0.1]}
      policy.init_std: {log_uniform: [0, 1]}
      policy.min_std: {uniform: [0, 1], choice: [1]}
      policy.activation: {}
    sampler: tpe
    halving: {first: 3}
    budget: {trials: 3}
    """
    assert refused(tmp_path, text) == [
        "sample.algorithm.inner_lr: is under 'grid' too; keep one",
        "overrides.algorithm.discount: is varied too; leave it out here",
        "grid.seed: seeds are not a setting: give them under 'seeds'",
        "seeds: must differ (got [1, 2, 1])",
        "grid.algorithm.inner_lr: must differ (got [0.1, 0.1])",
        "sample.algorithm.inner_lr.uniform: must be a smaller and a larger number (got [0.2, 0.1])",
        "sample.policy.init_std.log_uniform: must be greater than 0 (got [0.0, 1.0]); 'uniform' may reach 0",
        "sample.policy.min_std: must have one of uniform, log_uniform, choice (got uniform, choice)",
        "sample.policy.activation: must have one of uniform, log_uniform, choice (got none)",
        "budget.trials: must be at least 4, the settings of the grid (got 3); or make 'grid' smaller",
        "sampler: must be random or sobol beside 'grid' (got 'tpe'); TPE draws every key: give the grid's values under "
        "'sample', as 'choice'",
        "sampler: must be random or sobol beside 'halving' (got 'tpe'): halving compares settings that are all drawn "
        "before any has ended, of which TPE learns nothing",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("config: x", "varies nothing: give keys and their values under 'grid', or their spreads under 'sample'"),
        (
            "{config: x, sample: {a: {choice: [1]}}}",
            "budget.trials: is required beside 'sample': how many settings to draw",
        ),
        (
            "{config: x, grid: {b: [1, 2]}, sample: {a: {choice: [1, 3]}}, budget: {trials: 5}}",
            "budget.trials: must be a multiple of 2, the settings of the grid (got 5); use 4 or 6",
        ),
    ],
)
def test_too_little_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    assert refused(tmp_path, text) == [problem]


def test_what_is_sound_is_held_against_itself_though_something_else_is_wrong(tmp_path: Path) -> None:
    """And nothing is said of what rests on the wrong part: how many settings a grid with a wrong value has."""
    text = """
    config: maml_navigation
    overrides: {algorithm.discount: 0.9}
    seeds: [1, 1]
    grid: {algorithm.inner_lr: 0.1, algorithm.discount: [0.9, 0.99]}
    sample: {policy.init_std: {uniform: [1, 0]}}
    sampler: tpe
    """
    assert refused(tmp_path, text) == [
        "grid.algorithm.inner_lr: must be a list of values, at least one (got 0.1)",
        "overrides.algorithm.discount: is varied too; leave it out here",
        "seeds: must differ (got [1, 1])",
        "sample.policy.init_std.uniform: must be a smaller and a larger number (got [1.0, 0.0])",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty; give at least config, and what to vary under grid or sample"),
        ("[1]", "must be a mapping of sections, e.g. 'config: maml_navigation' (got [1])"),
    ],
)
def test_what_is_no_study_at_all_is_told_what_a_study_is(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_study(written(tmp_path, text))
    assert str(error.value) == f"{tmp_path / 'study.yaml'}: {problem}"
