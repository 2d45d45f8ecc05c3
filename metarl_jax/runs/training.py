"""Training: the host loop around the device program."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metarl_jax.config import check_devices
from metarl_jax.runs.build import Experiment
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.directory import CHECKPOINTS, WriteError, continuation, hold, is_full
from metarl_jax.runs.health import HealthMonitor
from metarl_jax.runs.processes import signal_anywhere
from metarl_jax.runs.program import gather, initial_state, make_run_updates, place
from metarl_jax.runs.signals import stop_on_signals
from metarl_jax.runs.snapshot import CheckpointWriteError
from metarl_jax.tracking.base import MetricsWriter
from metarl_jax.tracking.jsonl import to_row
from metarl_jax.types import TrainState

Report = Callable[[dict[str, Any]], None]
StopRequested = Callable[[], int | None]


class TrainResult(NamedTuple):
    """How training ended.

    Attributes:
      state: the final training state, as of one device.
      finished: False if a signal stopped it early (everything is saved).
      seconds_to_first_update: from the start to the end of the first device call, compilation included; None if
        there was nothing left to do.
      signal: the number of the signal that asked this or another process to stop, or None.
    """

    state: TrainState
    finished: bool
    seconds_to_first_update: float | None
    signal: int | None = None


def train(
    experiment: Experiment,
    run_dir: Path,
    *,
    devices: Sequence[jax.Device] | None = None,
    resume: bool = False,
    report: Report = lambda row: None,
    warn: Callable[[str], object] = print,
    stop_requested: StopRequested | None = None,
) -> TrainResult:
    """Train to the configured number of iterations, writing metrics and checkpoints into ``run_dir``.

    Ctrl-C and SIGTERM finish the updates under way, save, and return. A run that was killed and resumed ends with
    the same parameters, bit for bit, as one that was not. No other run can use the directory meanwhile.

    Args:
      experiment: what to train.
      run_dir: a directory made by ``runs.prepare_directory``.
      devices: what to train on; all devices if None.
      resume: start from the newest good checkpoint (from the beginning if none was written yet).
      report: called with the row of every update.
      warn: called with a sentence for each damaged checkpoint passed over, for signs of ill health in the metrics, and
        when a signal arrives.
      stop_requested: tells the number of the signal that has arrived, or None; if not given, signals are watched here.

    Returns:
      How it ended.

    Raises:
      ConfigError: if the meta-batch cannot be shared evenly by the devices, or another run uses the directory.
      Refusal: if an update needs more memory than there is.
      WriteError: if the disk is full, or a checkpoint cannot be written for another reason.
    """
    started = time.perf_counter()
    config = experiment.config
    devices = jax.devices() if devices is None else devices
    check_devices(config, len(devices))
    first_update_at: float | None = None
    with (
        # Outermost: the last save is waited for before signals act again.
        nullcontext(stop_requested) if stop_requested is not None else stop_on_signals(warn) as requested,
        hold(run_dir, warn) if jax.process_index() == 0 else nullcontext(),
        _explain_failed_writes(run_dir),
        Checkpoints(run_dir / CHECKPOINTS, config.training.keep_checkpoints) as checkpoints,
    ):
        recent: list[float] = []
        env_steps: int | None = 0
        if resume and checkpoints.steps():
            state, recent, env_steps = _restore(checkpoints, experiment, devices, warn)
        else:
            state = initial_state(experiment, devices)
        iteration = int(state.step)
        stop = signal_anywhere(requested())
        is_done = iteration >= config.training.num_iterations
        run_updates = None if is_done or stop is not None else make_run_updates(experiment, devices)
        with _recorder(experiment, run_dir, iteration, report, warn) as record:
            while run_updates is not None and iteration < config.training.num_iterations and stop is None:
                began = time.perf_counter()
                state, infos = run_updates(state, config.seed, _visit_length(iteration, experiment))
                seconds = time.perf_counter() - began
                first_update_at = first_update_at or time.perf_counter()
                rows = _rows(experiment, iteration, int(state.step), env_steps, jax.device_get(infos), seconds)
                env_steps = rows[-1]["env_steps"]
                recent += [score for row in rows if (score := _score(row)) is not None]
                for row in rows:
                    record(row)
                iteration = int(state.step)
                stop = signal_anywhere(requested())
                if stop is not None or _is_checkpoint(iteration, experiment):
                    recent = _save(checkpoints, gather(state, devices), experiment, recent, env_steps)
    waited = None if first_update_at is None else first_update_at - started
    return TrainResult(gather(state, devices), iteration >= config.training.num_iterations, waited, stop)


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


def _restore(
    checkpoints: Checkpoints, experiment: Experiment, devices: Sequence[jax.Device], warn: Callable[[str], object]
) -> tuple[TrainState, list[float], int | None]:
    """The newest good state, the scores since the last regular checkpoint before it, and the steps taken until it."""
    like = jax.eval_shape(experiment.algorithm.init, jax.random.key(0))
    restored = checkpoints.restore(like, report=warn, place=partial(place, devices=devices))
    record = restored.record
    return restored.state, list(record.get("recent", [])), record.get("env_steps")


def _save(
    checkpoints: Checkpoints, state: TrainState, experiment: Experiment, recent: list[float], env_steps: int | None
) -> list[float]:
    """Save, scored by the updates since the last regular checkpoint if there are enough; what is left of the scores."""
    every = experiment.config.training.checkpoint_every
    is_regular = int(state.step) % every == 0
    kept = [] if is_regular else recent
    record = {"config": experiment.config.model_dump(mode="json"), "recent": kept, "env_steps": env_steps}
    checkpoints.save(int(state.step), state, record, float(np.mean(recent)) if len(recent) >= every else None)
    return kept


@contextmanager
def _recorder(
    experiment: Experiment, run_dir: Path, iteration: int, report: Report, warn: Callable[[str], object]
) -> Iterator[Report]:
    """What is done with a row: its troubles are told, it is written (by one process), and reported."""
    training, logging = experiment.config.training, experiment.config.logging
    adaptation, episodes = experiment.algorithm.adaptation, training.meta_batch_size * training.episodes_per_task
    unit = "gradient step" if adaptation is None else adaptation.unit
    monitor = HealthMonitor(experiment.config.tasks.name, episodes, unit)
    is_writer = jax.process_index() == 0
    with MetricsWriter(run_dir, iteration, logging.tensorboard) if is_writer else nullcontext() as writer:

        def record(row: dict[str, Any]) -> None:
            if writer is not None:
                for trouble in monitor(row):
                    warn(trouble)
                if row["iteration"] % training.log_every == 0:
                    writer.write(row)
            report(row)

        yield record


def _is_checkpoint(iteration: int, experiment: Experiment) -> bool:
    training = experiment.config.training
    return iteration % training.checkpoint_every == 0 or iteration >= training.num_iterations


def _visit_length(iteration: int, experiment: Experiment) -> int:
    """Updates until the host next has something to do: at most a full visit, never past a checkpoint or the end."""
    training = experiment.config.training
    to_checkpoint = training.checkpoint_every - iteration % training.checkpoint_every
    return min(training.updates_per_visit, to_checkpoint, training.num_iterations - iteration)


def _rows(
    experiment: Experiment,
    before: int,
    after: int,
    env_steps: int | None,
    infos: dict[str, np.ndarray],
    seconds: float,
) -> list[dict[str, Any]]:
    """One row per update of a visit, in the order of ``metrics.jsonl``.

    ``env_steps`` were taken before the visit; checkpoints of older versions do not tell, and what they wrote into
    their rows is the number of computed ones.
    """
    computed = _computed_steps(experiment)
    seconds_each = seconds / (after - before)
    total = before * (computed or 0) if env_steps is None else env_steps
    rows = []
    for i in range(after - before):
        info = {name: values[i] for name, values in infos.items()}
        returns, taken = info.pop("return"), int(info.pop("steps_taken", computed))
        total += taken
        rows.append(
            {
                "iteration": before + i + 1,
                "env_steps": total,
                **({} if computed is None else {"computed_env_steps": (before + i + 1) * computed}),
                **to_row({"return_pre": returns[0], "return_post": returns[-1], "return_per_stage": returns}),
                "env_steps_per_second": taken / seconds_each,
                **({} if computed is None else {"computed_env_steps_per_second": computed / seconds_each}),
                "iteration_seconds": seconds_each,
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
