"""The same rows as TensorBoard shows them."""

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl_jax.tracking.base import Tracker, scalars
from metarl_jax.tracking.files import EVENTS


class EventFile:
    """A TensorBoard event file that has every row as soon as it is written.

    The writer of tensorboardX leaves writing to a thread: that of a killed process takes the last rows with it, and on
    a full disk it dies without a word. So only the encoding is taken from there.

    Args:
      run_dir: the run.
      first_iteration: what earlier files say of later iterations is void.
    """

    def __init__(self, run_dir: Path, first_iteration: int) -> None:
        from tensorboardX.proto import event_pb2, summary_pb2  # slow to import
        from tensorboardX.record_writer import masked_crc32c

        self._new_event, self._new_summary, self._checksum = event_pb2.Event, summary_pb2.Summary, masked_crc32c
        folder = run_dir / EVENTS
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{first_iteration}"
        self._file = (folder / name).open("wb")
        started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._append(file_version="brain.Event:2")
        self._append(step=first_iteration + 1, session_log=started)  # TensorBoard drops older events from here on

    def write(self, row: Mapping[str, Any]) -> None:
        """Append the finite numbers of one row."""
        values = [self._new_summary.Value(tag=tag, simple_value=number) for tag, number in scalars(row).items()]
        self._append(step=row["iteration"], summary=self._new_summary(value=values))

    def _append(self, **fields: Any) -> None:
        event = self._new_event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(event))
        checksums = (struct.pack("<I", self._checksum(part)) for part in (length, event))
        self._file.write(length + next(checksums) + event + next(checksums))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


TENSORBOARD = Tracker(lambda run: EventFile(run.directory, run.iteration), EventFile.write, finish=EventFile.close)
