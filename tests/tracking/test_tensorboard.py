"""TensorBoard has every row that the metrics have, as soon as they have it."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from metarl_jax.tracking.base import TrackedRun, telling
from metarl_jax.tracking.jsonl import JSON_LINES, read_metrics
from metarl_jax.tracking.tensorboard import TENSORBOARD

BOTH = (JSON_LINES, TENSORBOARD)


def test_tensorboard_events_are_written(tmp_path: Path) -> None:
    with telling(BOTH, TrackedRun(tmp_path)) as write:
        write({"iteration": 1, "loss": 0.5, "return": [1.0, None]})
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"loss" in content
    assert b"return/0" in content
    assert b"return/1" not in content


def test_tensorboard_has_every_row_that_the_metrics_have_and_none_twice(tmp_path: Path) -> None:
    """A killed process closes nothing, and a resumed one writes the rows after its checkpoint again."""
    killed = telling(BOTH, TrackedRun(tmp_path))
    write = killed.__enter__()
    for iteration in (1, 2, 3):
        write({"iteration": iteration, "loss": iteration / 2})
        assert scalars(tmp_path) == {(row["iteration"], "loss"): row["loss"] for row in read_metrics(tmp_path)}
    with telling(BOTH, TrackedRun(tmp_path, 1)) as resumed:
        resumed({"iteration": 2, "loss": 8.0})
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
