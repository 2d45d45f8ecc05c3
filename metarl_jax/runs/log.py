"""What one run writes while it trains: a row for every update, its troubles, and checkpoints."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from metarl_jax.runs.build import Experiment
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.directory import CHECKPOINTS, WriteError, continuation, hold, is_full
from metarl_jax.runs.health import HealthMonitor
from metarl_jax.runs.monitor import Patience
from metarl_jax.runs.snapshot import CheckpointWriteError
from metarl_jax.runs.tracked import tracked
from metarl_jax.runs.warm_start import WarmStart
from metarl_jax.tracking.base import TrackedRun, telling
from metarl_jax.tracking.jsonl import JSON_LINES, to_row
from metarl_jax.tracking.tensorboard import TENSORBOARD
from metarl_jax.types import TrainState

Report = Callable[[dict[str, Any]], None]
End = Literal["iterations", "patience"]
"""Why training has ended: all updates are done, or the validation return does not get better."""

_VALIDATION = "validation_return_per_stage"
_EVALUATED = "evaluation_seconds"


@dataclass(eq=False)
class RunLog:
    """A run directory that is being written.

    Attributes:
      experiment: what is trained.
      run_dir: where.
      until: the update at which training ends.
      iteration: updates finished.
      env_steps: steps taken in the environment; None if older checkpoints do not tell.
      recent: scores of the updates since the last regular checkpoint.
      again: the command that continues what this is part of.
      patience: how long the validation return has not become better.
    """

    experiment: Experiment
    run_dir: Path
    until: int
    iteration: int
    env_steps: int | None
    recent: list[float]
    again: str
    patience: Patience
    _record: Report
    _checkpoints: Checkpoints
    _last: Mapping[str, Any] = field(default_factory=dict)

    def visit_length(self) -> int:
        """Updates until the host next has something to do.

        At most a full visit, never past a checkpoint, an evaluation or the end; 0 if there is nothing left to do.
        """
        training, every = self.experiment.config.training, self.experiment.config.evaluation.every
        if self.ended is not None:
            return 0
        to_next = [period - self.iteration % period for period in (training.checkpoint_every, every) if period]
        return max(0, min(training.updates_per_visit, *to_next, self.until - self.iteration))

    @property
    def ended(self) -> End | None:
        """Why there is nothing more to train; None if there is."""
        patience = self.experiment.config.evaluation.patience
        if self.iteration >= self.experiment.config.training.num_iterations:
            return "iterations"
        return "patience" if patience is not None and self.patience.waited >= patience else None

    def is_evaluated(self, count: int) -> bool:
        """Whether the parameters are to be evaluated when so many more updates are done."""
        every = self.experiment.config.evaluation.every
        return every is not None and count > 0 and (self.iteration + count) % every == 0

    def is_due(self) -> bool:
        """Whether a checkpoint is to be written now."""
        is_regular = self.iteration % self.experiment.config.training.checkpoint_every == 0
        return is_regular or self.iteration >= self.until or self.ended is not None or _VALIDATION in self._last

    def add(self, count: int, infos: dict[str, np.ndarray], seconds: float, evaluation: Mapping[str, Any]) -> None:
        """Write the rows of ``count`` updates, each of which took so many seconds, and of an evaluation after them."""
        rows = _rows(self.experiment, self.iteration, count, self.env_steps, infos, seconds)
        rows[-1] |= evaluation
        self.iteration, self.env_steps = self.iteration + count, rows[-1]["env_steps"]
        self.recent += [score for row in rows if (score := _score(row["return_per_stage"])) is not None]
        self._last = rows[-1]
        if _VALIDATION in self._last:
            margin = self.experiment.config.evaluation.min_improvement
            self.patience = self.patience.after(_score(self._last[_VALIDATION]), margin)
        with _explain_failed_writes(self.run_dir, self.again):
            for row in rows:
                self._record(row)

    def save(self, state: TrainState) -> None:
        """Save, scored by the validation return or, if there is none, by the training returns.

        Those are of the updates since the last regular checkpoint, if there are enough.
        """
        every = self.experiment.config.training.checkpoint_every
        is_regular = self.iteration % every == 0
        score = float(np.mean(self.recent)) if is_regular and len(self.recent) >= every / 2 else None
        self.recent = [] if is_regular else self.recent
        is_validated = self.experiment.config.evaluation.validation_tasks is not None
        if is_validated:
            score = _score(self._last[_VALIDATION]) if _VALIDATION in self._last else None
        record = {
            "config": self.experiment.config.model_dump(mode="json"),
            "recent": self.recent,
            "env_steps": self.env_steps,
            "score_of": "validation" if is_validated else "training",
            "patience": self.patience,
            "ended": self.ended,
        }
        with _explain_failed_writes(self.run_dir, self.again):
            self._checkpoints.save(self.iteration, state, record, score)


@contextmanager
def open_log(
    experiment: Experiment,
    run_dir: Path,
    initial_state: TrainState,
    start: WarmStart | None = None,
    *,
    until: int,
    resume: bool,
    report: Report,
    warn: Callable[[str], object],
    group: str | None = None,
    again: str | None = None,
) -> Iterator[tuple[RunLog, TrainState]]:
    """Hold a run directory and write into it.

    Args:
      experiment: what is trained.
      run_dir: its directory.
      initial_state: where training begins.
      start: parameters of another run, which take the place of its; what they were is written down, and the state is
        saved at once, so that the other run is not needed again.
      until: the update at which it ends.
      resume: begin at the newest good checkpoint instead, if there is one.
      report: called with the row of every update.
      warn: called with a sentence for each damaged checkpoint passed over, for signs of ill health, and for each
        tracker that is given up.
      group: what trackers are told that it shares with the runs of other seeds; None if there are none.
      again: the command that continues what this is part of; that of this run alone if None.

    Yields:
      What is written with, and the state to go on from.

    Raises:
      ConfigError: if another run uses the directory.
      WriteError: if the disk is full, or a checkpoint cannot be written for another reason.
    """
    is_writer = jax.process_index() == 0
    again = continuation(run_dir) if again is None else again
    keep = experiment.config.training.keep_checkpoints
    with (
        hold(run_dir, warn) if is_writer else nullcontext(),
        _explain_failed_writes(run_dir, again),
        Checkpoints(run_dir / CHECKPOINTS, keep) as checkpoints,
    ):
        state, record = initial_state, dict[str, Any](env_steps=0)
        is_new = not (resume and checkpoints.steps())
        if not is_new:
            state, _, record = checkpoints.restore(initial_state, report=warn, place=lambda state: state)
        elif start is not None:
            state = start.begin(initial_state)
        iteration = int(state.step)
        with _recorder(experiment, run_dir, iteration, group, report, warn) as write:
            steps, recent = record.get("env_steps"), list(record.get("recent", []))
            patience = Patience(*record.get("patience", ()))
            log = RunLog(experiment, run_dir, until, iteration, steps, recent, again, patience, write, checkpoints)
            if is_new and start is not None:
                if is_writer:
                    start.record(run_dir)
                log.save(state)
            yield log, state


@contextmanager
def _explain_failed_writes(run_dir: Path, again: str) -> Iterator[None]:
    """A full disk, and any failed checkpoint, become one sentence that says what is safe."""
    try:
        yield
    except (OSError, CheckpointWriteError) as error:
        if isinstance(error, OSError) and not is_full(error):
            raise
        reason = f"{run_dir}: {error.strerror}" if isinstance(error, OSError) else error
        steps = Checkpoints(run_dir / CHECKPOINTS).steps()
        safe = f"Checkpoint {steps[-1]} is safe" if steps else "There is no checkpoint yet"
        raise WriteError(f"{reason}. {safe}: make room, then continue with:\n  {again}") from error


@contextmanager
def _recorder(
    experiment: Experiment,
    run_dir: Path,
    iteration: int,
    group: str | None,
    report: Report,
    warn: Callable[[str], object],
) -> Iterator[Report]:
    """What is done with a row: its troubles are told, it is written and tracked (by one process), and reported."""
    training, logging = experiment.config.training, experiment.config.logging
    episodes = training.meta_batch_size * training.episodes_per_task
    monitor = HealthMonitor(experiment.config.tasks.name, episodes, experiment.algorithm.adaptation)
    if jax.process_index() != 0:
        yield report
        return
    files = (JSON_LINES, TENSORBOARD) if logging.tensorboard else (JSON_LINES,)
    with (
        telling(files, TrackedRun(run_dir, iteration)) as write,
        tracked(experiment.config, run_dir, iteration, group, warn) as track,
    ):

        def record(row: dict[str, Any]) -> None:
            for trouble in monitor(row):
                warn(trouble)
            if row["iteration"] % training.log_every == 0 or _EVALUATED in row:
                write(row)
                track(row)
            report(row)

        yield record


def _rows(
    experiment: Experiment,
    before: int,
    count: int,
    env_steps: int | None,
    infos: dict[str, np.ndarray],
    seconds: float,
) -> list[dict[str, Any]]:
    """One row per update of a visit of ``count``, in the order of ``metrics.jsonl``; ``seconds`` is the time of one.

    ``env_steps`` were taken before the visit; checkpoints of older versions do not tell, and what they wrote into
    their rows is the number of computed ones.
    """
    computed = computed_steps(experiment)
    total = before * (computed or 0) if env_steps is None else env_steps
    rows = []
    for i in range(count):
        info = {name: values[i] for name, values in infos.items()}
        returns, taken = info.pop("return"), int(info.pop("steps_taken", computed))
        total += taken
        rows.append(
            {
                "iteration": before + i + 1,
                "env_steps": total,
                **({} if computed is None else {"computed_env_steps": (before + i + 1) * computed}),
                **to_row({"return_pre": returns[0], "return_post": returns[-1], "return_per_stage": returns}),
                "env_steps_per_second": taken / seconds,
                **({} if computed is None else {"computed_env_steps_per_second": computed / seconds}),
                "iteration_seconds": seconds,
                **to_row(info),
            }
        )
    return rows


def computed_steps(experiment: Experiment) -> int | None:
    """Environment steps that an update computes; None if the method does not declare them."""
    training, adaptation = experiment.config.training, experiment.algorithm.adaptation
    if adaptation is None:
        return None
    episodes = training.meta_batch_size * training.episodes_per_task * adaptation.stages_per_update
    return episodes * experiment.family.horizon


def _score(return_per_stage: list[Any]) -> float | None:
    """What the best checkpoint is best at: the mean return after 1..K steps; None if one is not finite."""
    returns = return_per_stage[1:] or return_per_stage
    return None if None in returns else float(np.mean(returns))
