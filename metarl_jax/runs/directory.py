"""A run directory: what a run writes into it, by name, and the lock that gives it to one run at a time."""

import errno
import json
import os
import re
import shlex
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from filelock import BaseFileLock, FileLock, Timeout

from metarl_jax.checks import Refusal
from metarl_jax.config import ConfigError
from metarl_jax.tracking.files import EVENTS, METRICS_FILE, TRACKING, write_atomically

CONFIG_FILE = "config.yaml"
CHECKPOINTS = "checkpoints"
LEARNING_CURVE = "training.png"
PROVENANCE = "provenance.jsonl"
INITIAL_RUN = "initial_run.json"
_LOCK = "lock"
_OWNER = "owner.json"

_IN_NAMES = {
    "distribution": "{}",
    "num_tasks": "tasks{}",
    "num_inner_steps": "steps{}",
    "episodes_per_task": "episodes{}",
    "step_size_rule": "{}",
    "seed": "seed{}",
    "test_policy": "{}",
    "checkpoint": "{}",
}
"""How the name of an evaluation tells a setting that is not the config's."""
_SETTING = r"_(held_out|beyond|constant|finn|stochastic|deterministic|best|(tasks|steps|episodes|seed|checkpoint)\d+)"
_EVALUATION = re.compile(rf"(evaluation({_SETTING})*\.json|adaptation({_SETTING})*\.png)(\.tmp)?")
_PICTURE = "render"
_PICTURES = re.compile(rf"{_PICTURE}\.(png|gif|html)(\.tmp)?")


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class WriteError(RuntimeError):
    """A run cannot write what it must; the message says what is safe and the remedy."""


def is_full(error: OSError) -> bool:
    """Whether a write failed because the disk, the quota or the file is full.

    Example:
      >>> is_full(OSError(errno.ENOSPC, "No space left on device"))
      True
    """
    return error.errno in _FULL


def is_read_only(error: OSError) -> bool:
    """Whether a write failed because we may not write there.

    Example:
      >>> is_read_only(OSError(errno.EROFS, "Read-only file system"))
      True
    """
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


class Evaluation(NamedTuple):
    """Where an evaluation is kept.

    Attributes:
      numbers: a ``.json``.
      picture: a ``.png``.
    """

    numbers: Path
    picture: Path


def evaluation_files(folder: Path, changed: Mapping[str, object]) -> Evaluation:
    """Where an evaluation with these settings is kept; another one never takes its place.

    Args:
      folder: usually the run directory.
      changed: the settings that are not those of the config, and ``checkpoint`` if it is not the latest.

    Example:
      >>> evaluation_files(Path("run"), {"num_tasks": 200, "distribution": "beyond"}).numbers.name
      'evaluation_beyond_tasks200.json'
    """
    words = [form.format(changed[name]) for name, form in _IN_NAMES.items() if name in changed]
    return Evaluation(
        folder / ("_".join(["evaluation", *words]) + ".json"), folder / ("_".join(["adaptation", *words]) + ".png")
    )


def picture_file(folder: Path, suffix: str) -> Path:
    """Where the picture of a run on one task is kept.

    Args:
      folder: usually the run directory.
      suffix: of its kind: ``.png``, ``.gif`` or ``.html``.

    Example:
      >>> picture_file(Path("run"), ".gif").name
      'render.gif'
    """
    return folder / f"{_PICTURE}{suffix}"


def evaluations_in(run_dir: Path) -> list[Path]:
    """The evaluations that are kept in a run directory; that with the config's settings first."""
    found = (path for path in run_dir.glob("*.json") if _EVALUATION.fullmatch(path.name))
    return sorted(found, key=lambda path: (len(path.stem), path.stem))


def holds_run(run_dir: Path) -> bool:
    """Whether a run has been started there: its config is there, and is one of ours."""
    path = run_dir / CONFIG_FILE
    text = path.read_text(errors="replace") if path.is_file() else ""
    return all(re.search(rf"^{section}:", text, re.MULTILINE) for section in ("tasks", "algorithm", "training"))


def runs_in(folder: Path) -> list[Path]:
    """The run directories that lie in a folder, by name: those of several seeds.

    Example:
      >>> runs_in(Path("/nowhere"))
      []
    """
    return sorted(path for path in folder.iterdir() if holds_run(path)) if folder.is_dir() else []


def is_free(run_dir: Path) -> bool:
    """Whether a run may be started there: nothing is in the way, or only what a start that was cut short left."""
    if not run_dir.exists():
        return True
    first = {_LOCK, _OWNER, f"{_OWNER}.tmp", f"{CONFIG_FILE}.tmp"}
    return run_dir.is_dir() and all(entry.name in first for entry in run_dir.iterdir())


def delete_run(run_dir: Path) -> None:
    """Delete what a run wrote, and nothing else a user may have put beside it; the lock stays with who holds it."""
    of_the_run = [path for path in run_dir.iterdir() if _is_ours(path.name)]
    for path in sorted(of_the_run, key=lambda path: path.name == CONFIG_FILE):  # a run until the last file has gone
        if path.is_dir() and not path.is_symlink():  # of a link to another disk, the link alone is ours
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_ours(name: str) -> bool:
    files = (CONFIG_FILE, METRICS_FILE, LEARNING_CURVE, PROVENANCE, INITIAL_RUN)
    is_file = name.removesuffix(".tmp") in files or any(kind.fullmatch(name) for kind in (_EVALUATION, _PICTURES))
    return is_file or name in (CHECKPOINTS, EVENTS, TRACKING)


def continuation(run_dir: Path, *options: str) -> str:
    """The command that continues a run, ready to be pasted.

    Example:
      >>> continuation(Path("my runs/x"), "--devices", "2")
      "metarl resume 'my runs/x' --devices 2"
    """
    return shlex.join(["metarl", "resume", str(run_dir), *options])


def make(directory: Path) -> list[Path]:
    """Make a directory and those above it.

    Returns:
      Those that were not there, the lowest first.

    Example:
      >>> make(Path("."))
      []
    """
    absent = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    return absent


@contextmanager
def gone_if_refused(made: Sequence[Path]) -> Iterator[None]:
    """Take directories away again if what they were made for is refused; one that something is in stays.

    Args:
      made: the lowest first.
    """
    try:
        yield
    except Refusal:
        for directory in made:
            with suppress(OSError):
                directory.rmdir()
        raise


@contextmanager
def hold(run_dir: Path, report: Callable[[str], object] = warnings.warn) -> Iterator[None]:
    """Keep a run directory to this thread for a while; inside another ``hold`` of the same directory, do nothing.

    The lock is the operating system's, so it ends with the process, however that ends; it reaches over network file
    systems as far as they lock files. Where files cannot be locked at all, the existence of the lock file counts, and
    a dead owner is told from a live one on its own host only. Reading a run needs no lock. What is refused meanwhile
    leaves no lock file where there was none.

    Args:
      run_dir: an existing directory.
      report: called with a sentence if the owner before died without giving the directory back.

    Raises:
      ConfigError: if another run holds it, naming its host, process and start.

    Example:
      >>> with hold(Path(tempfile.mkdtemp())):  # doctest: +SKIP
      ...     train(experiment, run_dir)
    """
    lock = _lock_of(run_dir)
    is_outermost, is_first = not lock.is_locked, not (run_dir / _LOCK).exists()
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(_in_use(run_dir)) from None
    try:
        if not is_outermost:
            yield
            return
        if (dead := _read_owner(run_dir)) is not None:
            report(f"{run_dir}: {_describe(dead)} died in it; taking over")
        started = datetime.now().astimezone().isoformat(" ", "seconds")
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": started}
        write_atomically(run_dir / _OWNER, json.dumps(owner))
        yield
    except Refusal:
        if is_first:  # while it is ours: nobody else's goes
            (run_dir / _LOCK).unlink(missing_ok=True)
        raise
    finally:
        if is_outermost:
            (run_dir / _OWNER).unlink(missing_ok=True)
        lock.release()


def refuse_in_use(run_dir: Path) -> None:
    """Refuse a directory that another run holds; it is not kept, and nothing in it changes.

    Raises:
      ConfigError: naming its host, process and start.

    Example:
      >>> refuse_in_use(Path("nowhere"))
    """
    lock = _lock_of(run_dir)
    if lock.is_locked or not (run_dir / _LOCK).exists():  # ours, or nobody's
        return
    try:
        with lock:
            pass
    except Timeout:
        raise ConfigError(_in_use(run_dir)) from None


def _lock_of(run_dir: Path) -> BaseFileLock:
    """The one of this process: a thread knows its own."""
    return FileLock(run_dir / _LOCK, blocking=False, is_singleton=True)


def _in_use(run_dir: Path) -> str:
    owner = _read_owner(run_dir)
    who = "another process" if owner is None else _describe(owner)
    is_far = owner is not None and owner["host"] != socket.gethostname()
    gone = f" (should that machine be gone for good, delete {run_dir / _LOCK})" if is_far else ""
    return f"{run_dir} is in use by {who}: wait for it, stop it, or choose another --run-dir{gone}"


def _describe(owner: Mapping[str, Any]) -> str:
    return f"process {owner['pid']} on {owner['host']} (since {owner['started']})"


def _read_owner(run_dir: Path) -> dict[str, Any] | None:
    """The record of who holds the directory; None if there is none or it is damaged."""
    try:
        owner: dict[str, Any] = json.loads((run_dir / _OWNER).read_text())
        _describe(owner)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return owner
