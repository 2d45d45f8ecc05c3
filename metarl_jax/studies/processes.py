"""Several processes train one run on this host: as one does, and one of them is killed."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from metarl_jax.checks import require
from metarl_jax.runs.provenance import read_starts
from metarl_jax.runs.run import load
from metarl_jax.studies import commands
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
      SIGKILL, after the updates that were ``done``, until the last of the others has ended, their exit ``codes`` and
      what one of them says ``last``; whether the run that was started again ``is_same`` as the one that was not killed,
      and from which update it went ``on_from``.
    """
    number = CASES[case]
    words = ("train", *_WORDS, f"seed={seed}")
    with tempfile.TemporaryDirectory() as folder:
        one, whole, broken = (Path(folder) / name for name in ("one", "whole", "broken"))
        commands.metarl(*words, "--devices", "1", "--run-dir", one, capture=True)
        with job(number, *words, "--run-dir", str(whole)) as processes:
            succeed(processes)
        with job(number, *words, "--run-dir", str(broken)) as processes:
            killed = kill_one(processes, broken)
        with job(number, *words, "--run-dir", str(broken), "--resume-if-exists") as processes:
            succeed(processes)
        on_from = read_starts(broken)[-1]["iteration"]
        ours, theirs, again = (load(run_dir).params for run_dir in (whole, one, broken))
    return {
        "command": " ".join(["metarl", *words]),
        "difference": difference(ours, theirs),
        **killed,
        "on_from": on_from,
        "is_same": are_same(ours, again),
        "cores": os.cpu_count(),
        "jax": version("jax"),
    }


class Process(NamedTuple):
    """One of a job, and the file that takes what it says to stderr."""

    running: subprocess.Popen[bytes]
    errors: Path

    def said(self) -> str:
        """What it has said so far."""
        return self.errors.read_text().strip()


@contextmanager
def job(number: int, *words: str) -> Iterator[list[Process]]:
    """Processes of one job on this host; in the end none of them is left.

    Args:
      number: of them.
      words: of the command of each.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        together = ("--coordinator", coordinator, "--num-processes", str(number), "--process-id")
        lines = [(sys.executable, "-m", "metarl_jax", *words, *together, str(rank)) for rank in range(number)]
        yield [stack.enter_context(started(line, folder / str(rank))) for rank, line in enumerate(lines)]


@contextmanager
def started(line: Sequence[str], errors: Path) -> Iterator[Process]:
    """A process, which is killed if it is still there in the end.

    Args:
      line: its command line.
      errors: the file that is to take what it says to stderr.
    """
    with errors.open("w") as file, subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=file) as running:
        try:
            yield Process(running, errors)
        finally:
            running.kill()


def succeed(processes: Sequence[Process]) -> None:
    """Wait for processes.

    Raises:
      Refusal: if one fails.
    """
    for process in processes:
        code = process.running.wait(timeout=_LIMIT)
        require(code == 0, "exit code", code, process.said())


def kill_one(processes: Sequence[Process], run_dir: Path) -> dict[str, Any]:
    """Kill the last process after some updates, and see how the others end.

    Args:
      processes: that train.
      run_dir: of their run.

    Returns:
      As :func:`measure` does; and how many updates were ``done`` when the process was killed.

    Raises:
      Refusal: if it ends by itself, or makes no updates.
    """
    *others, victim = processes
    deadline = time.monotonic() + _LIMIT
    while len(read_metrics(run_dir)) < _KILLED_AFTER:
        code = victim.running.poll()
        require(code is None, "exit code", code, f"has ended before it could be killed: {victim.said()}")
        require(time.monotonic() < deadline, "updates", len(read_metrics(run_dir)), f"no more in {_LIMIT} s")
        time.sleep(0.01)
    victim.running.kill()
    killed = time.perf_counter()
    done = len(read_metrics(run_dir))
    codes = [process.running.wait(timeout=_LIMIT) for process in others]
    seconds = time.perf_counter() - killed
    last = next(iter(others[0].said().splitlines()[-1:]), "")
    return {"done": done, "seconds": round(seconds, 2), "codes": codes, "last": last}


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each number of processes."""
    head = ["on one host", "command", "difference from one process", "killed after update", "others end after"]
    return markdown(
        f"# {name}",
        "`python benchmarks/processes.py`: processes of one CPU device each share a run on one host. The difference is "
        "of the parameters after training, its norm over that of the parameters. In a second run the last process is "
        "killed (SIGKILL); then all are started again. The same again: every number of the parameters is that of the "
        "first run.",
        table(
            [*head, "exit codes", "their last words", "on from update", "the same again", "jax"],
            [_row(*item) for item in results.items()],
        ),
    )


def _row(case: str, result: dict[str, Any]) -> list[str | None]:
    codes = ", ".join(str(code) for code in result["codes"])
    ended = [str(result["done"]), f"{result['seconds']:.1f} s", codes, result["last"]]
    again = "yes" if result["is_same"] else "no"
    return [
        case,
        f"`{result['command']}`",
        f"{result['difference']:.1e}",
        *ended,
        str(result["on_from"]),
        again,
        result["jax"],
    ]
