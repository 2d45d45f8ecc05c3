"""Where the rows of a run go while it trains."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from metarl_jax.tracking.jsonl import JsonLines
from metarl_jax.tracking.tensorboard import EventFile


class Tracker(Protocol):
    """One place that rows go to; made of a run directory and the update that it begins after."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Take one row; it outlives the process."""

    def close(self) -> None:
        """Close."""


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
        self._opened = ExitStack()
        kinds: tuple[Callable[[Path, int], Tracker], ...] = (JsonLines, *((EventFile,) if tensorboard else ()))
        self._trackers = [self._opened.enter_context(closing(kind(run_dir, first_iteration))) for kind in kinds]

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row; it must have ``iteration``.

        Args:
          row: a JSON object of numbers and lists of numbers.
        """
        for tracker in self._trackers:
            tracker.write(row)

    def __enter__(self) -> Self:
        """Open for writing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, whatever fails."""
        self._opened.close()
