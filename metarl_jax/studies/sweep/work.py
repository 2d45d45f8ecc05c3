"""A worker: it takes trials, trains their runs as lanes, and says what they came to, until none is left."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import jax

from metarl_jax.config import Config
from metarl_jax.runs.directory import holds_run
from metarl_jax.runs.launch import Progress
from metarl_jax.runs.program import Program
from metarl_jax.runs.run import prepared
from metarl_jax.runs.training import Lane, train_lanes
from metarl_jax.studies.sweep.objective import Measure
from metarl_jax.studies.sweep.points import Point
from metarl_jax.studies.sweep.sweep import Sweep, config_of, group_of, rungs_of, seeds_of
from metarl_jax.studies.sweep.trials import Trial, Trials, is_over, take, tell, trial_directory

_LANES_PER_ACCELERATOR = 16
_SECONDS_BETWEEN_LOOKS = 2.0


class Worker(NamedTuple):
    """What a worker needs.

    Attributes:
      sweep: the study.
      trials: where it stands.
      program_of: of :func:`metarl_jax.studies.sweep.sweep.make_programs`.
      measure: of :func:`metarl_jax.studies.sweep.objective.make_measure`.
      size: trials that it takes at once.
      say: called with a sentence when trials are taken, when one has ended, and for whatever is out of order.
      progress: shows how far the runs are.
      stop_requested: tells the number of the signal that has arrived, or None.
      again: the command that goes on with the study.
    """

    sweep: Sweep
    trials: Trials
    program_of: Callable[[Config], Program]
    measure: Measure
    size: int
    say: Callable[[str], object]
    progress: Progress
    stop_requested: Callable[[], int | None]
    again: str


def batch_size(sweep: Sweep, devices: Sequence[jax.Device]) -> int:
    """Trials that are taken at once: as the study says, or as few as fill the devices evenly with lanes."""
    if sweep.study.batch is not None:
        return sweep.study.batch
    return fill(len(seeds_of(sweep)), len(devices) * (1 if devices[0].platform == "cpu" else _LANES_PER_ACCELERATOR))


def fill(num_seeds: int, num_lanes: int) -> int:
    """The fewest trials whose runs go through so many lanes without a gap.

    Example:
      >>> fill(3, 2), fill(4, 2), fill(5, 16)
      (2, 1, 16)
    """
    return num_lanes // math.gcd(num_lanes, num_seeds)


def work(worker: Worker, *, waits: bool) -> int | None:
    """Take trials and train them until none is left.

    Args:
      worker: who.
      waits: for the trials of others: what they come to, or to take over what they leave if they die. A study with
        halving is waited for anyway.

    Returns:
      The number of the signal that stopped it, or None.
    """
    rungs, is_waiting = rungs_of(worker.sweep), False
    while (stop := worker.stop_requested()) is None:
        with ExitStack() as held:
            taken = take(worker.trials, worker.size, rungs, held, worker.say, partial(_group_of, worker.sweep))
            stop = _train(worker, taken, rungs) if taken else None
        if stop is not None or (not taken and (is_over(worker.trials) or not (waits or rungs))):
            break
        if not taken:
            if not is_waiting:
                worker.say("all trials are taken: waiting for other workers")
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        is_waiting = not taken
    return stop


def _train(worker: Worker, taken: Sequence[Trial], rungs: Sequence[int]) -> int | None:
    """Train trials of one program to their next comparison or to their end."""
    lanes = [(trial, _lanes(worker, trial)) for trial in taken]
    every = [lane for _, of_trial in lanes for lane in of_trial]
    program = worker.program_of(every[0].config)
    rung = next((rung for rung in rungs if rung not in lanes[0][0].scores), None)
    ends = [rung or lane.config.training.num_iterations for lane in every]
    numbers = ", ".join(str(trial.number) for trial, _ in lanes)
    trials, runs = (f"{noun}{'s' * (len(many) > 1)}" for noun, many in (("trial", lanes), ("run", every)))
    worker.say(f"{trials} {numbers}: training {len(every)} {runs} to update {max(ends)}")
    with ExitStack() as held, worker.progress(ends) as report:
        for lane in every:  # whoever died in it has been told of with the trial
            held.enter_context(prepared(lane.directory, lane.config, holds_run(lane.directory), False, str))
        results = train_lanes(
            program,
            every,
            until=rung,
            report=lambda lane, row: report(every.index(lane), row),
            warn=worker.say,
            stop_requested=worker.stop_requested,
            again=worker.again,
        )
    stop = next((result.signal for result in results if result.signal is not None), None)
    if stop is None:
        for trial, of_trial in lanes:
            until = rung or of_trial[0].config.training.num_iterations
            seeds = {lane.config.seed: worker.measure(program, lane, until) for lane in of_trial}
            worker.say(in_words(tell(worker.trials, trial.number, until, rung is None, seeds)))
    return stop


def _group_of(sweep: Sweep, values: Point) -> str:
    return group_of(config_of(sweep, values))


def _lanes(worker: Worker, trial: Trial) -> list[Lane]:
    folder = trial_directory(worker.trials.directory, trial.number)
    group = f"{worker.trials.directory.resolve().name}/{folder.name}"
    return [
        Lane(config_of(worker.sweep, trial.values, seed), folder / f"seed-{seed}", group)
        for seed in seeds_of(worker.sweep)
    ]


def in_words(trial: Trial) -> str:
    """What a trial came to.

    Example:
      >>> in_words(Trial(3, {}, "finished", {10: -2.5}, {1: -2.5}))
      'trial 3: -2.5 after 10 updates'
    """
    if trial.objective is None:
        return f"trial {trial.number}: failed, since the objective of a run is not finite"
    return f"trial {trial.number}: {trial.objective:.4g} after {max(trial.scores)} updates"
