"""How long the command takes to start: ``metarl --help``, and training until its first update."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from metarl_jax.studies import commands
from metarl_jax.studies.results import markdown, table
from metarl_jax.tracking.files import METRICS_FILE

CASES: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    "navigation": ("train", "promp_navigation_corner"),
    "half-cheetah, spring": ("train", "promp_half_cheetah_direction"),
    "half-cheetah, C engine": ("train", "promp_half_cheetah_direction", "tasks.backend=mujoco"),
}
"""Words of the command."""
_CACHE = "JAX_COMPILATION_CACHE_DIR"
_POLL_SECONDS = 0.005


def measure(case: str, repetitions: int = 5) -> dict[str, Any]:
    """Time one command, each time in a process of its own.

    Args:
      case: of :data:`CASES`.
      repetitions: of which the median is taken.

    Returns:
      ``cold`` and ``filled``: seconds and CPU seconds (of all threads) with an empty and with a filled cache, from the
      start of the process to its end or, in training, to its first row of metrics; and on what they were measured.
    """
    words = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        caches = [Path(folder) / f"cache{i}" for i in range(repetitions)]
        cold = [timed(words, cache) for cache in caches] if words[0] == "train" else []
        filled = [timed(words, caches[0]) for _ in range(repetitions)]
    return {
        "command": " ".join(["metarl", *words]),
        **({"cold": _medians(cold)} if cold else {}),
        "filled": _medians(filled),
        "repetitions": repetitions,
        "cores": os.cpu_count(),
        "jax": version("jax"),
    }


def timed(words: Sequence[str], cache: Path) -> tuple[float, float]:
    """Seconds and CPU seconds of one start.

    Args:
      words: of the command.
      cache: folder of compiled programs.

    Returns:
      Until the process has ended or, of training, until its first update, after which it is killed.

    Raises:
      subprocess.CalledProcessError: if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        options = ["training.updates_per_visit=1", "--run-dir", str(run_dir)] if words[0] == "train" else []
        command = [sys.executable, "-m", "metarl_jax", *words, *options]
        environment = {**os.environ, _CACHE: str(cache)}
        started, cpu_started = time.perf_counter(), commands.cpu_seconds()
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and not _has_rows(run_dir):
                time.sleep(_POLL_SECONDS)
            seconds = time.perf_counter() - started
            process.kill()
        if process.returncode != 0 and not _has_rows(run_dir):
            raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, commands.cpu_seconds() - cpu_started


def _has_rows(run_dir: Path) -> bool:
    file = run_dir / METRICS_FILE
    return file.exists() and file.stat().st_size > 0


def _medians(timings: Sequence[tuple[float, float]]) -> dict[str, float]:
    seconds, cpu_seconds = np.median(timings, axis=0)
    return {"seconds": round(float(seconds), 2), "cpu_seconds": round(float(cpu_seconds), 2)}


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each case."""
    titles = "start | command | empty cache, s | CPU s | filled cache, s | CPU s | calls | cores | jax"
    return markdown(
        f"# {name}",
        "`python benchmarks/startup.py`: from the start of the process to its end or, in training, to the first "
        "update, that update included; medians, each start in a process of its own.",
        table(titles.split(" | "), [_row(case, result) for case, result in results.items()]),
    )


def _row(case: str, result: dict[str, Any]) -> list[str | None]:
    times = [result.get(cache, {}).get(unit) for cache in ("cold", "filled") for unit in ("seconds", "cpu_seconds")]
    shown = [None if seconds is None else f"{seconds:.2f}" for seconds in times]
    return [case, f"`{result['command']}`", *shown, *(str(result[key]) for key in ("repetitions", "cores", "jax"))]
