"""Training end to end on a tiny run: killed, stopped or out of space, it resumes bit for bit."""

import json
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from metarl_jax.config import ConfigError
from metarl_jax.runs.build import build
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.directory import WriteError
from metarl_jax.runs.log import _rows
from metarl_jax.runs.run import CHECKPOINTS, prepare_directory, restore
from metarl_jax.runs.training import train
from metarl_jax.tracking.jsonl import read_metrics
from tests.helpers import TINY, environment, final_params, metarl, start, tiny_config, wait_for, write_config


def test_metrics_have_the_promised_fields_in_order(uninterrupted: Path) -> None:
    rows = read_metrics(uninterrupted)
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[1]["env_steps"] == 2 * 4 * 3 * 5 * 2  # updates x tasks x episodes x steps x stages
    promised = {"iteration", "env_steps", "return_pre", "return_post", "env_steps_per_second", "iteration_seconds"}
    assert promised | {"computed_env_steps", "computed_env_steps_per_second", "episodes_dropped"} <= rows[0].keys()
    assert rows[0]["return_pre"] < 0
    assert rows[0]["return_per_stage"] == [rows[0]["return_pre"], rows[0]["return_post"]]


@pytest.mark.parametrize(("known", "before"), [(1000, 1000), (None, 2 * 120)])
def test_steps_taken_are_counted_and_those_computed_apart(known: int | None, before: int) -> None:
    """Episodes that end early take fewer; a checkpoint of an older version counts those computed until then."""
    infos = {"return": np.zeros((2, 2)), "steps_taken": np.array([70, 30]), "episodes_dropped": np.array([0, 1])}
    rows = _rows(build(tiny_config()), 2, 2, known, infos, seconds=0.25)
    assert [row["env_steps"] for row in rows] == [before + 70, before + 100]
    assert [row["computed_env_steps"] for row in rows] == [3 * 120, 4 * 120]
    assert [row["env_steps_per_second"] for row in rows] == [280, 120]
    assert [row["computed_env_steps_per_second"] for row in rows] == [480, 480]
    assert [row["episodes_dropped"] for row in rows] == [0, 1]


def test_a_method_that_declares_no_adaptation_trains_without_a_count_of_computed_steps() -> None:
    experiment = build(tiny_config())
    undeclared = experiment._replace(algorithm=experiment.algorithm._replace(adaptation=None))
    infos = {"return": np.zeros((1, 2)), "steps_taken": np.array([70])}
    (row,) = _rows(undeclared, 2, 1, 1000, infos, seconds=0.5)
    assert row["env_steps"] == 1070
    assert not [name for name in row if name.startswith("computed")]


def test_parameters_and_coefficients_move(uninterrupted: Path) -> None:
    experiment = build(tiny_config())
    state = restore(experiment, uninterrupted).state
    assert int(state.step) == 6
    assert float(state.aux[0]) != 5e-4  # the adaptive KL coefficient is part of the checkpoint
    with Checkpoints(uninterrupted / CHECKPOINTS) as checkpoints:
        earlier = checkpoints.restore(jax.eval_shape(lambda: state), 4).state
    assert not np.array_equal(state.params["log_std"], earlier.params["log_std"])


def test_resumed_run_equals_uninterrupted_bit_for_bit(uninterrupted: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    start(directory, training={"num_iterations": 3, "updates_per_visit": 3, "checkpoint_every": 3})
    start(directory, resume=True)
    for ours, theirs in zip(final_params(directory), final_params(uninterrupted), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    counted = [(row["iteration"], row["env_steps"]) for row in read_metrics(directory)]
    assert counted == [(i, i * 120) for i in range(1, 7)]


def test_the_best_checkpoint_does_not_depend_on_interruptions(uninterrupted: Path, tmp_path: Path) -> None:
    """The scores of the updates since the last regular checkpoint are saved with an irregular one."""
    directory = tmp_path / "run"
    start(directory, training={"num_iterations": 3})
    start(directory, resume=True)
    both = [Checkpoints(path / CHECKPOINTS) for path in (directory, uninterrupted)]
    scores = [{step: checkpoints._score(step) for step in (4, 6)} for checkpoints in both]
    assert scores[0] == scores[1]
    assert None not in scores[0].values()


@pytest.mark.slow
def test_killed_run_resumes_bit_for_bit(uninterrupted: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of training loses nothing that was saved, and changes no number."""
    directory, config = tmp_path / "run", write_config(tmp_path)
    command = [sys.executable, "-m", "metarl_jax", "train", str(config), "training.num_iterations=100000"]
    process = subprocess.Popen([*command, "--run-dir", str(directory)], env=environment(), stdout=subprocess.DEVNULL)
    wait_for(lambda: (directory / CHECKPOINTS / "6").exists() or (directory / CHECKPOINTS / "8").exists())
    process.kill()
    process.wait()
    reached = max(Checkpoints(directory / CHECKPOINTS).steps())
    resumed = metarl("train", config, f"training.num_iterations={reached + 4}", "--run-dir", directory, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert f"process {process.pid}" in resumed.stderr
    assert "died in it; taking over" in resumed.stderr
    start(tmp_path / "whole", training={"num_iterations": reached + 4})
    for ours, theirs in zip(final_params(directory), final_params(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.slow
def test_a_signal_saves_and_exits_cleanly(tmp_path: Path, kind: signal.Signals, code: int) -> None:
    """What a scheduler sends, and Ctrl-C; until then nobody else can use the directory."""
    directory, config = tmp_path / "run", write_config(tmp_path)
    arguments = [sys.executable, "-m", "metarl_jax", "train", str(config), "training.num_iterations=100000"]
    process = subprocess.Popen(
        [*arguments, "training.checkpoint_every=100000", "--run-dir", str(directory)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(read_metrics(directory)) > 3)
    for resume, overwrite in ((False, False), (True, False), (False, True)):
        with pytest.raises(ConfigError, match=f"in use by process {process.pid} on .*: wait for it, stop it"):
            prepare_directory(directory, tiny_config(), resume, overwrite)
    second = metarl("train", config, "--run-dir", directory, "--overwrite") if kind == signal.SIGTERM else None
    process.send_signal(kind)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert "stopping after this update; once more to stop now" in stderr
    assert "Traceback" not in stderr
    assert second is None or (second.returncode, f"process {process.pid}" in second.stderr) == (2, True)
    rows = read_metrics(directory)
    assert Checkpoints(directory / CHECKPOINTS).steps() == [rows[-1]["iteration"]]
    assert [row["iteration"] for row in rows] == list(range(1, len(rows) + 1))
    ending = f"stopped and saved at iteration {len(rows)}; continue with:\n  metarl resume {directory}\n"
    assert ending in stdout
    if kind == signal.SIGINT:
        _, *command = shlex.split(ending.splitlines()[1])
        resumed = metarl(*command, f"training.num_iterations={len(rows) + 1}")
        assert f"finished {len(rows) + 1} iterations" in resumed.stdout, resumed.stderr


@pytest.mark.slow
def test_signals_while_compiling_are_answered_and_the_second_ends_at_once(tmp_path: Path) -> None:
    directory, errors = tmp_path / "run", tmp_path / "errors"
    config = write_config(tmp_path, TINY["algorithm"] | {"num_inner_steps": 4})
    slowly = {"JAX_ENABLE_COMPILATION_CACHE": "false", "JAX_LOG_COMPILES": "true", "XLA_FLAGS": ""}
    command = [sys.executable, "-m", "metarl_jax", "train", str(config), "--run-dir", str(directory)]
    with errors.open("w") as file:
        process = subprocess.Popen(command, env=environment() | slowly, stdout=subprocess.DEVNULL, stderr=file)

    def is_compiling() -> bool:
        """Whether XLA has been at the one large program for a while: the initial state was the last before it."""
        before = errors.read_text()
        time.sleep(0.7)
        is_next = re.search(r"Finished XLA compilation of jit\(_initial\).*\n$", before) is not None
        return is_next and before == errors.read_text()

    wait_for(is_compiling)
    before = errors.read_text()
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: errors.read_text() != before, 10)
    assert errors.read_text() == before + "stopping after this update; once more to stop now\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    assert errors.read_text().endswith("once more to stop now\nstopped now\n")  # and XLA has not finished
    with pytest.warns(UserWarning, match=f"process {process.pid} .* died in it; taking over"):
        prepare_directory(directory, tiny_config(algorithm={"num_inner_steps": 4}), True, False)


def test_a_stop_before_the_first_update_trains_nothing_and_loses_nothing(uninterrupted: Path, tmp_path: Path) -> None:
    directory, config = tmp_path / "run", tiny_config()
    prepare_directory(directory, config, False, False)
    result = train(build(config), directory, devices=jax.devices()[:1], stop_requested=lambda: signal.SIGTERM)
    assert (result.finished, result.signal, int(result.state.step)) == (False, signal.SIGTERM, 0)
    start(directory, resume=True)
    for ours, theirs in zip(final_params(directory), final_params(uninterrupted), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_full_disk_is_one_sentence_and_the_newest_checkpoint_is_good(uninterrupted: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for it, set when a row has been written."""
    directory, config = tmp_path / "run", tiny_config()
    prepare_directory(directory, config, False, False)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(row: dict[str, Any]) -> None:
        if row["iteration"] == 4:
            wait_for((directory / CHECKPOINTS / "2").exists)  # it is written in the background
            size = (directory / "metrics.jsonl").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, unlimited[1]))

    try:
        with pytest.raises(WriteError) as caught:
            train(build(config), directory, devices=jax.devices()[:1], report=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert re.search(r"checkpoint .*failed .*Checkpoint 2 is safe: make room", str(caught.value))
    start(directory, resume=True)
    for ours, theirs in zip(final_params(directory), final_params(uninterrupted), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_small_disk_that_fills_up_ends_the_command_with_one_message(tmp_path: Path) -> None:
    alone = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("needs unshare(1) and leave to mount a file system")
    config, disk = write_config(tmp_path), tmp_path / "disk"
    disk.mkdir()
    train_there = [sys.executable, "-m", "metarl_jax", "train", str(config), "--run-dir", str(disk / "run")]
    inside = f'mount -t tmpfs -o size=2m none {disk} && "$@"; code=$?; ls {disk}/run/checkpoints; exit $code'
    done = subprocess.run(
        [*alone, inside, "sh", *train_there, "training.num_iterations=100000", "policy.hidden_sizes=[256,256]"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert "No space left on device" in done.stderr
    (safe,) = re.findall(r"Checkpoint (\d+) is safe: make room, then continue with:\n  metarl resume", done.stderr)
    assert max(int(name) for name in done.stdout.splitlines() if name.isdigit()) == int(safe)
    assert "Traceback" not in done.stderr


def test_damaged_newest_checkpoint_is_reported_and_passed_over(uninterrupted: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    start(directory)
    for file in (directory / CHECKPOINTS / "6" / "state").rglob("*"):
        if file.is_file() and file.stat().st_size > 200:
            damaged = bytearray(file.read_bytes())
            middle = len(damaged) // 2
            damaged[middle : middle + 16] = bytes(255 - byte for byte in damaged[middle : middle + 16])
            file.write_bytes(bytes(damaged))
    reports: list[str] = []
    config = tiny_config()
    prepare_directory(directory, config, True, False)
    train(build(config), directory, devices=jax.devices()[:1], resume=True, warn=reports.append)
    assert len(reports) == 1
    assert "checkpoint 6 is damaged" in reports[0]
    for ours, theirs in zip(final_params(directory), final_params(uninterrupted), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_run_resumes_on_another_number_of_devices(uninterrupted: Path, tmp_path: Path) -> None:
    config, directory = write_config(tmp_path), tmp_path / "run"
    for iterations, devices, resume in ((2, 2, []), (4, 4, ["--resume"]), (6, 1, ["--resume"])):
        settings = (f"training.num_iterations={iterations}", "--run-dir", directory, "--devices", devices)
        done = metarl("train", config, *settings, *resume)
        assert done.returncode == 0, done.stderr
    assert [row["iteration"] for row in read_metrics(directory)] == [1, 2, 3, 4, 5, 6]
    for ours, theirs in zip(final_params(directory), final_params(uninterrupted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)


def test_meta_batch_must_divide_by_the_devices(tmp_path: Path) -> None:
    done = metarl("train", write_config(tmp_path), "--run-dir", tmp_path / "run", "--devices", 3)
    assert done.returncode == 2
    assert "meta_batch_size" in done.stderr
    assert not (tmp_path / "run").exists()


def test_unfinished_metrics_line_is_dropped_on_resume(uninterrupted: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    start(directory, training={"num_iterations": 2})
    with (directory / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"iteration": 3}) + '\n{"iteration": 4, "retu')
    start(directory, resume=True)
    assert [row["iteration"] for row in read_metrics(directory)] == [1, 2, 3, 4, 5, 6]
    assert all("return_post" in row for row in read_metrics(directory))


def test_resume_refuses_another_config(uninterrupted: Path) -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.inner_lr: 0\.7 now, 0\.1 in the run"):
        prepare_directory(uninterrupted, tiny_config(algorithm={"inner_lr": 0.7}), True, False)


def test_a_run_is_not_overwritten_unless_told_to(uninterrupted: Path, tmp_path: Path) -> None:
    before = (uninterrupted / "metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="already holds a run"):
        prepare_directory(uninterrupted, tiny_config(), False, False)
    assert (uninterrupted / "metrics.jsonl").read_bytes() == before
    directory = tmp_path / "run"
    start(directory)
    prepare_directory(directory, tiny_config(), False, True)
    assert not (directory / CHECKPOINTS).exists()
