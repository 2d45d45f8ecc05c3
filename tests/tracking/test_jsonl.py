"""metrics.jsonl: strict JSON, append-only, cleaned up on resume."""

import json
from pathlib import Path

import numpy as np

from metarl_jax.tracking.base import TrackedRun, telling
from metarl_jax.tracking.jsonl import JSON_LINES, read_metrics, to_row


def test_rows_are_strict_json() -> None:
    row = to_row({"loss": np.float32(np.nan), "return": np.array([1.0, np.inf], np.float32)})
    assert json.loads(json.dumps(row, allow_nan=False)) == {"loss": None, "return": [1.0, None]}


def test_every_row_is_on_disk_at_once(tmp_path: Path) -> None:
    """A killed run keeps what it logged."""
    with telling([JSON_LINES], TrackedRun(tmp_path)) as write:
        write({"iteration": 1})
        assert read_metrics(tmp_path) == [{"iteration": 1}]


def test_later_rows_are_dropped_on_resume(tmp_path: Path) -> None:
    with telling([JSON_LINES], TrackedRun(tmp_path)) as write:
        for iteration in (1, 2, 3):
            write({"iteration": iteration})
    with telling([JSON_LINES], TrackedRun(tmp_path, 2)) as write:
        write({"iteration": 3, "new": True})
    assert read_metrics(tmp_path) == [{"iteration": 1}, {"iteration": 2}, {"iteration": 3, "new": True}]
