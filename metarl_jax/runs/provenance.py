"""Where a run's numbers come from: versions, commit, machine and command, a line for each start; no secrets."""

import json
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from metarl_jax.cores import usable_cores
from metarl_jax.runs.directory import PROVENANCE
from metarl_jax.tracking.jsonl import complete_rows

PACKAGES = ("metarl-jax", "jax", "jaxlib", "brax", "mujoco", "flax", "optax", "orbax-checkpoint", "numpy")
_GIT = ("git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
_AS_MODULE = ("metarl_jax", "__main__.py")  # python -m metarl_jax
_GIT_SECONDS = 1.0  # of a slow disk: a run need not know more


def record_start(run_dir: Path, iteration: int) -> None:
    """Append a line about this start to a run's ``provenance.jsonl``; what fails is left out and fails nothing.

    Args:
      run_dir: held by this process.
      iteration: that it starts, or goes on, from.
    """
    row = {"started": datetime.now().astimezone().isoformat(" ", "seconds"), "iteration": iteration, **provenance()}
    with suppress(OSError), (run_dir / PROVENANCE).open("a") as file:  # what training must write tells of a full disk
        file.write(json.dumps(row) + "\n")


@cache
def provenance() -> dict[str, Any]:
    """What this process is, as JSON; None for what this machine does not tell.

    Example:
      >>> provenance()["versions"]["jax"] == jax.__version__
      True
    """
    return {name: _or_none(find) for name, find in _FACTS.items()}


def _or_none(find: Callable[[], Any]) -> Any:
    """What is found; None whatever goes wrong, since no fact is worth a run."""
    try:
        return find()
    except Exception:
        return None


def command(words: Sequence[str]) -> str:
    """What was typed, but for the settings of trackers, whose addresses may hold a password.

    Example:
      >>> command(["/usr/bin/metarl", "train", "quickstart", "logging.trackers=[wandb]"])
      'metarl train quickstart logging.trackers=...'
    """
    shown = (re.sub(r"^(logging|logging\.trackers[^=]*)=.*", r"\1=...", word, flags=re.DOTALL) for word in words[1:])
    program = Path(words[0])
    return " ".join(["metarl" if program.parts[-2:] == _AS_MODULE else program.name, *map(shlex.quote, shown)])


def commit(folder: Path) -> dict[str, Any] | None:
    """The commit of the checkout that a folder lies in, and whether tracked files differ from it; None of others."""
    roots = (place for place in (folder, *folder.parents) if (place / ".git").exists())
    root = next(roots, None)
    return None if root is None else _described(root)


@cache
def _described(root: Path) -> dict[str, Any]:
    told = subprocess.run(_GIT, cwd=root, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    described = told.stdout.strip()
    return {"commit": described.removesuffix("-dirty"), "dirty": described.endswith("-dirty")}


def _package_commit() -> dict[str, Any] | None:
    """Of the package, where it is a checkout itself; one that is installed into a user's checkout is not."""
    root = Path(__file__).parents[2]
    return _described(root) if (root / ".git").exists() else None


def _versions() -> dict[str, str]:
    return {name: found for name in PACKAGES if (found := _version(name)) is not None}


def _version(name: str) -> str | None:
    """Of a module that says it, as that is quick; else of what is installed."""
    try:
        return getattr(sys.modules.get(name), "__version__", None) or version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """Its model: Linux tells in a file, others through Python."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _devices() -> list[dict[str, Any]]:
    """How many devices of each kind, of all processes."""
    kinds = [(device.platform, device.device_kind) for device in jax.devices()]
    return [{"platform": kind[0], "kind": kind[1], "count": kinds.count(kind)} for kind in dict.fromkeys(kinds)]


_FACTS: dict[str, Callable[[], Any]] = {
    "command": lambda: command(sys.argv),
    "python": platform.python_version,
    "versions": _versions,
    "package_git": _package_commit,
    "directory_git": lambda: commit(Path.cwd()),
    "host": socket.gethostname,
    "platform": platform.platform,
    "processor": _processor,
    "cores": os.cpu_count,
    "usable_cores": usable_cores,
    "memory_bytes": lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    "devices": _devices,
    "processes": jax.process_count,
}


def read_starts(run_dir: Path) -> list[dict[str, Any]]:
    """All starts of a run, the first one first; none of a run of an older version."""
    return list(complete_rows(run_dir / PROVENANCE))
