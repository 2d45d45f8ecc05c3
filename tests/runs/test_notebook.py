"""A notebook trains, evaluates, saves and loads in its own process, also twice and in a thread."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest

import metarl_jax as mrl
from metarl_jax.config import ConfigError
from metarl_jax.runs.build import build
from metarl_jax.runs.program import initialiser
from metarl_jax.runs.run import Run
from metarl_jax.tracking.jsonl import read_metrics
from tests.helpers import TINY, tiny_config, write_config

QUICK = {**TINY, "logging": {"tensorboard": False}}


def in_a_thread(action: Any) -> Any:
    """Where there are no signals, as in a notebook server's worker."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(action()))
    thread.start()
    thread.join()
    return results[0]


def assert_same(left: Any, right: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path, list[dict[str, Any]]]:
    """Two updates, from a thread; the directory, and the rows that were reported."""
    folder, rows = tmp_path_factory.mktemp("runs") / "first", []
    run = in_a_thread(
        lambda: mrl.train(QUICK, ["training.num_iterations=2"], run_dir=folder, devices=1, report=rows.append)
    )
    return run, folder, rows


def test_training_returns_the_run_that_is_on_disk(trained: tuple[Run, Path, list[dict[str, Any]]]) -> None:
    run, folder, rows = trained
    assert run.iteration == 2
    assert [row["iteration"] for row in rows] == [row["iteration"] for row in read_metrics(folder)] == [1, 2]
    assert_same(run.params, mrl.load(folder).params)
    assert mrl.evaluate(run, num_inner_steps=0) == mrl.evaluate(mrl.load(folder), num_inner_steps=0)


@pytest.mark.slow
def test_a_second_training_resumes_the_first(trained: tuple[Run, Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    """In one process, and with the numbers of a run that was not interrupted; progress is printed by default."""
    _, folder, _ = trained
    resumed = mrl.train(QUICK, ["training.num_iterations=4"], run_dir=folder, devices=1, resume=True)
    whole = mrl.train(write_config(tmp_path), ["training.num_iterations=4"], run_dir=tmp_path / "whole", devices=1)
    assert resumed.iteration == whole.iteration == 4
    assert_same(resumed.params, whole.params)


@pytest.mark.slow
def test_what_was_trained_by_hand_is_kept(tmp_path: Path) -> None:
    """The bare functions of a run that was never trained by the loop; everything of its state comes back."""
    run = mrl.build(tiny_config())
    state = run.algorithm.init(jax.random.key(0))
    assert_same(mrl.build(tiny_config()).params, run.params)
    tasks = jax.vmap(run.family.sample)(jax.random.split(jax.random.key(1), 4))
    state, _ = jax.jit(run.algorithm.update)(state, tasks, jax.random.split(jax.random.key(2), 4))
    mrl.save(run, state, tmp_path / "mine")
    loaded = mrl.load(tmp_path / "mine")
    assert loaded.iteration == 1
    assert_same(loaded.params, state.params)
    assert loaded.config == run.config
    resumed = mrl.train(TINY, ["training.num_iterations=2"], run_dir=tmp_path / "mine", devices=1, resume=True)
    assert resumed.iteration == 2
    with pytest.raises(ConfigError, match="already holds a run"):
        mrl.save(run, state, tmp_path / "mine")


def test_a_run_is_built_with_the_parameters_that_training_starts_from() -> None:
    """To the last bit, for numbers whose logarithm XLA rounds in another way when it knows them."""
    config = tiny_config(policy={"init_std": 1.3})
    started = initialiser(build(config))(config).params
    chex.assert_trees_all_equal(mrl.build(config).params, started)


def test_the_name_of_a_run_is_that_of_what_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"nothing to resume in runs/promp_navigation_finn"):
        mrl.train(QUICK, resume=True, devices=1)
    Path("mine.yaml").write_text(json.dumps(QUICK))
    with pytest.raises(ConfigError, match=r"nothing to resume in runs/mine"):
        mrl.train("mine.yaml", resume=True, devices=1)


def test_what_the_refusal_of_devices_says_makes_as_many() -> None:
    """In a process of its own; with a thread more than devices, without which XLA waits for ever."""
    with pytest.raises(ConfigError, match=r"devices = 0: there are 1 of kind cpu: give 1$"):
        mrl.train(QUICK, devices=0)
    with pytest.raises(ConfigError, match="give the command --devices 3 or, in Python, restart") as refused:
        mrl.train(QUICK, devices=3)
    said = str(refused.value).partition("imported, with: ")[2]
    code = f"{said}\nimport jax\nprint(len(jax.devices()), os.environ['NPROC'])"
    inherited = {name: value for name, value in os.environ.items() if name not in ("NPROC", "JAX_NUM_CPU_DEVICES")}
    done = subprocess.run([sys.executable, "-c", code], env=inherited, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["3", "4"], done.stderr


def test_what_cannot_work_is_refused_before_a_directory_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.inner_lr.*-1"):
        mrl.train(QUICK, ["algorithm.inner_lr=-1"], run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"devices = 99: there are \d+ of kind cpu: give 1; a CPU is split"):
        mrl.train(QUICK, run_dir=tmp_path / "run", devices=99)
    run = mrl.build(QUICK)
    other = mrl.build(QUICK, ["policy.hidden_sizes=[5]"]).algorithm.init(jax.random.key(0))
    with pytest.raises(ConfigError, match="state: is none of this run's promp"):
        mrl.save(run, other, tmp_path / "run")
    assert not list(tmp_path.iterdir())
