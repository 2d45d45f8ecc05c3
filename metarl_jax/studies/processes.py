"""Several processes train one run on this host: as one does, and one of them is killed."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from metarl_jax.checks import require
from metarl_jax.runs.run import load
from metarl_jax.studies.parameters import are_same, difference
from metarl_jax.studies.results import markdown, table
from metarl_jax.tracking.jsonl import read_metrics

CASES: dict[str, int] = {"2 processes": 2, "4 processes": 4}
"""How many share the run, by what the results call it."""
_CHECKPOINT_EVERY, _UPDATES = 10, 30
_WORDS = (
    "promp_navigation_corner",
    "training.meta_batch_size=8",
    "training.episodes_per_task=10",
    f"training.num_iterations={_UPDATES}",
    f"training.checkpoint_every={_CHECKPOINT_EVERY}",
    "logging.tensorboard=false",
)
_KILLED_AFTER = _CHECKPOINT_EVERY + 4  # updates, so that some are lost
_LIMIT = 600  # seconds that nothing takes


def measure(case: str, seed: int = 1) -> dict[str, Any]:
    """Train in one process, in several, and in several of which one is killed, all started again.

    Args:
      case: of :data:`CASES`.
      seed: of the run.

    Returns:
      ``difference`` of the parameters from those of one process, the norm in units of theirs; ``seconds`` from the
      SIGKILL until the last of the others has ended, their exit ``codes`` and what one of them says ``last``; whether
      the run that was started again ``is_same`` as the one that was not killed, bit for bit, and from which checkpoint
      it went ``on_from``.
    """
    number = CASES[case]
    words = (*_WORDS, f"seed={seed}")
    with tempfile.TemporaryDirectory() as folder:
        one, whole, broken = (Path(folder) / name for name in ("one", "whole", "broken"))
        ended([_start("train", *words, "--devices", "1", "--run-dir", str(one))])
        ended(_job(number, *words, "--run-dir", str(whole)))
        killed = _kill_one(_job(number, *words, "--run-dir", str(broken)), broken)
        on_from = max(int(path.name) for path in (broken / "checkpoints").iterdir() if path.name.isdigit())
        ended(_job(number, *words, "--run-dir", str(broken), "--resume-if-exists"))
        ours, theirs, again = (load(run_dir).params for run_dir in (whole, one, broken))
    return {
        "command": " ".join(["metarl", "train", *words]),
        "difference": difference(ours, theirs),
        **killed,
        "on_from": on_from,
        "is_same": are_same(ours, again),
        "cores": os.cpu_count(),
        "jax": version("jax"),
    }


def ended(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Wait for processes that are to succeed.

    Raises:
      Refusal: if one does not.
    """
    for process in processes:
        _, errors = process.communicate(timeout=_LIMIT)
        require(process.returncode == 0, "exit code", process.returncode, errors.strip())


def _job(number: int, *words: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    job = ("--coordinator", coordinator, "--num-processes", str(number), "--process-id")
    return [_start("train", *words, *job, str(rank)) for rank in range(number)]


def _start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "metarl_jax", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _kill_one(processes: Sequence[subprocess.Popen[str]], run_dir: Path) -> dict[str, Any]:
    """Kill the last process after some updates, and see how the others end."""
    *others, victim = processes
    while not run_dir.exists() or len(read_metrics(run_dir)) < _KILLED_AFTER:
        require(victim.poll() is None, "exit code", victim.returncode, "has ended before it could be killed")
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    killed = time.perf_counter()
    said = [process.communicate(timeout=_LIMIT)[1] for process in others]
    seconds = time.perf_counter() - killed
    victim.communicate()
    return {
        "seconds": round(seconds, 2),
        "codes": [process.returncode for process in others],
        "last": said[0].strip().splitlines()[-1],
    }


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each number of processes."""
    head = [
        "on one host",
        "command",
        "difference from one process",
        "others end after",
        "exit codes",
        "their last words",
    ]
    return markdown(
        f"# {name}",
        "`python benchmarks/processes.py`: processes of one CPU device each share a run on one host. The difference is "
        "of the parameters after training, its norm over that of the parameters. In a second run the last process is "
        f"killed (SIGKILL) after {_KILLED_AFTER} updates; then all are started again. The same again: with the "
        "parameters of the first run, bit for bit.",
        table([*head, "on from update", "the same again", "jax"], [_row(*item) for item in results.items()]),
    )


def _row(case: str, result: dict[str, Any]) -> list[str | None]:
    codes = ", ".join(str(code) for code in result["codes"])
    shown = [f"{result['difference']:.1e}", f"{result['seconds']:.1f} s", codes, result["last"]]
    again = "yes" if result["is_same"] else "no"
    return [case, f"`{result['command']}`", *shown, str(result["on_from"]), again, result["jax"]]
