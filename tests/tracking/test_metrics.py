"""metrics.jsonl: strict JSON, append-only, cleaned up on resume."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from metarl_jax.tracking.metrics import MetricsWriter, read_metrics, to_row


def test_rows_are_strict_json() -> None:
    row = to_row({"loss": np.float32(np.nan), "return": np.array([1.0, np.inf], np.float32)})
    assert json.loads(json.dumps(row, allow_nan=False)) == {"loss": None, "return": [1.0, None]}


def test_every_row_is_on_disk_at_once(tmp_path: Path) -> None:
    """A killed run keeps what it logged."""
    with MetricsWriter(tmp_path, 0, tensorboard=False) as writer:
        writer.write({"iteration": 1})
        assert read_metrics(tmp_path) == [{"iteration": 1}]


def test_later_rows_are_dropped_on_resume(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, 0, tensorboard=False) as writer:
        for iteration in (1, 2, 3):
            writer.write({"iteration": iteration})
    with MetricsWriter(tmp_path, 2, tensorboard=False) as writer:
        writer.write({"iteration": 3, "new": True})
    assert read_metrics(tmp_path) == [{"iteration": 1}, {"iteration": 2}, {"iteration": 3, "new": True}]


def test_tensorboard_events_are_written(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, 0, tensorboard=True) as writer:
        writer.write({"iteration": 1, "loss": 0.5, "return": [1.0, None]})
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"loss" in content
    assert b"return/0" in content
    assert b"return/1" not in content


def test_tensorboard_has_every_row_that_the_metrics_have_and_none_twice(tmp_path: Path) -> None:
    """A killed process closes nothing, and a resumed one writes the rows after its checkpoint again."""
    killed = MetricsWriter(tmp_path, 0, tensorboard=True)
    for iteration in (1, 2, 3):
        killed.write({"iteration": iteration, "loss": iteration / 2})
        assert scalars(tmp_path) == {(row["iteration"], "loss"): row["loss"] for row in read_metrics(tmp_path)}
    with MetricsWriter(tmp_path, 1, tensorboard=True) as resumed:
        resumed.write({"iteration": 2, "loss": 8.0})
    assert scalars(tmp_path) == {(1, "loss"): 0.5, (2, "loss"): 8.0}
    killed.__exit__(None, None, None)


def scalars(run_dir: Path) -> dict[tuple[int, str], float]:
    """What TensorBoard shows: a session's start drops what is written from its step on; nothing may be there twice."""
    shown: dict[tuple[int, str], float] = {}
    for path in sorted((run_dir / "tensorboard").iterdir()):
        for event in events(path.read_bytes()):
            if event.session_log.status == event_pb2.SessionLog.START:
                shown = {place: number for place, number in shown.items() if place[0] < event.step}
            for value in event.summary.value:
                assert (event.step, value.tag) not in shown
                shown[event.step, value.tag] = value.simple_value
    return shown


def events(content: bytes) -> Iterator[Any]:
    """The events of a file of records: length, its checksum, the event, its checksum."""
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        assert struct.unpack("<I", content[8:12]) == (masked_crc32c(content[:8]),)
        event, checksum, content = content[12 : 12 + length], content[12 + length : 16 + length], content[16 + length :]
        assert struct.unpack("<I", checksum) == (masked_crc32c(event),)
        yield event_pb2.Event.FromString(event)
