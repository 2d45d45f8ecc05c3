"""Training from another run's parameters: those that are asked for, if they fit, and without that run afterwards."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chex
import jax
import numpy as np
import pytest

import metarl_jax as mrl
from metarl_jax.config import Config, ConfigError, config_from_dict
from metarl_jax.ops import trees
from metarl_jax.runs.build import build
from metarl_jax.runs.run import load, prepare_directory, prepared
from metarl_jax.runs.training import Lane, train, warm_starts
from metarl_jax.runs.warm_start import warm_start

ONE = jax.devices()[:1]


SMALL = {"num_iterations": 2, "meta_batch_size": 2, "episodes_per_task": 2, "checkpoint_every": 5}


def maml(source: Path, training: dict[str, Any], **sections: Any) -> Config:
    """MAML, on other tasks with the same network unless said otherwise."""
    tree = {"tasks": {"name": "navigation_corner", "horizon": 5}, "policy": {"hidden_sizes": [4]}, **sections}
    training = {**SMALL, "initial_run": str(source), **training}
    return config_from_dict({"algorithm": {"name": "maml"}, **tree, "training": training})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two updates, each a checkpoint; the first is the best."""
    directory = tmp_path_factory.mktemp("pretrained") / "run"
    tree = {"tasks": {"name": "navigation_finn", "horizon": 5}, "policy": {"hidden_sizes": [4]}}
    training = {**SMALL, "checkpoint_every": 1}
    config = config_from_dict({**tree, "algorithm": {"name": "pretraining"}, "training": training})
    prepare_directory(directory, config, False, False)
    train(build(config), directory, devices=ONE)
    return directory


def test_maml_starts_where_pretraining_ended_and_needs_it_no_more(pretrained: Path, tmp_path: Path) -> None:
    """Killed before its first regular checkpoint, and the other run deleted, it ends as if nothing had happened."""
    source, directory = tmp_path / "source", tmp_path / "run"
    shutil.copytree(pretrained, source)
    config = maml(source, {})
    prepare_directory(directory, config, False, False)
    train(build(config), directory, devices=ONE, stop_requested=lambda: 15)
    chex.assert_trees_all_equal(load(directory).params, load(pretrained).params)
    said = json.loads((directory / "initial_run.json").read_text())
    assert (said["run"], said["iteration"]) == (str(source.resolve()), 2)
    assert said["params"] == sorted(trees.by_path(load(pretrained).params))
    chex.assert_trees_all_equal(mrl.build(config).params, load(pretrained).params)
    shutil.rmtree(source)
    train(build(config), directory, devices=ONE, resume=True)
    whole = maml(pretrained, {})
    prepare_directory(tmp_path / "whole", whole, False, False)
    train(build(whole), tmp_path / "whole", devices=ONE)
    chex.assert_trees_all_equal(load(directory).params, load(tmp_path / "whole").params)
    told = json.loads((tmp_path / "whole" / "initial_run.json").read_text())
    assert told["crc32"] == said["crc32"]
    with pytest.raises(ConfigError, match=r"training\.initial_run: None now, "):
        prepare_directory(directory, maml(pretrained, {"initial_run": None}), True, False)


def test_only_what_is_named_is_taken(pretrained: Path) -> None:
    """By a path, all below it, or a pattern; from the checkpoint that is asked for."""
    fresh, given = trees.by_path(mrl.build(maml(pretrained, {"initial_run": None})).params), {}
    for step in (1, 2):
        given[step] = trees.by_path(load(pretrained, step).params)
    for names, checkpoint, step in ((["mean/Dense_0", "log_std"], 1, 1), (["mean/*/bias"], "latest", 2)):
        config = maml(pretrained, {"initial_params": names, "initial_checkpoint": checkpoint})
        taken = warm_start(build(config).algorithm, config.training, print)
        assert taken is not None
        expected = {"mean/Dense_0/bias", "mean/Dense_0/kernel", "log_std"}
        assert set(taken.leaves) == (expected if step == 1 else {"mean/Dense_0/bias", "mean/Dense_1/bias"})
        for path, leaf in trees.by_path(mrl.build(config).params).items():
            np.testing.assert_array_equal(leaf, given[step][path] if path in taken.leaves else fresh[path])


def test_what_has_no_place_is_said_unless_those_to_take_are_named(pretrained: Path) -> None:
    """As when the other network has one layer more: all that is wanted is there, so nothing is refused."""
    for names in (None, ["log_std"]):
        config = maml(pretrained, {"initial_params": names})
        algorithm, said = build(config).algorithm, list[str]()

        def without_mean(key, init=algorithm.init):
            state = init(key)
            return state._replace(params={name: leaf for name, leaf in state.params.items() if name != "mean"})

        taken = warm_start(algorithm._replace(init=without_mean), config.training, said.append)
        assert taken is not None
        assert list(taken.leaves) == ["log_std"]
        paths = ", ".join(f"mean/Dense_{layer}/{part}" for layer in (0, 1) for part in ("bias", "kernel"))
        assert len(said) == (names is None)
        assert all(f"are left out, for this run has none of their names: {paths}; if" in sentence for sentence in said)
        lanes = [Lane(config, Path(name)) for name in "ab"]
        program = SimpleNamespace(experiment=SimpleNamespace(algorithm=algorithm._replace(init=without_mean)))
        said.clear()
        assert len(warm_starts(program, lanes, False, said.append)) == 2
        assert len(said) == (names is None), "lanes hear it once"


@pytest.mark.parametrize(
    ("training", "sections", "reason"),
    [
        ({}, {"policy": {"hidden_sizes": [8]}}, r"mean/Dense_0/kernel is float32\[2,4\] there and float32\[2,8\] here"),
        ({}, {"algorithm": {"name": "meta_sgd"}}, r"\S+ is absent there and float32.* here; name those that fit in"),
        (
            {"initial_params": ["torso"]},
            {},
            "'torso' is no parameter of this run; there are log_std, mean/Dense_0/bias",
        ),
        ({"initial_run": "nowhere"}, {}, "training.initial_run = 'nowhere': holds no run"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_compiles(
    pretrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    training: dict[str, Any],
    sections: dict[str, Any],
    reason: str,
) -> None:
    config = maml(pretrained, training, **sections)
    experiment = build(config)
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    with pytest.raises(ConfigError, match=reason), prepared(tmp_path / "run", config, False, False):
        train(experiment, tmp_path / "run", devices=ONE)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_what_does_not_fit_overwrites_nothing(pretrained: Path, tmp_path: Path) -> None:
    """Neither does what would delete the run that it is to start from."""
    shutil.copytree(pretrained, tmp_path / "run")
    for source, reason in (("nowhere", "holds no run"), ("run", "is what --overwrite would delete")):
        with pytest.raises(ConfigError, match=reason):
            mrl.train(maml(tmp_path / source, {}), run_dir=tmp_path / "run", overwrite=True, devices=1)
        assert load(tmp_path / "run").iteration == 2
