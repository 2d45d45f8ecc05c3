"""Several processes train one run, and end together."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.errors import JaxRuntimeError
from jax.experimental import multihost_utils

from metarl_jax.runs.build import build
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.monitor import monitor_row
from metarl_jax.runs.processes import RESTART, joined, processes_here
from metarl_jax.runs.program import make_program
from metarl_jax.runs.run import CHECKPOINTS
from metarl_jax.tracking.jsonl import read_metrics
from metarl_jax.types import TrainState
from tests.helpers import environment, final_params, metarl, tiny_config, write_config
from tests.mortal import DIES
from tests.remembering import goals_remembered

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "examples" / "cluster" / "slurm_train.sbatch"

# What srun does with a command, for processes on this host: their numbers, and the largest of their exit codes.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_NODELIST=localhost
for ((i = 0; i < SLURM_NTASKS; i++)); do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & pids+=($!); done
for pid in "${pids[@]}"; do wait $pid; code=$?; ((code > largest)) && largest=$code; done
exit ${largest:-0}
"""

# A method that one process has no memory for.
NARROW = """
import os
from metarl_jax.algorithms import promp as narrow
from metarl_jax.runs import memory

if os.environ["SLURM_PROCID"] == "1":
    memory.usable_bytes = lambda devices: 1000
"""

# Joins by hand and then does, as it is told, one of several things.
JOINS = """
import sys, time
from metarl_jax.runs.cluster import Job
from metarl_jax.runs.processes import joined, leave, together
from metarl_jax.checks import Refusal

def refuse():
    raise Refusal("devices", 3, "give 2")

rank, size, act = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
with joined(Job(sys.argv[1], size, rank)):
    print("joined", flush=True)
    if act == "sleep":
        time.sleep(120)
    elif act == "fail":
        raise ZeroDivisionError("a fault of its own")
    try:
        together(refuse if act == "refuse" else lambda: None)
    except Refusal as refusal:
        sys.exit(str(refusal))
"""


def test_several_processes_need_one_run_directory(tmp_path: Path) -> None:
    done = metarl("train", write_config(tmp_path), "--num-processes", 2)
    assert done.returncode == 2
    assert "need --coordinator" in done.stderr


def free_port() -> int:
    """None of those that the system gives away by itself, so that nobody takes it before we do."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(10_000, 32_000)))
            return int(probe.getsockname()[1])


def start_all(*acts: str) -> list[subprocess.Popen[str]]:
    """Processes of one job, each told what to do, when all have joined."""
    address = f"127.0.0.1:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", JOINS, address, str(rank), str(len(acts)), act],
            env=environment() | {"http_proxy": "http://127.0.0.1:9"},  # nobody is there, and nobody is to ask it
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, act in enumerate(acts)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "joined\n"
    return processes


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_process_is_killed_the_others_end_with_a_sentence(victim: int) -> None:
    processes = start_all("sleep", "sleep", "sleep")
    processes[victim].kill()
    killed = time.monotonic()
    outputs = [process.communicate(timeout=30)[1] for process in processes]
    assert time.monotonic() - killed < 10
    for rank in {0, 1, 2} - {victim}:
        assert processes[rank].returncode == RESTART
        ended = victim if rank == 0 else 0  # the first one hears of each, and each of the first one
        said = outputs[rank].splitlines()[-1]
        assert said.startswith(f"process {ended} has ended, so process {rank} of 3 ends too; start all of them again")
        assert "stack trace" not in outputs[rank]


@pytest.mark.slow
def test_a_process_does_not_wait_for_ever_for_the_others_to_come() -> None:
    hurried = f"from metarl_jax.runs import processes\nprocesses._COMING_TAKES = 1.0\n{JOINS}"
    command = [sys.executable, "-c", hurried, f"127.0.0.1:{free_port()}", "0", "2", "sleep"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == RESTART
    assert done.stderr.startswith("not all came within 1 s, so process 0 of 2 ends too; start all of them again")


@pytest.mark.slow
def test_a_process_that_fails_alone_does_not_wait_for_the_others() -> None:
    waiting, failing = start_all("wait", "fail")
    assert failing.communicate(timeout=30)[1].endswith("ZeroDivisionError: a fault of its own\n")
    assert failing.returncode == 1
    assert "process 1 has ended" in waiting.communicate(timeout=30)[1]
    assert waiting.returncode == RESTART


@pytest.mark.parametrize(
    ("error", "code"), [(SystemExit(2), 2), (SystemExit("a mistake"), 1), (ZeroDivisionError(), 1)]
)
def test_what_is_raised_in_a_job_ends_the_process(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr("metarl_jax.runs.processes._relays", ["one"])
    with joined(None):
        raise error
    assert ended == [code]


@pytest.mark.parametrize(
    ("error", "waits"),
    [(JaxRuntimeError("x"), True), (ValueError("UNKNOWN: Gloo AllGather failed"), True), (ZeroDivisionError(), False)],
)
def test_what_may_come_of_a_death_waits_for_the_news(
    error: Exception, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of it the relay ends the process, with RESTART; a fault of its own would not be tried again."""
    slept: list[float] = []
    monkeypatch.setattr(os, "_exit", lambda code: None)
    monkeypatch.setattr("metarl_jax.runs.processes.time.sleep", slept.append)
    monkeypatch.setattr("metarl_jax.runs.processes._relays", ["one"])
    with joined(None):
        raise error
    assert bool(slept) == waits


@pytest.mark.slow
def test_a_refusal_ends_all_processes_with_a_message_each() -> None:
    processes = start_all("wait", "refuse")
    others, own = (process.communicate(timeout=60)[1] for process in processes)
    assert [process.returncode for process in processes] == [1, 1]
    assert "another process refused to start" in others
    assert "give 2" in own


def test_processes_of_a_host_are_those_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked once: later, one of them may have failed where the others ask."""
    answers = iter([[0, 1, 0]])
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(socket, "gethostname", lambda: "a host of this test")
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda name: name + np.array(next(answers), np.uint32))
    assert [processes_here(), processes_here()] == [2, 2]


@pytest.mark.slow
def test_two_processes_agree_with_one(uninterrupted: Path, tmp_path: Path) -> None:
    """jax.distributed on loopback: two processes of two CPU devices share one meta-batch and one run directory.

    What their devices keep of their own is saved whole, and no program is compiled twice. Started by the template for
    Slurm, one of them dies; started again, they end as if nothing had been.
    """
    config = write_mortal(tmp_path)
    whole = tmp_path / "run"
    command = [sys.executable, "-m", "metarl_jax", "train", str(config), "evaluation.every=6", "--run-dir", str(whole)]
    by_hand = ["--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", "2", "--process-id"]
    processes = [
        subprocess.Popen(
            [*command, *by_hand, str(rank)],
            env=environment(devices=2) | {"JAX_LOG_COMPILES": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    for _, said in outputs:  # an update and an evaluation, whose memory was looked at: called, they are found compiled
        assert said.count("Finished XLA compilation of jit(_fun)") == 2
    state = restored(whole)
    for ours, theirs in zip(jax.tree.leaves(state.params), final_params(uninterrupted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)
    experiment = build(tiny_config())
    expected = goals_remembered(experiment.family, experiment.config.seed, num_updates=6)
    np.testing.assert_allclose(state.local["goals"], expected, rtol=1e-6)
    rows = read_metrics(whole)
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4, 5, 6]
    program = make_program(experiment, jax.devices()[:1])  # all three tasks on one device, not on four
    (info,) = program.evaluate(program.place([state._replace(local=())]), [experiment.config])
    found = monitor_row(experiment.config.evaluation, info, 0.0)["evaluation_return_per_stage"]
    np.testing.assert_allclose(rows[-1]["evaluation_return_per_stage"], found, rtol=1e-4)

    broken = tmp_path / "broken"
    dead = submit(tmp_path, config, broken, **{DIES: "1"})
    assert dead.returncode == 137, dead.stderr  # of the one that was killed; the other's is RESTART
    assert "process 1 has ended, so process 0 of 2 ends too" in dead.stderr
    assert "stack trace" not in dead.stderr
    assert "Traceback" not in dead.stderr
    assert (tmp_path / "requeued").read_text() == "requeue 5000\n"
    again = submit(tmp_path, config, broken)
    assert again.returncode == 0, again.stderr
    jax.tree.map(np.testing.assert_array_equal, restored(broken), state)


@pytest.mark.slow
def test_what_does_not_fit_one_process_is_trained_by_none(tmp_path: Path) -> None:
    (tmp_path / "narrow.py").write_text(NARROW)
    done = submit(tmp_path, write_config(tmp_path, {"name": "narrow:narrow"}), tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("training.meta_batch_size = 4: an update needs") == 1
    assert done.stderr.count("another process refused to start") == 1
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "requeued").exists()


def write_mortal(folder: Path) -> Path:
    """TINY as a YAML file, trained by a method of tests/mortal.py."""
    shutil.copy(ROOT / "tests" / "mortal.py", folder)
    return write_config(folder, {"name": "mortal:mortal"})


def submit(folder: Path, config: Path, run_dir: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the template as Slurm would, on this host, and keep what it asks of Slurm."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    scripts = {
        "srun": SRUN,
        "scontrol": f'#!/bin/bash\necho "$@" >> {folder / "requeued"}\n',
        "metarl": f'#!/bin/bash\nexec {sys.executable} -m metarl_jax "$@"\n',
    }
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "5000", "SLURM_JOB_NAME": "metarl", "SLURM_NTASKS": "2", "RUN_DIR": str(run_dir)}
    port = {"JAX_COORDINATOR_ADDRESS": f"localhost:{free_port()}"}  # as for two jobs with the same last digits
    return subprocess.run(
        ["bash", TEMPLATE, config],
        env=environment(devices=2) | job | port | variables | {"PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def restored(directory: Path) -> TrainState:
    """The newest checkpoint, with what the devices keep of their own."""
    like = jax.eval_shape(build(tiny_config()).algorithm.init, jax.random.key(0))
    like = like._replace(local={"goals": jax.ShapeDtypeStruct((4, 2), np.float32)})
    with Checkpoints(directory / CHECKPOINTS) as checkpoints:
        return checkpoints.restore(like).state
