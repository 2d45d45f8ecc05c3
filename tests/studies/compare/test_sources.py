"""What is compared: found in what was given, put together by method, refused where it cannot be compared."""

import json
from pathlib import Path

import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config import ConfigError
from metarl_jax.runs.directory import CONFIG_FILE
from metarl_jax.studies.compare.sources import check, is_trained, methods_in, names, recipes, studies_in
from metarl_jax.studies.compare.stages import cut
from tests.comparisons import MAML, ORACLE, config_of, write_run, write_runs
from tests.helpers import tiny_config, write_config

SAVED = {1: 100}


def test_runs_that_differ_in_their_seeds_are_one_method(tmp_path: Path) -> None:
    runs = write_runs(tmp_path)
    maml, rl2, oracle = methods_in([tmp_path / "maml", *runs[3:]])  # a folder of seeds, and single runs
    assert [method.name for method in (maml, rl2, oracle)] == ["maml", "rl2", "oracle (pretraining)"]
    assert maml.runs == dict(enumerate(runs[:3]))
    assert list(rl2.runs) == [0, 1]


def test_the_same_run_may_be_named_twice_and_another_with_its_seed_may_not(tmp_path: Path) -> None:
    one, other = (write_run(tmp_path / name, config_of(MAML), SAVED) for name in ("a", "b"))
    assert len(methods_in([one, one])) == 1
    with pytest.raises(
        Refusal, match=r"seed = 3: is that of .*a and of .*b, which differ at most in how long they are"
    ):
        methods_in([one, other])


def test_how_long_a_run_is_and_what_it_writes_make_no_other_method(tmp_path: Path) -> None:
    """They are compared at equal steps, and named after what tells the methods apart."""
    lasting = {**tiny_config().model_dump(mode="json")["training"], "num_iterations": 12, "checkpoint_every": 3}
    lasting |= {"keep_checkpoints": 9, "log_every": 3, "updates_per_visit": 3}
    fast = {"algorithm": {"name": "maml", "inner_lr": 0.5}}
    short = write_run(tmp_path / "short", config_of(MAML), {4: 400, 6: 600})
    long = write_run(tmp_path / "long", config_of(MAML, seed=4, training=lasting), {6: 600, 12: 1200})
    other = write_run(tmp_path / "other", config_of(fast, training=lasting), {6: 600, 12: 1200})
    maml, faster = methods_in([short, long, other])
    assert (maml.name, maml.runs) == ("maml, inner_lr 0.1", {3: short, 4: long})
    assert faster.name == "maml, inner_lr 0.5"
    at = cut([maml, faster])
    assert (at.env_steps, [stage.iteration for stage in at.stages[maml.name].values()]) == (600, [6, 6])
    twin = write_run(tmp_path / "twin", config_of(MAML, training=lasting), {12: 1200})
    with pytest.raises(Refusal, match=r"seed = 3: is that of \S+short and of \S+twin, which .* in how long they are"):
        methods_in([short, twin])


def test_trackers_of_a_run_need_not_be_here(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", config_of(MAML), SAVED)
    file = run / CONFIG_FILE
    assert "trackers: []" in file.read_text()
    file.write_text(file.read_text().replace("trackers: []", "trackers: [elsewhere:tracker]"))
    (method,) = methods_in([run])
    assert method.name == "maml"


def test_other_tasks_are_refused_but_an_oracle_is_not(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", config_of(MAML), SAVED)
    oracle = write_run(tmp_path / "b", config_of(ORACLE), SAVED)
    taught = write_run(tmp_path / "d", config_of({**MAML, "tasks": {"critic_oracle": True}}), SAVED)
    longer = write_run(tmp_path / "c", config_of({**MAML, "tasks": {"horizon": 9}}), SAVED)
    names_of_them = [method.name for method in methods_in([one, oracle, taught])]
    assert names_of_them == ["maml", "oracle (pretraining)", "maml, told tasks in training"]
    with pytest.raises(Refusal, match=r"different tasks \(tasks.horizon: 5 and 9\); .*compare them apart"):
        methods_in([one, longer])


def test_a_warm_start_makes_another_method_and_an_evaluation_while_training_does_not(tmp_path: Path) -> None:
    """Else runs from scratch and warm ones would be averaged, or refused as alike."""
    training, evaluation = (tiny_config().model_dump(mode="json")[section] for section in ("training", "evaluation"))
    cold = write_run(tmp_path / "cold", config_of(MAML), SAVED)
    warm = write_run(tmp_path / "warm", config_of(MAML, training={**training, "initial_run": "x"}), SAVED)
    watched = write_run(tmp_path / "watched", config_of(MAML, seed=4, evaluation={**evaluation, "every": 2}), SAVED)
    first, second = methods_in([cold, warm, watched])
    assert (first.name, first.runs) == ("maml, initial_run None", {3: cold, 4: watched})
    assert (second.name, second.runs) == ("maml, initial_run x", {3: warm})


def test_tasks_that_are_held_out_beside_validation_are_others(tmp_path: Path) -> None:
    evaluation = {**tiny_config().model_dump(mode="json")["evaluation"], "every": 2, "validation_tasks": 2}
    runs = [
        write_run(
            tmp_path / f"{disjoint} {i}", config_of({**MAML, "tasks": {"disjoint": disjoint}}, seed=i, **more), SAVED
        )
        for disjoint in (False, True)
        for i, more in enumerate(({}, {"evaluation": evaluation}))
    ]
    assert len(methods_in(runs[:2])) == 1
    with pytest.raises(Refusal, match=r"different tasks \(with evaluation.validation_tasks: False and True\)"):
        methods_in(runs[2:])


def test_names_tell_methods_apart() -> None:
    fast = {"algorithm": {"name": "maml", "inner_lr": 0.5}}
    assert names([config_of(MAML), config_of(fast), config_of(ORACLE)]) == [
        "maml, inner_lr 0.1",
        "maml, inner_lr 0.5",
        "oracle (pretraining)",
    ]


def test_where_there_is_no_run_nothing_is_compared(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="holds no run and no study that has ended"):
        methods_in([tmp_path])


@pytest.mark.parametrize(("direction", "best"), [("maximize", 1), ("minimize", 0)])
def test_of_a_study_the_best_setting_of_each_method_is_taken(tmp_path: Path, direction: str, best: int) -> None:
    tree = {"logging": {"run_root": str(tmp_path)}}
    for number, (name, inner_lr) in enumerate([("maml", 0.1), ("maml", 0.5), ("maml", 0.9), ("pretraining", 0.1)]):
        algorithm = {"algorithm": {"name": name, "inner_lr": inner_lr}}
        write_run(tmp_path / "s" / "trials" / f"{number:04d}" / "seed-3", config_of(algorithm), SAVED)
    (tmp_path / "s" / "study.csv").write_text(
        "trial,state,updates,algorithm.name,algorithm.inner_lr,objective,seed 3\n"
        "0,finished,1,maml,0.1,-5.0,-5.0\n1,finished,1,maml,0.5,-2.0,-2.0\n2,failed,1,maml,0.9,,\n"
        "3,finished,1,pretraining,0.1,-7.0,-7.0\n"
    )
    config = write_config(tmp_path)
    config.write_text(json.dumps(json.loads(config.read_text()) | tree))
    file = tmp_path / "s.yaml"
    file.write_text(json.dumps({"config": "tiny.yaml", "objective": {"direction": direction}}))
    (tmp_path / "s" / "study.yaml").write_text(file.read_text())
    for given in (file, tmp_path / "s"):
        maml, pretraining = methods_in([given])
        assert maml.runs[3].parent.name == f"{best:04d}"
        assert [setting.objective for setting in maml.settings] == [-5.0, -2.0, None]
        assert maml.settings[0].values == {"algorithm.name": "maml", "algorithm.inner_lr": "0.1"}
        assert len(pretraining.settings) == 1
        assert studies_in([given]) == [(tmp_path / "s", direction == "maximize")]


def test_keys_belong_to_the_config_before_them_or_to_all(tmp_path: Path) -> None:
    config = str(write_config(tmp_path))
    first, second = recipes(["seed=2", config, config, "tasks.oracle=true", "tasks.horizon=7"])
    assert first.overrides == ("seed=2",)
    assert second.overrides == ("seed=2", "tasks.oracle=true", "tasks.horizon=7")
    assert first.name != second.name
    assert not is_trained(config)
    with pytest.raises(Refusal, match=r"tasks\.horizon: 5 and 7"):
        check([first, second])
    with pytest.raises(ConfigError, match="train the same"):
        check([first, first])
    with pytest.raises(ConfigError, match="nothing to compare"):
        check(recipes(["seed=2"]))
    with pytest.raises(ConfigError, match="did you mean 'maml_navigation'"):
        recipes(["maml_navigatoin"])


def test_a_directory_and_a_study_are_trained(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("config: maml_navigation\ngrid: {}\n")
    assert is_trained(str(tmp_path))
    assert is_trained(str(tmp_path / "s.yaml"))
