"""A study's keys and values against the config: the config of each run, and what is refused before it compiles."""

import re
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config import Config, ConfigError
from metarl_jax.runs.build import build
from metarl_jax.runs.program import make_program
from metarl_jax.studies.sweep.objective import names, of_training
from metarl_jax.studies.sweep.points import num_trials
from metarl_jax.studies.sweep.study import Objective
from metarl_jax.studies.sweep.sweep import config_of, group_of, load_sweep, make_programs, record_of, rungs_of, seeds_of

WriteStudy = Callable[..., Path]
ONE = jax.devices()[:1]


def refused(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_sweep(path)
    return [problem.removeprefix(f"{path}: ") for problem in error.value.problems]


def test_each_run_has_its_own_complete_config(write_study: WriteStudy) -> None:
    sweep = load_sweep(write_study(overrides={"training.num_iterations": 9, "policy.hidden_sizes": [8]}, seeds=[5, 7]))
    config = config_of(sweep, {"algorithm.inner_lr": 0.01, "optimizer.learning_rate": 1e-2}, 7)
    assert (config.seed, config.training.num_iterations, config.policy.hidden_sizes) == (7, 9, (8,))
    assert (config.algorithm.inner_lr, config.optimizer.learning_rate) == (0.01, 0.01)
    assert config.algorithm.kl_target == 0.01  # of the config's file
    assert seeds_of(sweep) == (5, 7)
    assert seeds_of(load_sweep(write_study())) == (3, 4)  # from the config's seed on


def test_a_config_may_go_by_its_name(write_study: WriteStudy) -> None:
    assert load_sweep(write_study(config="maml_navigation")).base.algorithm.name == "maml"


def test_every_unknown_key_and_value_out_of_range_is_named_at_once(write_study: WriteStudy) -> None:
    path = write_study(
        overrides={"training.num_iteration": 3},
        grid={"algorithm.inner_rl": [0.1], "optimizer.learning_rate": [0.1, -1.0], "optimiser.name": ["sgd"]},
        sample={"algorithm.discount": {"uniform": [0.5, 1.5]}},
        budget={"trials": 2},
    )
    problems = refused(path)
    assert [problem.partition(" (")[0].partition(";")[0] for problem in problems] == [
        "algorithm.inner_rl: unknown key of algorithm 'promp'",
        "training.num_iteration: unknown key",
        "optimiser: unknown key",
        "algorithm.discount: must be at least 0 and at most 1",
        "optimizer.learning_rate: must be greater than 0",
    ]
    assert "did you mean 'inner_lr'?" in problems[0]
    assert "(got 1.5)" in problems[3]


def test_a_key_below_a_value_is_refused(write_study: WriteStudy) -> None:
    assert refused(write_study(overrides={"seed.of": 1})) == ["seed.of: 'seed' is a value (3), not a section"]


def test_a_static_key_has_no_range_but_may_have_a_choice(write_study: WriteStudy) -> None:
    spreads = {"algorithm.num_inner_steps": {"uniform": [1, 3]}, "policy.init_std": {"log_uniform": [0.1, 1.0]}}
    (problem,) = refused(write_study(grid=None, sample=spreads, budget={"trials": 2}))
    assert problem.startswith(
        "sample.algorithm.num_inner_steps: each value makes another program, so it has no range (got [1.0, 3.0]); "
        "list values as 'choice' or under 'grid'; ranges are for policy.init_std, policy.min_std, algorithm.clip_eps, "
    )
    assert "optimizer.learning_rate" in problem
    spreads["algorithm.num_inner_steps"] = {"choice": [1, 2]}
    sweep = load_sweep(write_study(grid=None, sample=spreads, budget={"trials": 2}))
    assert len({group_of(config_of(sweep, {"algorithm.num_inner_steps": steps})) for steps in (1, 2)}) == 2


def test_the_config_s_own_mistakes_are_its_own(write_study: WriteStudy, tmp_path: Path) -> None:
    path = write_study()
    (tmp_path / "tiny.yaml").write_text("{tasks: {name: navigation_fin}, algorithm: {name: maml}}")
    with pytest.raises(ConfigError, match=rf"^{tmp_path / 'tiny.yaml'}: tasks.name: no such task family"):
        load_sweep(path)


def test_mistakes_of_all_kinds_are_named_at_once(write_study: WriteStudy, tmp_path: Path) -> None:
    """Of the file, of what lies in it, of its keys and values, of the comparisons; and the config's own."""
    spreads = {"algorithm.num_inner_steps": {"uniform": [1, 3]}, "algorithm.discount": {"uniform": [0.9, 0.1]}}
    wrong = {"seeds": 0, "sampler": "sobl", "overrides": {"training.num_iteration": 3}, "halving": {"first": 2}}
    grid = {"algorithm.inner_lr": 0.1, "training.num_iterations": [4], "optimizer.learning_rate": [-1.0]}
    path = write_study(**wrong, grid=grid, sample=spreads)
    assert [problem.partition(" (")[0].partition(";")[0].partition(", so it")[0] for problem in refused(path)] == [
        "seeds: must be greater than 0",
        "grid.algorithm.inner_lr: must be a list of values, at least one",
        "sampler: must be one of random, sobol, tpe",
        "sample.algorithm.discount.uniform: must be a smaller and a larger number",
        "sample.algorithm.num_inner_steps: each value makes another program",
        "optimizer.learning_rate: must be greater than 0",
        "training.num_iteration: unknown key",
        "halving: settings are compared at equal updates: do not vary training.num_iterations, or leave halving out",
    ]
    (tmp_path / "tiny.yaml").write_text("{tasks: {name: navigation_fin}, algorithm: {name: maml}}")
    first, last = refused(write_study_beside(path, tmp_path))
    assert first == "seeds: must be greater than 0 (got 0)"
    assert last.startswith(f"{tmp_path / 'tiny.yaml'}: tasks.name: no such task family")


def write_study_beside(path: Path, folder: Path) -> Path:
    path.write_text('{"config": "tiny.yaml", "seeds": 0, "grid": {"algorithm.inner_lr": [0.1]}}')
    return path


def test_what_the_programs_refuse_is_named_at_once_and_traced_once(
    write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def refuse(config: Config, devices: object, lanes: int) -> None:
        made.append(config.policy.activation)
        raise Refusal("policy.activation", config.policy.activation, "no")

    monkeypatch.setattr("metarl_jax.studies.sweep.sweep.settled_program", refuse)
    grid = {"policy.activation": ["tanh", "relu"], "optimizer.learning_rate": [1e-3, 1e-2]}
    sweep = load_sweep(write_study(grid=grid))
    with pytest.raises(ConfigError) as error:
        make_programs(sweep, ONE, 2)
    assert error.value.problems == ("policy.activation = 'tanh': no", "policy.activation = 'relu': no")
    assert made == ["tanh", "relu"]


def test_comparisons_lie_before_the_end(write_study: WriteStudy) -> None:
    assert rungs_of(load_sweep(write_study(halving={"first": 1, "factor": 2}))) == [1, 2, 4]
    assert refused(write_study(halving={"first": 6})) == [
        "halving.first: must be less than 6, training.num_iterations (got 6)"
    ]
    varied = write_study(halving={"first": 2}, grid={"training.num_iterations": [4, 6]})
    assert refused(varied) == [
        "halving: settings are compared at equal updates: do not vary training.num_iterations, or leave halving out"
    ]


def test_how_much_is_trained_may_change_but_nothing_that_is_compared(write_study: WriteStudy) -> None:
    spread = {"sample": {"algorithm.discount": {"uniform": [0.5, 1.0]}}, "budget": {"trials": 4}}
    first = record_of(load_sweep(write_study(**spread)))
    more = record_of(load_sweep(write_study(**{**spread, "budget": {"trials": 8}}, batch=2)))
    assert {
        "sample.algorithm.discount",
        "objective.of",
        "seeds",
        "config.seed",
        "config.training.num_iterations",
    } <= set(first)
    other = record_of(load_sweep(write_study(**spread, overrides={"algorithm.gae_lambda": 0.5})))
    assert first == more
    assert {key for key in first if first[key] != other[key]} == {"config.algorithm.gae_lambda"}
    of_halving = [
        record_of(load_sweep(write_study(halving={"first": 2}, **spread | {"budget": {"trials": n}}))) for n in (4, 8)
    ]
    assert of_halving[0] != of_halving[1]


def test_an_objective_that_the_method_does_not_report_is_refused_before_anything_compiles(
    write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    known = {"training": ["return_post", "grad_norm", "inner_kl"], "evaluation": ["mean_return"]}
    for of, (*_, name) in known.items():
        wrong = name if of == "training" else "success"
        sweep = load_sweep(write_study(objective={"of": of, "metric": wrong}, grid={"algorithm.inner_lr": [0.1]}))
        with pytest.raises(ConfigError) as error:
            make_programs(sweep, ONE, 2)
        (problem,) = error.value.problems
        start = f"{sweep.file}: objective.metric: promp on navigation_finn does not report it (got '{wrong}')"
        assert problem.startswith(start)
        assert all(name in problem for name in known[of][:2])


ROOT = Path(__file__).resolve().parents[3]


def test_the_example_and_the_page_hold_studies_that_fit(tmp_path: Path) -> None:
    example = load_sweep(ROOT / "examples" / "step_sizes.yaml")
    assert num_trials(example.study) == 2 * 6 * 6
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(), flags=re.DOTALL)
    (tmp_path / "study.yaml").write_text(block)
    page = load_sweep(tmp_path / "study.yaml")
    assert (num_trials(page.study), rungs_of(page)) == (64, [10, 30])


def test_one_program_for_each_group_also_of_choices_that_meet_later(write_study: WriteStudy) -> None:
    choices = {"policy.activation": {"choice": ["tanh", "relu"]}, "algorithm.gae_lambda": {"uniform": [0.5, 1.0]}}
    objective = {"of": "training", "metric": "grad_norm"}
    asked = {"grid": None, "sample": choices | {"policy.hidden_sizes": {"choice": [[4], [3]]}}, "budget": {"trials": 3}}
    sweep = load_sweep(write_study(**asked, objective=objective))
    program_of = make_programs(sweep, ONE, 2)
    values = {"policy.hidden_sizes": (4,), "algorithm.gae_lambda": 0.7}
    first, second = (config_of(sweep, {**values, "policy.activation": kind}) for kind in ("tanh", "relu"))
    assert program_of(first) is program_of(config_of(sweep, {**values, "algorithm.gae_lambda": 0.6}, seed=9))
    assert program_of(second) is not program_of(first)
    assert program_of(second).experiment.config == second  # made now: the corners have other sizes with relu


def test_what_is_compared_is_reported_before_it_is(write_study: WriteStudy) -> None:
    objective = {"of": "training", "metric": "evaluation_return_post"}
    seldom = {"objective": objective, "overrides": {"evaluation.every": 4}}
    assert refused(write_study(**seldom, halving={"first": 2})) == [
        "objective.metric: evaluation_return_post comes every 4 updates; settings are first compared after update 2: "
        "evaluate no later"
    ]
    unlogged = write_study(objective={"of": "training"}, overrides={"training.log_every": 4}, halving={"first": 2})
    assert refused(unlogged) == [
        "objective.metric: return_post comes every 4 updates; settings are first compared after update 2: log no later"
    ]
    sweep = load_sweep(write_study(**seldom))
    program = make_program(build(sweep.base), ONE)
    assert "evaluation_return_post" in names(sweep.study.objective, program)
    assert "validation_return_post" not in names(sweep.study.objective, program)


def test_the_newest_evaluations_count_and_of_a_run_that_ended_early_its_last_updates() -> None:
    rows = [
        {"iteration": i, "return_post": float(i), **({"evaluation_return_post": 10.0 * i} if i % 4 == 0 else {})}
        for i in range(1, 13)
    ]
    ended, evaluated = (
        Objective(of="training", last=3),
        Objective(of="training", metric="evaluation_return_post", last=3),
    )
    assert of_training(ended, rows, updates=10) == 9.0
    assert of_training(ended, rows, updates=100) == 11.0
    assert [of_training(evaluated, rows, updates=end) for end in (5, 11, 100)] == [40.0, 80.0, 120.0]
    both = Objective(of="training", metric="evaluation_return_post", last=6)
    assert of_training(both, rows, updates=12) == 100.0
