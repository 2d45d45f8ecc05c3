"""Checkpoints: atomic, asynchronous, checksummed; the newest few and the best are kept.

Orbax writes and commits the files (a checkpoint appears by renaming, so a killed save leaves nothing behind
that looks complete). What Orbax lacks is added here: it restores flipped bits without complaint, so each
checkpoint carries a CRC-32 per array, and one that fails its check is reported and passed over.

One checkpoint is a directory ``<step>/`` with two items: ``state``, a flat mapping from the path of each leaf
(``.params['w']``) to its values, and ``record``, a JSON object (``snapshot.make_item``).
"""

import logging
import math
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import jax
import numpy as np
from jax.experimental import multihost_utils

from metarl_jax.checks import require
from metarl_jax.runs.snapshot import (
    CheckpointError,
    CheckpointWriteError,
    Snapshot,
    damaged_leaf,
    empty_values,
    make_item,
    misfit,
    parse_item,
    rebuild,
    replicate,
    take_snapshot,
)
from metarl_jax.types import PyTree

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

Item = dict[str, Any]
"""See :func:`metarl_jax.runs.snapshot.parse_item`."""


class Restored(NamedTuple):
    """What a checkpoint held.

    Attributes:
      state: a pytree like the template, on the devices.
      step: finished outer updates at the time of saving.
      record: the JSON object given to ``Checkpoints.save`` (tuples come back as lists).
    """

    state: PyTree
    step: int
    record: dict[str, Any]


class Stored(NamedTuple):
    """A checkpoint on the host, as it was saved.

    Attributes:
      step: finished outer updates at the time of saving.
      snapshot: its arrays.
      record: as of :class:`Restored`.
    """

    step: int
    snapshot: Snapshot
    record: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run: a context manager over a directory.

    Reading never changes the directory, so a live run can be evaluated from another process. In a run of several
    processes all of them make the same calls, on a directory that all of them see.

    Args:
      directory: where the checkpoints lie; created by the first ``save``.
      keep: number of newest checkpoints to keep, at least 1. The one with the highest score is kept besides.

    Raises:
      ValueError: if ``keep`` is less than 1.

    Example:
      >>> import tempfile, jax.numpy as jnp
      >>> with Checkpoints(Path(tempfile.mkdtemp()) / "checkpoints") as checkpoints:
      ...     checkpoints.save(10, {"w": jnp.ones(3)}, {"seed": 0}, score=1.5)
      ...     step = checkpoints.restore({"w": jax.ShapeDtypeStruct((3,), jnp.float32)}).step
      >>> step
      10
    """

    def __init__(self, directory: Path, keep: int = 3) -> None:
        require(keep >= 1, "keep", keep, "keep at least 1 checkpoint")
        # absl is shared with other libraries: silence what Orbax logs there (failures are raised), nothing else.
        logging.getLogger("absl").addFilter(_not_from_orbax)
        self._directory = Path(directory).resolve()
        self._keep = keep
        self._scores: dict[int, float | None] = {}
        self._reached: int | None = None  # the step this object restored or last saved
        self._manager: ocp.CheckpointManager | None = None  # made by the first save, for it writes to the directory

    def save(self, step: int, state: PyTree, record: dict[str, Any], score: float | None = None) -> None:
        """Copy the state to the host, then write it in the background.

        The arrays may be donated or deleted as soon as this returns. Waits for the save before it, if that still
        runs. Saving a step twice is the same as saving it once. The first save after restoring an older step sets
        the newer checkpoints aside (renamed to ``superseded-<step>``, never read or deleted again).

        Args:
          step: finished outer updates; must grow from call to call.
          state: pytree of arrays, the same on every device and process. Typed keys are allowed.
          record: anything else to keep with it, as JSON: config, progress.
          score: higher is better; None or a non-finite number never becomes the best.

        Raises:
          CheckpointError: if the directory holds newer checkpoints and none was restored (another run lives
            there); ``CheckpointWriteError``, if writing this or the previous checkpoint failed.
          ValueError: if ``step`` does not grow, or ``record`` is not JSON.

        Example:
          >>> checkpoints.save(20, state, {"config": config}, score=mean_return)  # doctest: +SKIP
        """
        if step == self._reached:
            return
        import orbax.checkpoint as ocp  # slow to import

        grows = self._reached is None or step > self._reached
        require(grows, "step", step, f"step {self._reached} was reached already; steps must grow")
        snapshot = take_snapshot(state)
        item = make_item(snapshot, record, score)
        with self._report_failed_write():
            if self._manager is None:
                _ignore_closed_loops()
                self._manager = self._claim()
            self._scores[step] = item["score"]
            arguments = ocp.args.Composite(
                state=ocp.args.StandardSave(_with_elements(snapshot.values)), record=ocp.args.JsonSave(item)
            )
            self._manager.save(step, args=arguments, force=True)
        self._reached = step

    def restore(
        self,
        like: PyTree,
        which: int | Literal["latest", "best"] = "latest",
        report: Callable[[str], object] = warnings.warn,
        place: Callable[[PyTree], PyTree] = replicate,
    ) -> Restored:
        """Load a checkpoint whose checksums are right.

        Args:
          like: pytree of arrays or of ``jax.ShapeDtypeStruct`` (from ``jax.eval_shape``) with the wanted structure.
          which: "latest", and where it is damaged the one before it; "best", and where it is damaged the next best,
            at last those without a score; or a step, and only that one.
          report: called with one sentence for each damaged checkpoint that is passed over.
          place: puts the state on the devices there are now, however many there were when it was saved; a copy on each
            if not given.

        Returns:
          The state, as it was placed.

        Raises:
          CheckpointError: if there is none, all are damaged, or it belongs to another network or optimiser.

        Example:
          >>> like = jax.eval_shape(algorithm.init, jax.random.key(0))  # doctest: +SKIP
          >>> state, step, record = checkpoints.restore(like)  # doctest: +SKIP
        """
        step, snapshot, record = self._newest_good(which, report, lambda item: misfit(item, like))
        self._reached = step if self._reached is None else self._reached
        return Restored(rebuild(snapshot, like, place), step, record)

    def read(
        self,
        which: int | Literal["latest", "best"] = "latest",
        report: Callable[[str], object] = warnings.warn,
    ) -> Stored:
        """Read a checkpoint whose checksums are right, whatever was trained.

        Args:
          which: as for :meth:`restore`, like ``report``.
          report: called with one sentence for each damaged checkpoint that is passed over.

        Raises:
          CheckpointError: if there is none, or all are damaged.
        """
        return self._newest_good(which, report, lambda item: "")

    def _newest_good(
        self, which: int | Literal["latest", "best"], report: Callable[[str], object], unfit: Callable[[Item], str]
    ) -> Stored:
        self.wait()
        failures: list[str] = []
        candidates = self._candidates(which)
        for position, step in enumerate(candidates):
            stored, problem = self._attempt(step, unfit)
            if stored is not None:
                return stored
            failures.append(f"checkpoint {step} is damaged ({problem})")
            if position + 1 < len(candidates):
                report(f"{self._directory}: {failures[-1]}; trying checkpoint {candidates[position + 1]} instead")
        raise CheckpointError(self._nothing_usable(which, failures))

    def steps(self) -> list[int]:
        """Steps of the checkpoints that were written completely (damaged ones included), oldest first.

        Example:
          >>> Checkpoints(Path("/nowhere")).steps()
          []
        """
        if not self._directory.is_dir():
            return []
        import orbax.checkpoint as ocp  # slow to import

        return sorted(found.step for found in ocp.path.step.standard_name_format().find_all(self._directory))

    def record(self, step: int) -> dict[str, Any]:
        """What was kept with a checkpoint; nothing if that cannot be read."""
        try:
            record: dict[str, Any] = self._read_item(step)["record"]
        except Exception:  # restore() will report it
            return {}
        return record

    def wait(self) -> None:
        """Block until the save under way, if any, is on disk; raises ``CheckpointWriteError`` if it failed."""
        if self._manager is not None:
            with self._report_failed_write():
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for the save under way and stop the background threads; raises ``CheckpointWriteError`` if it failed."""
        manager, self._manager = self._manager, None
        if manager is not None:
            with self._report_failed_write():
                manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _claim(self) -> "ocp.CheckpointManager":
        """Make the directory ours to write: nothing newer than the step we are at, every score known."""
        import orbax.checkpoint as ocp  # slow to import

        reached = -1 if self._reached is None else self._reached
        newer = [step for step in self.steps() if step > reached]
        if newer and self._reached is None:
            raise CheckpointError(
                f"{self._directory} already holds checkpoints of a run (steps {newer}): "
                "restore it first to continue it, or choose another directory"
            )
        multihost_utils.sync_global_devices("checkpoints listed")
        if jax.process_index() == 0:
            for step in newer:
                aside = self._directory / f"superseded-{step}"
                shutil.rmtree(aside, ignore_errors=True)
                (self._directory / str(step)).rename(aside)
        multihost_utils.sync_global_devices("newer checkpoints set aside")
        self._scores = {step: self._score(step) for step in self.steps()}
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_NewestAndBest(self._keep, self._scores),
            cleanup_tmp_directories=True,
            # Else, where the directory cannot be made, writer threads wait for it and hold up the exit for minutes.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        )
        return ocp.CheckpointManager(self._directory, options=options)

    def _candidates(self, which: int | Literal["latest", "best"]) -> list[int]:
        newest_first = self.steps()[::-1]
        if which == "best":
            return sorted(newest_first, key=lambda step: _rank(self._score(step)), reverse=True)
        return newest_first if which == "latest" else [step for step in newest_first if step == which]

    def _attempt(self, step: int, unfit_of: Callable[[Item], str]) -> tuple[Stored | None, str]:
        """The verified checkpoint, or None and what is wrong with it on any process."""
        problem, unfit = "", ""
        try:
            item = self._read_item(step)
            unfit = unfit_of(item)
            values = {} if unfit else self._read_values(step, item["leaves"])
        except Exception as error:  # damage surfaces as almost any type: from TensorStore, JSON, the system
            problem = (str(error) or repr(error)).splitlines()[0][:200]
        if jax.process_count() > 1 and multihost_utils.process_allgather(np.array(bool(problem))).any():
            problem = problem or "another process could not read it"
        if problem:
            return None, problem
        if unfit:  # it is intact, so an older one would not be what was asked for
            raise CheckpointError(f"checkpoint {step} in {self._directory} is intact, but {unfit}")
        return Stored(step, Snapshot(values, item["leaves"]), item["record"]), ""

    def _read_values(self, step: int, leaves: dict[str, Any]) -> dict[str, np.ndarray]:
        import orbax.checkpoint as ocp  # slow to import

        # Each process reads on its own: at Orbax's barriers, one that fails would leave the others waiting.
        me = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(me, {me}, f"reader_{me}")
        handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
        values = empty_values(leaves)
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
            # One by one: reads that are under way when another fails write to the terminal from their threads.
            for name, value in _with_elements(values).items():
                arguments = ocp.args.PyTreeRestore({name: value}, partial_restore=True)
                values |= reader.restore(self._directory / str(step) / "state", args=arguments)
        if damaged := damaged_leaf(Snapshot(values, leaves)):
            raise ValueError(f"the checksum of {damaged} differs")
        return values

    def _read_item(self, step: int) -> Item:
        return parse_item((self._directory / str(step) / "record" / "metadata").read_bytes())

    def _score(self, step: int) -> float | None:
        try:
            score: float | None = self._read_item(step)["score"]
        except Exception:  # unreadable: it cannot be the best, and restore() will report it
            return None
        return score

    def _nothing_usable(self, which: int | str, failures: Sequence[str]) -> str:
        if failures:
            return f"{self._directory}: {'; '.join(failures)}. Restore the files from a backup, or start a new run"
        if isinstance(which, int):
            return f"{self._directory} has no checkpoint {which}: choose one of {self.steps()}"
        return f"{self._directory} holds no complete checkpoint: check the path, or start the run anew"

    @contextmanager
    def _report_failed_write(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:
            message = f"writing a checkpoint to {self._directory} failed ({error}): check free space and permissions"
            raise CheckpointWriteError(message) from error


class _NewestAndBest(NamedTuple):
    """Orbax preservation policy: the newest ``keep`` and the one of the highest score."""

    keep: int
    scores: dict[int, float | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        steps = sorted(info.step for info in checkpoints)
        scored = [step for step in steps if self.scores.get(step) is not None]
        best = max(scored, key=lambda step: (_rank(self.scores[step]), step), default=None)
        return [info.step in steps[-self.keep :] or info.step == best for info in checkpoints]


def _rank(score: float | None) -> float:
    return -math.inf if score is None else score


def _with_elements(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    # Orbax refuses arrays without elements; their shape and dtype in the record say all there is to say.
    return {name: value for name, value in values.items() if value.size}


@cache
def _ignore_closed_loops() -> None:
    """Keep one trace per array from the terminal: of a failed save, that its threads find Orbax's event loop closed."""
    report = sys.unraisablehook

    def report_others(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            report(unraisable)

    sys.unraisablehook = report_others


def _not_from_orbax(message: logging.LogRecord) -> bool:
    return "orbax" not in message.pathname
