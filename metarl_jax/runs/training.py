"""Training: one mapped device function, and the host loop around it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.config import ConfigError, check_devices
from metarl_jax.runs.directory import CHECKPOINTS, WriteError, continuation, hold, is_full
from metarl_jax.runs.build import Experiment
from metarl_jax.runs.health import HealthMonitor
from metarl_jax.tracking.base import MetricsWriter
from metarl_jax.tracking.jsonl import to_row
from metarl_jax.collect.randomness import fold_in_each, stream
from metarl_jax.runs.signals import stop_on_signals
from metarl_jax.runs.snapshot import CheckpointWriteError
from metarl_jax.types import Array, Info, TrainState

AXIS = "devices"
Report = Callable[[dict[str, Any]], None]
RunUpdates = Callable[[TrainState, int, int], tuple[TrainState, Info]]
StopRequested = Callable[[], int | None]


class TrainResult(NamedTuple):
    """How training ended.

    Attributes:
      state: the final training state.
      finished: False if a signal stopped it early (everything is saved).
      seconds_to_first_update: from the start to the end of the first device call, compilation included; None if
        there was nothing left to do.
      signal: the number of the signal that asked this or another process to stop, or None.
    """

    state: TrainState
    finished: bool
    seconds_to_first_update: float | None
    signal: int | None = None


def make_run_updates(experiment: Experiment, devices: Sequence[jax.Device]) -> RunUpdates:
    """Compile-once device function: ``(state, seed, count) -> (state, infos)`` runs ``count`` outer updates.

    The meta-batch is split over the devices by ``jax.pmap``. Random numbers are addressed by the update's number and
    the *global* index of the task, so results do not depend on the number of devices, up to the rounding of sums.
    ``count`` is traced: any number up to ``updates_per_visit`` runs the same program.

    Args:
      experiment: what to train.
      devices: all devices of all processes that share the meta-batch.

    Returns:
      The function. ``infos`` has a leading axis of ``updates_per_visit``, filled up to ``count``.
    """
    family, algorithm = experiment.family, experiment.algorithm
    capacity = experiment.config.training.updates_per_visit
    task_indices = _local_task_indices(experiment.config.training.meta_batch_size, devices)

    def update(state: TrainState, seed: Array, indices: Array) -> tuple[TrainState, Info]:
        keys = fold_in_each(jax.random.fold_in(stream(seed, "training"), state.step), indices)
        key_task, key_data = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        return algorithm.update(state, jax.vmap(family.sample)(key_task), key_data, axis_name=AXIS)

    def run(state: TrainState, seed: Array, count: Array, indices: Array) -> tuple[TrainState, Info]:
        _, shapes = jax.eval_shape(update, state, seed, indices)
        buffer = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)

        def body(i: Array, carry: tuple[TrainState, Info]) -> tuple[TrainState, Info]:
            state, buffer = carry
            state, info = update(state, seed, indices)
            return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), buffer, info)

        return jax.lax.fori_loop(0, count, body, (state, buffer))

    mapped = jax.pmap(run, axis_name=AXIS, in_axes=(None, None, None, 0), out_axes=None, devices=devices)

    def run_updates(state: TrainState, seed: int, count: int) -> tuple[TrainState, Info]:
        state, infos = mapped(state, np.uint32(seed), np.int32(count), task_indices)
        # Queued calls with collectives can deadlock virtual CPU devices: wait for each one.
        return jax.block_until_ready((state, infos))

    return run_updates


def _local_task_indices(meta_batch_size: int, devices: Sequence[jax.Device]) -> np.ndarray:
    """Global task indices of this process's devices, ``[local devices, tasks per device]``."""
    per_device = np.arange(meta_batch_size, dtype=np.uint32).reshape(len(devices), -1)
    return per_device[[device.process_index == jax.process_index() for device in devices]]


def initial_state(experiment: Experiment, devices: Sequence[jax.Device]) -> TrainState:
    """The state before the first update, a copy on every device.

    Args:
      experiment: what to train.
      devices: where it is trained.

    Returns:
      The replicated state.
    """
    state = experiment.algorithm.init(stream(experiment.config.seed, "initial_params"))
    return replicate(state, devices)


def replicate(state: TrainState, devices: Sequence[jax.Device]) -> TrainState:
    """Put a copy of a state on every device, the way the mapped function returns it, so that it compiles once.

    Args:
      state: host or device arrays.
      devices: where to.

    Returns:
      The state with replicated shardings.
    """
    sharding = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), state)


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
      WriteError: if the disk is full, or a checkpoint cannot be written for another reason.
    """
    started = time.perf_counter()
    config = experiment.config
    devices = jax.devices() if devices is None else devices
    check_devices(config, len(devices))
    run_updates = make_run_updates(experiment, devices)
    first_update_at: float | None = None
    with (
        # Outermost: the last save is waited for before signals act again.
        nullcontext(stop_requested) if stop_requested is not None else stop_on_signals(warn) as requested,
        hold(run_dir, warn) if jax.process_index() == 0 else nullcontext(),
        _explain_failed_writes(run_dir),
        Checkpoints(run_dir / CHECKPOINTS, config.training.keep_checkpoints) as checkpoints,
    ):
        state = initial_state(experiment, devices)
        recent: list[float] = []
        env_steps: int | None = 0
        if resume and checkpoints.steps():
            state, recent, env_steps = _restore(checkpoints, state, devices, warn)
        iteration = int(state.step)
        stop = _signal_anywhere(requested())
        with _recorder(experiment, run_dir, iteration, report, warn) as record:
            while iteration < config.training.num_iterations and stop is None:
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
                stop = _signal_anywhere(requested())
                if stop is not None or _is_checkpoint(iteration, experiment):
                    recent = _save(checkpoints, state, experiment, recent, env_steps)
    waited = None if first_update_at is None else first_update_at - started
    return TrainResult(state, iteration >= config.training.num_iterations, waited, stop)


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
    checkpoints: Checkpoints, like: TrainState, devices: Sequence[jax.Device], warn: Callable[[str], object]
) -> tuple[TrainState, list[float], int | None]:
    """The newest good state, the scores since the last regular checkpoint before it, and the steps taken until it."""
    restored = checkpoints.restore(jax.eval_shape(lambda: like), report=warn)
    record = restored.record
    return replicate(restored.state, devices), list(record.get("recent", [])), record.get("env_steps")


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
    monitor = HealthMonitor(experiment.config.tasks.name, training.meta_batch_size * training.episodes_per_task)
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
    training, horizon = experiment.config.training, experiment.family.horizon
    num_stages = infos["return"].shape[1]
    computed = training.meta_batch_size * training.episodes_per_task * horizon * num_stages
    seconds_each = seconds / (after - before)
    total = before * computed if env_steps is None else env_steps
    rows = []
    for i in range(after - before):
        info = {name: values[i] for name, values in infos.items()}
        returns, taken = info.pop("return"), int(info.pop("steps_taken", computed))
        total += taken
        rows.append(
            {
                "iteration": before + i + 1,
                "env_steps": total,
                "computed_env_steps": (before + i + 1) * computed,
                **to_row({"return_pre": returns[0], "return_post": returns[-1], "return_per_stage": returns}),
                "env_steps_per_second": taken / seconds_each,
                "computed_env_steps_per_second": computed / seconds_each,
                "iteration_seconds": seconds_each,
                **to_row(info),
            }
        )
    return rows


def _score(row: dict[str, Any]) -> float | None:
    """What the best checkpoint is best at: the mean return after 1..K steps; None if one is not finite."""
    returns = row["return_per_stage"][1:] or row["return_per_stage"]
    return None if None in returns else float(np.mean(returns))


def together(action: Callable[[], None]) -> None:
    """Run ``action`` on every process; if it fails on one, all of them leave with an error.

    Args:
      action: what may be refused, or fail.

    Raises:
      ConfigError: if it failed on another process; what it raised if it failed here.
    """
    failure: Exception | None = None
    try:
        action()
    except Exception as error:
        failure = error
    if any_process(failure is not None):
        raise failure or ConfigError("another process refused to start: see its message")


def any_process(condition: bool) -> bool:
    """Whether the condition holds on this or another process; all of them must ask.

    Example:
      >>> any_process(False)
      False
    """
    return _largest(int(condition)) > 0


def _signal_anywhere(number: int | None) -> int | None:
    """The signal that this or another process was sent: they must leave the loop together."""
    return _largest(number or 0) or None


def _largest(number: int) -> int:
    """The largest of all processes' numbers."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.array(number)).max())
