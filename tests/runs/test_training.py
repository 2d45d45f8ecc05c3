"""Training end to end on a tiny run: one compilation, any number of devices or processes, bit-for-bit resumption."""

import contextlib
import json
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest

from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.config import ConfigError
from metarl_jax.runs.directory import WriteError
from metarl_jax.runs.build import Experiment, build
from metarl_jax.tracking.jsonl import read_metrics
from metarl_jax.runs.run import CHECKPOINTS, load, prepare_directory, restore
from metarl_jax.runs.training import _rows, train
from metarl_jax.types import TrainState
from tests.helpers import TINY, environment, metarl, tiny_config, write_config


def start(directory: Path, resume: bool = False, **sections: Any) -> tuple[Experiment, TrainState]:
    """Train in this process on one device."""
    config = tiny_config(**sections)
    prepare_directory(directory, config, resume, False)
    experiment = build(config)
    result = train(experiment, directory, devices=jax.devices()[:1], resume=resume)
    assert result.finished
    return experiment, result.state


def final_params(directory: Path, **sections: Any) -> list[np.ndarray]:
    state = restore(build(tiny_config(**sections)), directory).state
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "whole"
    start(directory)
    return directory


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
    rows = _rows(build(tiny_config()), 2, 4, known, infos, seconds=0.5)
    assert [row["env_steps"] for row in rows] == [before + 70, before + 100]
    assert [row["computed_env_steps"] for row in rows] == [3 * 120, 4 * 120]
    assert [row["env_steps_per_second"] for row in rows] == [280, 120]
    assert [row["computed_env_steps_per_second"] for row in rows] == [480, 480]
    assert [row["episodes_dropped"] for row in rows] == [0, 1]


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


def test_one_compilation_per_run(tmp_path: Path) -> None:
    """Visits of different lengths (2, 2, 1 updates here) run one program; nothing else is compiled while it runs."""
    config = tiny_config(training={"num_iterations": 5})
    experiment = build(config)
    counted = chex.assert_max_traces(experiment.algorithm.update, n=2)  # once for shapes, once for the program
    prepare_directory(tmp_path / "run", config, False, False)
    compiled_before: list[int] = []  # at each report
    with compilations() as seconds:
        result = train(
            experiment._replace(algorithm=experiment.algorithm._replace(update=counted)),
            tmp_path / "run",
            devices=jax.devices()[:1],
            report=lambda row: compiled_before.append(len(seconds)),
        )
    assert int(result.state.step) == len(compiled_before) == 5
    assert compiled_before[0] >= 1
    assert set(compiled_before) == {compiled_before[0]}


@contextlib.contextmanager
def compilations() -> Iterator[list[float]]:
    """The seconds that each compilation by XLA has taken so far."""
    seconds: list[float] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


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
    assert stdout.endswith(f"stopped and saved at iteration {len(rows)}; continue with: metarl resume {directory}\n")
    if kind == signal.SIGINT:
        _, *command = shlex.split(stdout.rpartition(": ")[2])
        resumed = metarl(*command, f"training.num_iterations={len(rows) + 1}")
        assert f"finished {len(rows) + 1} iterations" in resumed.stdout, resumed.stderr


def test_signals_while_compiling_are_answered_and_the_second_ends_at_once(tmp_path: Path) -> None:
    directory, errors = tmp_path / "run", tmp_path / "errors"
    config = write_config(tmp_path, TINY["algorithm"] | {"num_inner_steps": 4})
    slowly = {"JAX_ENABLE_COMPILATION_CACHE": "false", "JAX_LOG_COMPILES": "true", "XLA_FLAGS": ""}
    command = [sys.executable, "-m", "metarl_jax", "train", str(config), "--run-dir", str(directory)]
    with errors.open("w") as file:
        process = subprocess.Popen(command, env=environment() | slowly, stdout=subprocess.DEVNULL, stderr=file)

    def is_compiling() -> bool:
        """Whether XLA has been at the one large program for a while."""
        before = errors.read_text()
        time.sleep(0.7)
        handed_over = re.search(r"MLIR module conversion .* in (\S+) sec\n$", before)
        return handed_over is not None and float(handed_over[1]) > 0.3 and before == errors.read_text()

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
    (safe,) = re.findall(r"Checkpoint (\d+) is safe: make room, then continue with: metarl resume", done.stderr)
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


@pytest.mark.parametrize("devices", [2, 4])
def test_results_do_not_depend_on_the_number_of_devices(uninterrupted: Path, tmp_path: Path, devices: int) -> None:
    """Random numbers are addressed by global task index; only the order of sums differs."""
    done = metarl("train", write_config(tmp_path), "--run-dir", tmp_path / "run", "--devices", devices)
    assert done.returncode == 0, done.stderr
    for ours, theirs in zip(final_params(tmp_path / "run"), final_params(uninterrupted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)


def test_a_run_resumes_on_another_number_of_devices(uninterrupted: Path, tmp_path: Path) -> None:
    config, directory = write_config(tmp_path), tmp_path / "run"
    for iterations, devices, resume in ((2, 2, []), (4, 4, ["--resume"]), (6, 1, ["--resume"])):
        settings = (f"training.num_iterations={iterations}", "--run-dir", directory, "--devices", devices)
        done = metarl("train", config, *settings, *resume)
        assert done.returncode == 0, done.stderr
    assert [row["iteration"] for row in read_metrics(directory)] == [1, 2, 3, 4, 5, 6]
    for ours, theirs in zip(final_params(directory), final_params(uninterrupted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)


def test_halved_steps_do_not_depend_on_the_number_of_devices(tmp_path: Path) -> None:
    """All devices measure the same mean divergence, so they halve the same steps, with Adam and a schedule."""
    algorithm = {"name": "ppo_maml", "num_epochs": 4, "max_outer_kl": 0.002}
    short = ("train", write_config(tmp_path, algorithm), "training.num_iterations=2", "optimizer.learning_rate=0.02")
    for devices in (1, 2):
        settings = ("optimizer.decay_steps=8", "--run-dir", tmp_path / f"on_{devices}", "--devices", devices)
        done = metarl(*short, *settings)
        assert done.returncode == 0, done.stderr
    rows = [read_metrics(tmp_path / f"on_{devices}") for devices in (1, 2)]
    scales = [[row["outer_step_scale"] for row in of_run] for of_run in rows]
    assert scales[0] == scales[1]
    assert min(scales[0]) < 1
    assert all(0 < row["outer_kl"] <= 0.002 for row in rows[0])
    loaded = [load(tmp_path / f"on_{devices}").params for devices in (1, 2)]
    for ours, theirs in zip(*map(jax.tree.leaves, loaded), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)


def test_trust_region_does_not_depend_on_the_number_of_devices(tmp_path: Path) -> None:
    """Conjugate gradients and the line search average over devices inside their loops, and share tasks out evenly."""
    algorithm = {"name": "trpo_maml", "curvature_every": 2, "cg_damping": 1e-2, "cg_steps": 3}
    config = write_config(tmp_path, algorithm)
    short = ("train", config, "training.num_iterations=2")
    for devices in (1, 2):
        done = metarl(*short, "--run-dir", tmp_path / f"on_{devices}", "--devices", devices)
        assert done.returncode == 0, done.stderr
    loaded = [load(tmp_path / f"on_{devices}").params for devices in (1, 2)]
    for ours, theirs in zip(*map(jax.tree.leaves, loaded), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-4)
    refused = metarl(*short, "algorithm.curvature_every=4", "--run-dir", tmp_path / "uneven", "--devices", 2)
    assert refused.returncode == 2
    assert "must divide the 2 tasks of each device" in " ".join(refused.stderr.split())


def test_several_processes_need_one_run_directory(tmp_path: Path) -> None:
    done = metarl("train", write_config(tmp_path), "--num-processes", 2)
    assert done.returncode == 2
    assert "need --coordinator" in done.stderr


def test_two_processes_agree_with_one(uninterrupted: Path, tmp_path: Path) -> None:
    """jax.distributed on loopback: two processes of two CPU devices share one meta-batch and one run directory."""
    config, directory = write_config(tmp_path), tmp_path / "run"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "metarl_jax", "train", str(config), "--run-dir", str(directory)]
    processes = [
        subprocess.Popen(
            [*command, "--coordinator", address, "--num-processes", "2", "--process-id", str(rank)],
            env=environment(devices=2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    for ours, theirs in zip(final_params(directory), final_params(uninterrupted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)
    assert [row["iteration"] for row in read_metrics(directory)] == [1, 2, 3, 4, 5, 6]


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


def wait_for(condition: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the run did not get going"
        time.sleep(0.05)
