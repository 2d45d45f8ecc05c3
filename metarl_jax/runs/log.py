"""What one run writes while it trains: a row for every update, its troubles, and checkpoints."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metarl_jax.runs.build import Experiment
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.directory import CHECKPOINTS, WriteError, continuation, hold, is_full
from metarl_jax.runs.health import HealthMonitor
from metarl_jax.runs.provenance import record_start
from metarl_jax.runs.snapshot import CheckpointWriteError
from metarl_jax.runs.tracked import tracked
from metarl_jax.tracking.base import TrackedRun, telling
from metarl_jax.tracking.jsonl import JSON_LINES, to_row
from metarl_jax.tracking.tensorboard import TENSORBOARD
from metarl_jax.types import TrainState

Report = Callable[[dict[str, Any]], None]


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
    """

    experiment: Experiment
    run_dir: Path
    until: int
    iteration: int
    env_steps: int | None
    recent: list[float]
    _record: Report
    _checkpoints: Checkpoints

    def visit_length(self) -> int:
        """Updates until the host next has something to do: at most a full visit, never past a checkpoint or the end."""
        training = self.experiment.config.training
        to_checkpoint = training.checkpoint_every - self.iteration % training.checkpoint_every
        return max(0, min(training.updates_per_visit, to_checkpoint, self.until - self.iteration))

    def is_due(self) -> bool:
        """Whether a checkpoint is to be written now."""
        return self.iteration % self.experiment.config.training.checkpoint_every == 0 or self.iteration >= self.until

    def add(self, count: int, infos: dict[str, np.ndarray], seconds: float) -> None:
        """Write the rows of ``count`` updates, each of which took so many seconds."""
        rows = _rows(self.experiment, self.iteration, count, self.env_steps, infos, seconds)
        self.iteration, self.env_steps = self.iteration + count, rows[-1]["env_steps"]
        self.recent += [score for row in rows if (score := _score(row)) is not None]
        with _explain_failed_writes(self.run_dir):
            for row in rows:
                self._record(row)

    def save(self, state: TrainState) -> None:
        """Save, scored by the updates since the last regular checkpoint if there are enough."""
        every = self.experiment.config.training.checkpoint_every
        is_regular = self.iteration % every == 0
        score = float(np.mean(self.recent)) if is_regular and len(self.recent) >= every / 2 else None
        self.recent = [] if is_regular else self.recent
        config = self.experiment.config.model_dump(mode="json")
        record = {"config": config, "recent": self.recent, "env_steps": self.env_steps}
        with _explain_failed_writes(self.run_dir):
            self._checkpoints.save(self.iteration, state, record, score)


@contextmanager
def open_log(
    experiment: Experiment,
    run_dir: Path,
    initial_state: TrainState,
    *,
    until: int,
    resume: bool,
    report: Report,
    warn: Callable[[str], object],
    group: str | None = None,
) -> Iterator[tuple[RunLog, TrainState]]:
    """Hold a run directory and write into it.

    Args:
      experiment: what is trained.
      run_dir: its directory.
      initial_state: where training begins.
      until: the update at which it ends.
      resume: begin at the newest good checkpoint instead, if there is one.
      report: called with the row of every update.
      warn: called with a sentence for each damaged checkpoint passed over, for signs of ill health, and for each
        tracker that is given up.
      group: what trackers are told that it shares with the runs of other seeds; None if there are none.

    Yields:
      What is written with, and the state to go on from.

    Raises:
      ConfigError: if another run uses the directory.
      WriteError: if the disk is full, or a checkpoint cannot be written for another reason.
    """
    is_writer = jax.process_index() == 0
    keep = experiment.config.training.keep_checkpoints
    with (
        hold(run_dir, warn) if is_writer else nullcontext(),
        _explain_failed_writes(run_dir),
        Checkpoints(run_dir / CHECKPOINTS, keep) as checkpoints,
    ):
        state, record = initial_state, dict[str, Any](env_steps=0, recent=[])
        if resume and checkpoints.steps():
            state, _, record = checkpoints.restore(initial_state, report=warn, place=lambda state: state)
        iteration = int(state.step)
        if is_writer:
            record_start(run_dir, iteration)
        with _recorder(experiment, run_dir, iteration, group, report, warn) as write:
            steps, recent = record.get("env_steps"), list(record.get("recent", []))
            yield RunLog(experiment, run_dir, until, iteration, steps, recent, write, checkpoints), state


@contextmanager
def _explain_failed_writes(run_dir: Path) -> Iterator[None]:
    """A full disk, and any failed checkpoint, become one sentence that says what is safe."""
    try:
        yield
    except (OSError, CheckpointWriteError) as error:
        if isinstance(error, OSError) and not is_full(error):
            raise
        reason = f"{run_dir}: {error.strerror}" if isinstance(error, OSError) else error
        steps = Checkpoints(run_dir / CHECKPOINTS).steps()
        safe = f"Checkpoint {steps[-1]} is safe" if steps else "There is no checkpoint yet"
        raise WriteError(f"{reason}. {safe}: make room, then continue with: {continuation(run_dir)}") from error


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
            if row["iteration"] % training.log_every == 0:
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
    computed = _computed_steps(experiment)
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


def _computed_steps(experiment: Experiment) -> int | None:
    """Environment steps that an update computes; None if the method does not declare them."""
    training, adaptation = experiment.config.training, experiment.algorithm.adaptation
    if adaptation is None:
        return None
    episodes = training.meta_batch_size * training.episodes_per_task * adaptation.stages_per_update
    return episodes * experiment.family.horizon


def _score(row: dict[str, Any]) -> float | None:
    """What the best checkpoint is best at: the mean return after 1..K steps; None if one is not finite."""
    returns = row["return_per_stage"][1:] or row["return_per_stage"]
    return None if None in returns else float(np.mean(returns))
