"""Training: the host loop around the device program."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax

from metarl_jax.config import Config
from metarl_jax.runs.build import Experiment, with_config
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.directory import CHECKPOINTS
from metarl_jax.runs.log import End, Report, RunLog, open_log
from metarl_jax.runs.monitor import monitor_row
from metarl_jax.runs.processes import signal_anywhere
from metarl_jax.runs.program import Program, make_program
from metarl_jax.runs.signals import stop_on_signals
from metarl_jax.runs.warm_start import WarmStart, warm_start
from metarl_jax.types import TrainState

StopRequested = Callable[[], int | None]


class Lane(NamedTuple):
    """One run of a group that a program trains.

    Attributes:
      config: complete and validated; all lanes have the same :func:`metarl_jax.config.static_part`.
      directory: its run directory, made by ``runs.prepare_directory``.
      group: what trackers are told that it shares with the runs of other seeds; None if there are none.
    """

    config: Config
    directory: Path
    group: str | None = None


class TrainResult(NamedTuple):
    """How training ended.

    Attributes:
      state: the final training state, as of one device.
      finished: False if a signal or ``until`` ended it early (everything is saved).
      seconds_to_first_update: from the start to the end of the first device call, compilation included; None if
        there was nothing left to do.
      signal: the number of the signal that asked this or another process to stop, or None.
      reason: why it is finished: all ``iterations`` are done, or ``patience`` with the validation return is; None if it
        is not.
    """

    state: TrainState
    finished: bool
    seconds_to_first_update: float | None
    signal: int | None = None
    reason: End | None = None


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
      Refusal: if an update, or an evaluation that is due while training, needs more memory than there is.
      WriteError: if the disk is full, or a checkpoint cannot be written for another reason.
    """
    (result,) = train_lanes(
        make_program(experiment, jax.devices() if devices is None else devices),
        [Lane(experiment.config, run_dir)],
        resume=resume,
        report=lambda lane, row: report(row),
        warn=warn,
        stop_requested=stop_requested,
    )
    return result


def train_lanes(
    program: Program,
    lanes: Sequence[Lane],
    *,
    until: int | None = None,
    resume: bool = True,
    report: Callable[[Lane, dict[str, Any]], None] = lambda lane, row: None,
    warn: Callable[[str], object] = print,
    stop_requested: StopRequested | None = None,
    started: float | None = None,
    again: str | None = None,
    starts: Mapping[Path, WarmStart] | None = None,
) -> list[TrainResult]:
    """Train many runs with one compiled program, each in a run directory like any other.

    On one CPU device a lane ends with the parameters of the same run alone, bit for bit. A lane that diverges does
    not touch the others.

    Args:
      program: made for an experiment of the lanes' static part.
      lanes: the runs.
      until: the update at which all of them end for now; each at its own ``training.num_iterations`` if None.
      resume: start each from its newest good checkpoint, if it has one.
      report: called with a lane and the row of each of its updates.
      warn: see :func:`train`, as the rest.
      stop_requested: as there.
      started: when the wait for the first update began, by ``time.perf_counter``; now if None.
      again: the command that continues all of this; that of a single run if None.
      starts: of :func:`warm_starts`; read here if None.

    Returns:
      How each ended; of lanes that a signal kept from starting, nothing.

    Raises:
      ConfigError: if another run uses one of the directories, or the run that one is to start from does not fit.
      WriteError: as :func:`train`.
    """
    started = time.perf_counter() if started is None else started
    starts = warm_starts(program, lanes, resume, warn) if starts is None else starts
    if starts:  # what does not fit is refused before there is a checkpoint
        program.compile()
    watched = nullcontext(stop_requested) if stop_requested is not None else stop_on_signals(warn)
    open_lane = _opener(program, until, resume, starts, report, partial(_warner, warn, len(lanes) > 1), again)
    results: list[TrainResult] = []
    waiting = iter(lanes)
    with watched as requested:  # outermost: the last save is waited for before signals act again
        while round_ := list(islice(waiting, program.width)):
            results += _train_round(program, round_, open_lane, started, requested)
            if results[-1].signal is not None:
                break
    return results


def _train_round(
    program: Program,
    lanes: Sequence[Lane],
    open_lane: Callable[[Lane], AbstractContextManager[tuple[RunLog, TrainState]]],
    started: float,
    stop_requested: StopRequested,
) -> list[TrainResult]:
    """Train as many lanes as go side by side."""
    idle = program.width - len(lanes)
    first_update_at: float | None = None
    with ExitStack() as opened:
        logs, states = zip(*[opened.enter_context(open_lane(lane)) for lane in lanes], strict=True)
        configs = [lane.config for lane in (*lanes, *[lanes[-1]] * idle)]
        placed = program.place([*states, *[states[-1]] * idle])
        stop = signal_anywhere(stop_requested())
        while stop is None and any(counts := [log.visit_length() for log in logs]):
            began = time.perf_counter()
            placed, infos = program.run(placed, configs, [*counts, *[0] * idle])
            first_update_at = first_update_at or time.perf_counter()
            seconds = (time.perf_counter() - began) / sum(counts)  # of lanes side by side, each one's share
            evaluations = _evaluate(program, placed, configs, logs, counts)
            for log, count, info, evaluation in zip(logs, counts, infos, evaluations, strict=False):
                if count:
                    log.add(count, jax.device_get(info), seconds, evaluation)
            stop = signal_anywhere(stop_requested())
            due = [count > 0 and (stop is not None or log.is_due()) for log, count in zip(logs, counts, strict=True)]
            if any(due):
                for log, state, is_due in zip(logs, program.gather(placed), due, strict=False):
                    if is_due:
                        log.save(state)
        waited = None if first_update_at is None else first_update_at - started
        return [
            TrainResult(state, log.ended is not None, waited, stop, log.ended)
            for state, log in zip(program.gather(placed), logs, strict=False)
        ]


def _evaluate(
    program: Program, placed: TrainState, configs: Sequence[Config], logs: Sequence[RunLog], counts: Sequence[int]
) -> list[dict[str, Any]]:
    """What the rows of lanes say of an evaluation; nothing of those that none is due for."""
    due = [log.is_evaluated(count) for log, count in zip(logs, counts, strict=True)]
    if not any(due):
        return [{} for _ in logs]
    began = time.perf_counter()
    infos = program.evaluate(placed, configs)
    seconds = (time.perf_counter() - began) / sum(due)
    found = zip(configs, infos, due, strict=False)
    return [monitor_row(config.evaluation, info, seconds) if is_due else {} for config, info, is_due in found]


def warm_starts(
    program: Program, lanes: Sequence[Lane], resume: bool, warn: Callable[[str], object]
) -> dict[Path, WarmStart]:
    """What lanes that have no checkpoint to go on from start with, of those that start from another run.

    Args:
      program: that trains them.
      lanes: the runs.
      resume: see :func:`train_lanes`.
      warn: called with a sentence for each damaged checkpoint that is passed over.

    Raises:
      ConfigError: if there is no such other run, or it does not fit.
    """
    new = [lane for lane in lanes if not (resume and Checkpoints(lane.directory / CHECKPOINTS).steps())]
    once = cache(warn)  # lanes that start from one run have one sentence to hear
    starts = {lane.directory: warm_start(program.experiment.algorithm, lane.config.training, once) for lane in new}
    return {directory: start for directory, start in starts.items() if start is not None}


def _opener(
    program: Program,
    until: int | None,
    resume: bool,
    starts: Mapping[Path, WarmStart],
    report: Callable[[Lane, dict[str, Any]], None],
    warn_of: Callable[[Lane], Callable[[str], object]],
    again: str | None,
) -> Callable[[Lane], AbstractContextManager[tuple[RunLog, TrainState]]]:
    """What opens the log of a lane."""

    def open_lane(lane: Lane) -> AbstractContextManager[tuple[RunLog, TrainState]]:
        is_shared, last = lane.config == program.experiment.config, lane.config.training.num_iterations
        return open_log(
            program.experiment if is_shared else with_config(program.experiment, lane.config),
            lane.directory,
            program.initial_state(lane.config),
            starts.get(lane.directory),
            until=last if until is None else min(until, last),
            resume=resume,
            report=partial(report, lane),
            warn=warn_of(lane),
            group=lane.group,
            again=again,
        )

    return open_lane


def _warner(warn: Callable[[str], object], is_one_of_several: bool, lane: Lane) -> Callable[[str], object]:
    """What tells of the troubles of a lane, by name if there are others."""
    return (lambda text: warn(f"{lane.directory.name}: {text}")) if is_one_of_several else warn
