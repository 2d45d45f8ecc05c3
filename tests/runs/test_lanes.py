"""Many runs in one program: each is what it would be alone."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import chex
import jax
import pytest

from metarl_jax.config import Config, ConfigError
from metarl_jax.runs.build import build
from metarl_jax.runs.program import Program, _lanes_apart, check_lanes, make_program
from metarl_jax.runs.run import load, prepare_directory
from metarl_jax.runs.training import Lane, train, train_lanes
from metarl_jax.tracking.jsonl import read_metrics
from tests.helpers import environment, metarl, tiny_config, wait_for, write_config

ONE = jax.devices()[:1]
DIFFERENT: list[dict[str, Any]] = [
    {},
    {"seed": 4, "algorithm": {"inner_lr": 0.02, "clip_eps": 0.1, "kl_target": 0.02}},
    {"optimizer": {"learning_rate": 0.01}, "policy": {"init_std": 0.5}, "algorithm": {"discount": 0.9}},
]


def lanes_in(folder: Path, configs: Sequence[Config]) -> list[Lane]:
    lanes = [Lane(config, folder / f"{number}") for number, config in enumerate(configs)]
    for lane in lanes:
        prepare_directory(lane.directory, lane.config, (lane.directory / "config.yaml").exists(), False)
    return lanes


def params_of(lane: Lane) -> Any:
    return load(lane.directory).params


@pytest.fixture(scope="module")
def program() -> Program:
    return make_program(build(tiny_config()), ONE, len(DIFFERENT))


@pytest.fixture(scope="module")
def alone(program: Program, tmp_path_factory: pytest.TempPathFactory) -> list[Lane]:
    """Trained each by itself, with a program of its own."""
    lanes = lanes_in(tmp_path_factory.mktemp("alone"), [tiny_config(**sections) for sections in DIFFERENT])
    for lane in lanes:
        train(build(lane.config), lane.directory, devices=ONE)
    return lanes


def test_a_lane_is_the_run_alone_bit_for_bit(program: Program, alone: list[Lane], tmp_path: Path) -> None:
    """Parameters and metrics; one compilation serves all seeds and traced numbers."""
    assert program.width == 1
    lanes = lanes_in(tmp_path, [lane.config for lane in alone])
    seen: list[tuple[str, int]] = []
    results = train_lanes(program, lanes, report=lambda lane, row: seen.append((lane.directory.name, row["iteration"])))
    assert seen == [(name, i) for name in "012" for i in range(1, 7)]
    for lane, single, result in zip(lanes, alone, results, strict=True):
        assert result.finished
        chex.assert_trees_all_equal(params_of(lane), params_of(single))
        clocks = ("seconds", "per_second")
        rows, singles = (
            [{key: x for key, x in row.items() if not key.endswith(clocks)} for row in read_metrics(of.directory)]
            for of in (lane, single)
        )
        assert rows == singles
    first, second, third = map(params_of, lanes)
    for other in (second, third):
        with pytest.raises(AssertionError):
            chex.assert_trees_all_close(first, other)


def test_lanes_side_by_side_on_a_device_equal_the_runs_alone(alone: list[Lane], tmp_path: Path) -> None:
    """As an accelerator computes them, in one batch; the last round is not full."""
    batched = _lanes_apart(build(tiny_config()), ONE, per_device=2)
    assert batched.width == 2
    lanes = lanes_in(tmp_path, [lane.config for lane in alone])
    assert not any(result.finished for result in train_lanes(batched, lanes, until=5))
    for lane, single in zip(lanes, alone, strict=True):
        assert load(lane.directory).iteration == 5
        train_lanes(batched, [lane])  # the sixth: checkpoints of the runs alone are of every second update
        chex.assert_trees_all_close(params_of(lane), params_of(single), rtol=0, atol=1e-5)


def test_a_lane_that_diverges_leaves_the_others_alone(program: Program, alone: list[Lane], tmp_path: Path) -> None:
    configs = [tiny_config(algorithm={"inner_lr": 1e30}), *(lane.config for lane in alone[:1])]
    batched = _lanes_apart(build(tiny_config()), ONE, per_device=2)
    for name, shared in (("one_by_one", program), ("batched", batched)):
        lanes = lanes_in(tmp_path / name, configs)
        train_lanes(shared, lanes, warn=lambda text: None)
        assert all(row["skipped"] == 1 for row in read_metrics(lanes[0].directory))
        chex.assert_trees_all_close(params_of(lanes[1]), params_of(alone[0]), rtol=1e-4, atol=1e-5)
    assert max(row["skipped"] for row in read_metrics(lanes[1].directory)) == 0


@pytest.mark.parametrize("batch", [1, 3])
def test_lanes_that_were_interrupted_anywhere_go_on(
    program: Program, alone: list[Lane], tmp_path: Path, batch: int
) -> None:
    """One had finished, one was half-way, one had not begun; a signal arrives and they go on once more."""
    shared = program if batch == 1 else _lanes_apart(program.experiment, ONE, batch)
    lanes = lanes_in(tmp_path, [lane.config for lane in alone])
    train_lanes(shared, lanes[:1])
    train_lanes(shared, lanes[1:2], until=2)
    stopped = train_lanes(shared, lanes, stop_requested=after(3 if batch == 1 else 1))
    assert stopped[-1].signal == 15
    results = train_lanes(shared, lanes)
    assert all(result.finished for result in results)
    for lane, single in zip(lanes, alone, strict=True):
        assert [row["iteration"] for row in read_metrics(lane.directory)] == [1, 2, 3, 4, 5, 6]
        chex.assert_trees_all_close(params_of(lane), params_of(single), rtol=1e-4, atol=1e-5 if batch > 1 else 0)


def after(calls: int) -> Callable[[], int | None]:
    """A signal that arrives after so many questions."""
    asked: list[None] = []

    def stop_requested() -> int | None:
        asked.append(None)
        return 15 if len(asked) > calls else None

    return stop_requested


def test_runs_that_need_programs_of_their_own_are_refused() -> None:
    configs = [tiny_config(), tiny_config(policy={"hidden_sizes": [8]}, algorithm={"kl_target": None})]
    with pytest.raises(ConfigError, match=r"^algorithm\.kl_target, policy\.hidden_sizes: not the same in all"):
        check_lanes(configs)
    check_lanes([tiny_config(**sections) for sections in DIFFERENT])
    check_lanes([tiny_config(), tiny_config(training={"num_iterations": 9}, logging={"tensorboard": False})])


def test_a_factory_that_decides_by_a_traced_number_is_refused() -> None:
    experiment = build(tiny_config())

    def remake(values: Any) -> Any:
        return experiment.algorithm if values["algorithm"]["inner_lr"] > 0 else None

    with pytest.raises(ConfigError, match=r"algorithm.name = 'promp': one of them decides by the value of a number"):
        make_program(experiment._replace(remake=remake), ONE)


@pytest.mark.slow
def test_seeds_on_the_command_line(tmp_path: Path) -> None:
    """Three runs on two cores, in folders of their own, are those of one core; killed, they go on bit for bit."""
    config = write_config(tmp_path)
    done = metarl("train", config, "--seeds", 3, "--run-dir", tmp_path / "whole", devices=2)
    assert done.returncode == 0, done.stderr
    assert "2 CPU cores train runs of their own" in done.stdout
    assert "finished 6 iterations of each of 3 runs" in done.stdout
    directories = [tmp_path / "whole" / f"seed-{seed}" for seed in (3, 4, 5)]
    assert all((directory / "training.png").is_file() for directory in directories)
    for directory in directories:
        single = Lane(tiny_config(seed=int(directory.name[5:])), tmp_path / f"alone-{directory.name}")
        prepare_directory(single.directory, single.config, False, False)
        train(build(single.config), single.directory, devices=ONE)
        chex.assert_trees_all_close(load(directory).params, params_of(single), rtol=2e-4, atol=2e-6)

    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "metarl_jax", "train", str(config), "training.num_iterations=40", "--seeds=3"]
    process = subprocess.Popen([*command, f"--run-dir={killed}"], env=environment(2), stdout=subprocess.DEVNULL)
    wait_for(lambda: (killed / "seed-4" / "checkpoints" / "2").exists())
    process.kill()
    process.wait()
    assert metarl("train", config, "--seeds", 3, "--run-dir", killed).returncode == 2
    again = metarl("resume", killed, "training.num_iterations=40", devices=2)
    assert again.returncode == 0, again.stderr
    assert "finished 40 iterations of each of 3 runs" in again.stdout
    assert metarl(*command[3:], f"--run-dir={tmp_path / '40'}", devices=2).returncode == 0
    for seed in (3, 4, 5):
        chex.assert_trees_all_equal(load(killed / f"seed-{seed}").params, load(tmp_path / "40" / f"seed-{seed}").params)
