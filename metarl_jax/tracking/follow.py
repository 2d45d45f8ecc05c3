"""Trackers that follow a run from threads of their own: they may be slow, fail or hang, and the run goes on."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from metarl_jax.checks import Refusal
from metarl_jax.tracking.base import Artifact, Row, TrackedRun, Tracker
from metarl_jax.tracking.files import TRACKING, write_atomically
from metarl_jax.tracking.jsonl import read_metrics

Tell = Callable[[Row | Artifact], None]
_PATIENCE = 30.0  # seconds for all that is left to be sent, of what a cluster gives a job that it stops
_STARTING: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""By tracker: the first run of a client makes its database or logs in, and others wait for it."""
_HUNG: set[str] = set()
"""Trackers that were not done in time: the runs that end after that one do not wait for them again."""


def last_told(run_dir: Path, name: str) -> int:
    """The last iteration that a tracker was told of a run; 0 if there is none.

    Example:
      >>> last_told(Path("/nowhere"), "wandb")
      0
    """
    file = _record(run_dir, name)
    iteration: int = json.loads(file.read_text())["iteration"] if file.exists() else 0
    return iteration


def _record(run_dir: Path, name: str) -> Path:
    return run_dir / TRACKING / f"{name.replace(':', '.')}.json"


class Follower:
    """One tracker that follows one run.

    The last iteration that it was told of is kept in the run directory, so that a run which goes on from an earlier
    checkpoint tells no row twice, and one that its tracker gave up on tells what is missing.

    Attributes:
      name: the tracker's.
      failure: why it was given up; empty if it was not.
      last: the last iteration that it was told of.
    """

    def __init__(self, name: str, tracker: Tracker, run: TrackedRun) -> None:
        self.name, self.failure, self.last = name, "", 0
        self._tracker, self._run, self._starting = tracker, run, _STARTING[name]
        self._news: SimpleQueue[Row | Artifact | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._follow, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def tell(self, news: Row | Artifact | None) -> None:
        """Pass on a row, if it is new, or an artifact; None is the end."""
        if not self.failure:
            self._news.put(news)

    def wait(self, seconds: float) -> None:
        """Wait until all is sent, or the time is over."""
        self._thread.join(0.0 if self.name in _HUNG else max(0.0, seconds))
        if self._thread.is_alive():
            _HUNG.add(self.name)
            self.failure = self.failure or f"it was not done {_PATIENCE:g} s after the end of the run"

    def _follow(self) -> None:
        with self._noted():
            self.last = last_told(self._run.directory, self.name)
            with self._starting:
                session = self._tracker.init(self._run)
            with self._noted():
                while (news := self._news.get()) is not None:
                    if isinstance(news, Artifact):
                        self._tracker.artifact(session, news)
                    elif news["iteration"] > self.last:
                        self._log(session, news)
            self._tracker.finish(session)
            _HUNG.discard(self.name)

    def _log(self, session: Any, row: Row) -> None:
        """Remember the row before it is told: a kill in between loses it rather than tell it twice."""
        before = self.last
        self._remember(row["iteration"])
        try:
            self._tracker.log(session, row)
        except BaseException:
            with suppress(OSError):
                self._remember(before)
            raise

    def _remember(self, iteration: int) -> None:
        self.last, file = iteration, _record(self._run.directory, self.name)
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps({"iteration": iteration}))

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """The first failure is noted and none goes further, not even a client's exit of the process."""
        try:
            yield
        except BaseException as error:
            first = (str(error).strip() or "no message").splitlines()[0]
            kind = "" if isinstance(error, Refusal) else f"{type(error).__name__}: "
            self.failure = self.failure or kind + first


@contextmanager
def following(trackers: Mapping[str, Tracker], run: TrackedRun, warn: Callable[[str], object]) -> Iterator[Tell]:
    """Tell trackers of a run while it goes on; first the rows of ``metrics.jsonl`` that they do not have yet.

    Args:
      trackers: by name.
      run: what they are told of.
      warn: called with a sentence when a tracker is given up, and in the end once more.

    Yields:
      What takes a row or an artifact.

    Example:
      >>> import tempfile
      >>> mine = Tracker(init=lambda run: None, log=lambda session, row: print(row["iteration"]))
      >>> with following({"mine": mine}, TrackedRun(Path(tempfile.mkdtemp())), print) as tell:
      ...     tell({"iteration": 1})
      1
    """
    followers = [Follower(name, tracker, run) for name, tracker in trackers.items()]
    given_up: set[str] = set()

    def tell(news: Row | Artifact) -> None:
        for follower in followers:
            follower.tell(news)
            if follower.failure and follower.name not in given_up:
                given_up.add(follower.name)
                warn(f"{follower.name}: {follower.failure}; the run goes on without it")

    try:
        for row in read_metrics(run.directory) if followers else []:
            tell(row)
        yield tell
    finally:
        until = time.monotonic() + _PATIENCE
        for follower in followers:
            follower.tell(None)
        for follower in followers:
            follower.wait(until - time.monotonic())
            if follower.failure:
                warn(
                    f"{follower.name} was given up ({follower.failure}): it has the run up to iteration "
                    f"{follower.last}, metrics.jsonl has all of it, and 'metarl resume' sends what is missing"
                )
