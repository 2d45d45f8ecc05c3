"""What a run writes while it trains: ``metrics.jsonl``, the source of truth, and TensorBoard events."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

METRICS_FILE = "metrics.jsonl"


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
    """Append rows to ``metrics.jsonl`` and, if wanted, to TensorBoard.

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
        replacement = path.with_suffix(".tmp")
        replacement.write_text("".join(json.dumps(row) + "\n" for row in kept))
        replacement.replace(path)
        self._file = path.open("a", buffering=1)
        self._events = None
        if tensorboard:
            from tensorboardX import SummaryWriter  # slow to import

            self._events = SummaryWriter(str(run_dir / "tensorboard"), purge_step=first_iteration + 1)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row; it must have ``iteration``.

        Args:
          row: a JSON object of numbers and lists of numbers.
        """
        self._file.write(json.dumps(row) + "\n")
        if self._events is None:
            return
        for name, value in row.items():
            for suffix, number in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if number is not None and name != "iteration":
                    tag = name if suffix is None else f"{name}/{suffix}"
                    self._events.add_scalar(tag, number, row["iteration"])

    def __enter__(self) -> Self:
        """Open for writing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and close."""
        self._file.close()
        if self._events is not None:
            self._events.close()
