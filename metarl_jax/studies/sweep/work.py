"""A worker: it takes trials, trains their runs as lanes, and says what they came to, until none is left."""

import math
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from metarl_jax.runs.lanes import Lane, LaneProgram, Report, group_key, lane_program, train_lanes
from metarl_jax.studies.sweep.objective import measure
from metarl_jax.studies.sweep.sweep import Sweep, config_of, rungs_of, seeds_of
from metarl_jax.studies.sweep.trials import Trial, Trials, is_over, take, tell, trial_directory

_LANES_PER_ACCELERATOR = 16
_SECONDS_BETWEEN_LOOKS = 2.0


class Worker(NamedTuple):
    """What a worker needs.

    Attributes:
      sweep: the study.
      trials: where it stands.
      devices: to train on.
      say: called with a sentence when trials are taken, and when one has ended.
      warn: called with a sentence for whatever is out of order.
      report: called with every row of every lane.
      stop_requested: tells the number of the signal that has arrived, or None.
      programs: those made so far, by what their lanes have in common.
    """

    sweep: Sweep
    trials: Trials
    devices: Sequence[jax.Device]
    say: Callable[[str], object]
    warn: Callable[[str], object]
    report: Report
    stop_requested: Callable[[], int | None]
    programs: dict[Hashable, LaneProgram]


def work(worker: Worker, *, waits: bool) -> int | None:
    """Take trials and train them until none is left.

    Args:
      worker: who.
      waits: for the trials of others: what they come to, or to take over what they leave if they die. A study with
        halving is waited for anyway.

    Returns:
      The number of the signal that stopped it, or None.
    """
    rungs = rungs_of(worker.sweep)
    size = worker.sweep.study.batch or batch_size(len(seeds_of(worker.sweep)), worker.devices)
    while (stop := worker.stop_requested()) is None:
        with ExitStack() as held:
            taken = take(worker.trials, size, rungs, held, worker.warn)
            stop = _train(worker, taken, rungs)
        if stop is not None or (not taken and (is_over(worker.trials) or not (waits or rungs))):
            break
        if not taken:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    return stop


def batch_size(num_seeds: int, devices: Sequence[jax.Device]) -> int:
    """Trials that are taken at once: as few as fill the devices evenly with lanes.

    Example:
      >>> batch_size(3, jax.devices("cpu")[:1]), batch_size(4, jax.devices("cpu")[:1] * 6)
      (1, 3)
    """
    per_device = 1 if devices[0].platform == "cpu" else _LANES_PER_ACCELERATOR
    lanes = len(devices) * per_device
    return lanes // math.gcd(lanes, num_seeds)


def _train(worker: Worker, taken: Sequence[Trial], rungs: Sequence[int]) -> int | None:
    """Train trials to their next comparison or to their end, those of one program together."""

    def program_of(trial: Trial) -> Hashable:
        return group_key(config_of(worker.sweep, trial.values))

    for key, group in groupby(taken, program_of):
        together = list(group)
        lanes = {trial.number: _lanes(worker, trial) for trial in together}
        target = next((rung for rung in rungs if rung not in together[0].scores), None)
        num_runs = sum(map(len, lanes.values()))
        until = target or lanes[together[0].number][0].config.training.num_iterations
        worker.say(f"{_numbers(together)}: {num_runs} runs, to update {until}")
        if key not in worker.programs:
            worker.programs[key] = lane_program(lanes[together[0].number][0].config, worker.devices)
        results = train_lanes(
            worker.programs[key],
            [lane for of_trial in lanes.values() for lane in of_trial],
            until=target,
            report=worker.report,
            warn=worker.warn,
            stop_requested=worker.stop_requested,
        )
        if (stop := next((result.signal for result in results if result.signal is not None), None)) is not None:
            return stop
        for trial in together:
            directories = {lane.config.seed: lane.directory for lane in lanes[trial.number]}
            seeds = measure(worker.sweep, directories, until, worker.warn)
            told = tell(worker.trials, trial.number, until, target is None, seeds)
            worker.say(f"trial {told.number}: {outcome_in_words(told)}")
    return None


def _lanes(worker: Worker, trial: Trial) -> list[Lane]:
    folder = trial_directory(worker.trials.directory, trial.number)
    return [Lane(config_of(worker.sweep, trial.values, seed), folder / f"seed-{seed}") for seed in seeds_of(worker.sweep)]


def _numbers(trials: Sequence[Trial]) -> str:
    numbers = [trial.number for trial in trials]
    return f"trial {numbers[0]}" if len(numbers) == 1 else f"trials {', '.join(map(str, numbers))}"


def outcome_in_words(trial: Trial) -> str:
    """What a trial came to.

    Example:
      >>> outcome_in_words(Trial(0, {}, "finished", {10: -2.5}, {1: -2.5}))
      '-2.5 after 10 updates'
    """
    if trial.objective is None:
        return "failed: the objective of a run is not finite"
    return f"{trial.objective:.4g} after {max(trial.scores)} updates"
