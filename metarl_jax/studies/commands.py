"""The command ``metarl``, each time in a process of its own: a study's runs share no memory, caches or devices."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from metarl_jax.runs.provenance import read_starts
from metarl_jax.tracking.jsonl import read_metrics

TRAINING_TIME = (
    "Training time is that of one core where no other device is named, beside other work, without compilation"
)


def metarl(*arguments: object, capture: bool = False, environment: Mapping[str, str] = MappingProxyType({})) -> str:
    """Run ``metarl`` and wait for it.

    Args:
      arguments: of the command.
      capture: return what it prints instead of showing it.
      environment: variables to set for it.

    Returns:
      What it printed, if ``capture``; else nothing.

    Raises:
      subprocess.CalledProcessError: if it fails.
    """
    command = [sys.executable, "-m", "metarl_jax", *map(str, arguments)]
    shown = subprocess.PIPE if capture else None
    return subprocess.run(command, check=True, stdout=shown, text=True, env=os.environ | environment).stdout or ""


def peak_bytes(*arguments: object) -> int:
    """Run ``metarl`` without its compilation cache, and wait for it.

    Args:
      arguments: of the command.

    Returns:
      The most memory that the process had.

    Raises:
      subprocess.CalledProcessError: if it fails.
    """
    command = [sys.executable, "-m", "metarl_jax", *map(str, arguments)]
    process = subprocess.Popen(
        command, env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def cpu_seconds() -> float:
    """CPU seconds that all commands so far have taken, in all their threads."""
    times = os.times()
    return times.children_user + times.children_system


def train(run_dir: Path, config: str | Path, *overrides: str, devices: int = 1) -> None:
    """Train a config, or go on where its training stopped.

    Args:
      run_dir: of the run.
      config: a file, or the name of one that the package carries.
      overrides: ``KEY=VALUE``.
      devices: as many share the tasks.
    """
    metarl("train", config, *overrides, "--run-dir", run_dir, "--devices", devices, "--resume-if-exists")


def training_cost(run_dir: Path) -> dict[str, Any]:
    """What the training of a run has taken.

    Args:
      run_dir: of a run that :func:`train` has trained.

    Returns:
      ``env_steps``, ``seconds`` without compilation, and the kinds of ``devices`` that made its updates.
    """
    rows, starts = read_metrics(run_dir), read_starts(run_dir)
    until = [*(start["iteration"] for start in starts[1:]), rows[-1]["iteration"]]
    used = [start["devices"] or () for start, end in zip(starts, until, strict=False) if end > start["iteration"]]
    return {
        "env_steps": rows[-1]["env_steps"],
        "seconds": round(sum(row["iteration_seconds"] for row in rows)),
        "devices": sorted({device["kind"] for devices in used for device in devices}),
    }


def training_place(cost: Mapping[str, Any]) -> str:
    """Where a training took place, as the end of a phrase; nothing if on CPUs, as nearly all here.

    Args:
      cost: of :func:`training_cost`; of an older one, ``devices`` are not known.

    Example:
      >>> training_place({"devices": ["cpu"]}), training_place({"devices": ["NVIDIA H100 80GB HBM3"]})
      ('', ' on NVIDIA H100 80GB HBM3')
    """
    devices = cost.get("devices", [])
    return "" if set(devices) <= {"cpu"} else f" on {' and '.join(devices)}"


def evaluate(run_dir: Path, **options: object) -> dict[str, Any]:
    """Evaluate a run.

    Args:
      run_dir: of the run.
      options: of ``metarl evaluate``; those that are None are left out.

    Returns:
      What :func:`metarl_jax.runs.evaluation.evaluate` returns, and the ``checkpoint``.
    """
    given = {name: value for name, value in options.items() if value is not None}
    numbers = run_dir / "evaluation.json"
    metarl("evaluate", run_dir, *(word for name in given for word in (f"--{name}", given[name])), "--output", numbers)
    evaluation: dict[str, Any] = json.loads(numbers.read_text())
    return evaluation
