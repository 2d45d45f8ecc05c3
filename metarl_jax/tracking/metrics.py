"""What a run writes while it trains: ``metrics.jsonl``, the source of truth, and TensorBoard events."""

import json
import math
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from metarl_jax.runs.directory import EVENTS, METRICS_FILE, write_atomically


def finite_or_null(tree: Any) -> Any:
    """Numbers that JSON has no word for, NaN and infinities, become None, wherever they are.

    Args:
      tree: nested dicts and lists of what JSON can hold.

    Returns:
      The same, without non-finite numbers.

    Example:
      >>> finite_or_null({"mean_return": [1.5, float("nan")], "name": "x"})
      {'mean_return': [1.5, None], 'name': 'x'}
    """
    if isinstance(tree, Mapping):
        return {key: finite_or_null(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [finite_or_null(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def to_row(info: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Flatten one update's info: numbers stay, vectors become lists, non-finite numbers become None.

    Args:
      info: name to a scalar or vector.

    Returns:
      A JSON object.

    Example:
      >>> to_row({"loss": np.float32(0.5), "return": np.array([1.0, np.nan])})
      {'loss': 0.5, 'return': [1.0, None]}
    """
    return finite_or_null({name: np.asarray(value).tolist() for name, value in info.items()})


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Read the rows of ``metrics.jsonl``; a last line cut short by a crash is left out.

    Args:
      run_dir: the run.

    Returns:
      One object per logged update.
    """
    return list(_complete_rows(run_dir / METRICS_FILE))


def _complete_rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


class MetricsWriter:
    """Append rows to ``metrics.jsonl`` and, if wanted, to TensorBoard; what is written outlives the process.

    Args:
      run_dir: the run.
      first_iteration: rows after this update, from a run that was cut off, are dropped: they will be written again.
      tensorboard: also write event files.

    Example:
      >>> import tempfile
      >>> with MetricsWriter(Path(tempfile.mkdtemp()), 0, tensorboard=False) as writer:
      ...     writer.write({"iteration": 1, "return_post": 2.0})
    """

    def __init__(self, run_dir: Path, first_iteration: int, tensorboard: bool) -> None:
        path = run_dir / METRICS_FILE
        kept = [row for row in _complete_rows(path) if row["iteration"] <= first_iteration]
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._files = ExitStack()
        self._rows = self._files.enter_context(path.open("a", buffering=1))
        self._events = self._files.enter_context(EventFile(run_dir / EVENTS, first_iteration)) if tensorboard else None

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row; it must have ``iteration``.

        Args:
          row: a JSON object of numbers and lists of numbers.
        """
        self._rows.write(json.dumps(row) + "\n")
        if self._events is not None:
            self._events.write(row["iteration"], _scalars(row))

    def __enter__(self) -> Self:
        """Open for writing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, whatever fails."""
        self._files.close()


def _scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row by TensorBoard's tag; elements of a list get a tag each."""
    tagged: dict[str, Any] = {}
    for name, value in row.items():
        tagged |= {f"{name}/{i}": each for i, each in enumerate(value)} if isinstance(value, list) else {name: value}
    return {tag: number for tag, number in tagged.items() if number is not None and tag != "iteration"}


class EventFile:
    """A TensorBoard event file that has every row as soon as it is written.

    The writer of tensorboardX leaves writing to a thread: that of a killed process takes the last rows with it, and on
    a full disk it dies without a word. So only the encoding is taken from there.

    Args:
      folder: of the event files of a run; made if need be.
      first_iteration: what earlier files say of later iterations is void.
    """

    def __init__(self, folder: Path, first_iteration: int) -> None:
        from tensorboardX.proto import event_pb2, summary_pb2  # slow to import
        from tensorboardX.record_writer import masked_crc32c

        self._new_event, self._new_summary, self._checksum = event_pb2.Event, summary_pb2.Summary, masked_crc32c
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{first_iteration}"
        self._file = (folder / name).open("wb")
        started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._append(file_version="brain.Event:2")
        self._append(step=first_iteration + 1, session_log=started)  # TensorBoard drops older events from here on

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Append numbers by tag."""
        values = [self._new_summary.Value(tag=tag, simple_value=number) for tag, number in scalars.items()]
        self._append(step=iteration, summary=self._new_summary(value=values))

    def _append(self, **fields: Any) -> None:
        event = self._new_event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(event))
        checksums = (struct.pack("<I", self._checksum(part)) for part in (length, event))
        self._file.write(length + next(checksums) + event + next(checksums))
        self._file.flush()

    def __enter__(self) -> Self:
        """Open for writing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self._file.close()
