"""``metrics.jsonl``, the source of truth: one strict JSON object per logged update."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarl_jax.tracking.base import Tracker
from metarl_jax.tracking.files import METRICS_FILE, write_atomically


def finite_or_null(tree: Any) -> Any:
    """Numbers that JSON has no word for, NaN and infinities, become None, wherever they are.

    Args:
      tree: nested dicts and lists of what JSON can hold.

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

    Example:
      >>> to_row({"loss": np.float32(0.5), "return": np.array([1.0, np.nan])})
      {'loss': 0.5, 'return': [1.0, None]}
    """
    return finite_or_null({name: np.asarray(value).tolist() for name, value in info.items()})


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Read the rows of ``metrics.jsonl``; a last line cut short by a crash is left out."""
    return list(complete_rows(run_dir / METRICS_FILE))


def complete_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, without those that a crash cut short; none of a file that is not there."""
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


class JsonLines:
    """Append rows to ``metrics.jsonl``.

    Args:
      run_dir: the run.
      first_iteration: rows after this update are dropped.
    """

    def __init__(self, run_dir: Path, first_iteration: int) -> None:
        path = run_dir / METRICS_FILE
        kept = [row for row in complete_rows(path) if row["iteration"] <= first_iteration]
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = path.open("a", buffering=1)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


JSON_LINES = Tracker(lambda run: JsonLines(run.directory, run.iteration), JsonLines.write, finish=JsonLines.close)
