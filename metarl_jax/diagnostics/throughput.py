"""Throughput against the size of the meta-batch and the amount of adaptation, until larger is no faster."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax

from metarl_jax.checks import Refusal, checked, require
from metarl_jax.config import Config
from metarl_jax.diagnostics.benchmark import RATES, compile_all, compile_update, initial_state, rates
from metarl_jax.diagnostics.programs import make_parts
from metarl_jax.diagnostics.timing import ALONE, Turn, in_rounds, summary
from metarl_jax.runs.build import Experiment, build, declared_adaptation
from metarl_jax.runs.fit import decided
from metarl_jax.runs.memory import META_BATCH, memory_of
from metarl_jax.types import PositiveInt

GAIN = 0.1
"""Throughput is flat where twice the tasks give less than this part more of it."""
_FAR = 0.8  # of the most that a larger meta-batch can gain: what gained as much is far from flat
_USUAL_UNITS = (1, 5)
_LONGEST = 10.0  # seconds after which a point is not timed once more
_TIMED = ("physics", "adapt")

Point = dict[str, Any]


class _Crowded(Refusal):
    """Of a meta-batch that might fit if this process had the device for itself."""


@checked
def sweep(
    experiment: Experiment,
    units: Sequence[PositiveInt] = (),
    iterations: PositiveInt = 10,
    is_over: Callable[[], bool] = lambda: False,
    turn: Turn = ALONE,
    known: Mapping[str, Any] | None = None,
    settled: Callable[[Config], Experiment] | None = None,
) -> dict[str, Any]:
    """Time updates of larger and larger meta-batches, from the config's on, until throughput is flat.

    Each has twice the tasks of the one before it, or four times where that one had nearly as much more throughput as
    it had more tasks.

    Args:
      experiment: what to time.
      units: of adaptation, such as inner steps; the config's, 1 and 5 if none are given. A method that does not adapt
        in training is timed as it is.
      iterations: repetitions of each program; fewer where they take longer than ten seconds.
      is_over: whether to begin no further point.
      turn: is held while programs run, not while they compile.
      known: what :func:`metarl_jax.diagnostics.benchmark.benchmark` returned of the experiment; it is not timed again.
      settled: builds a config of another meta-batch, and decides what it leaves open, such as ``task_chunk: auto``, as
        :func:`metarl_jax.runs.fit.settle` does; without it, it is built with the experiment's ``hyper``.

    Returns:
      A JSON object: the ``unit`` of adaptation; ``points``, each of ``units``, a ``meta_batch_size`` and either a
      ``refused`` reason or ``seconds`` and ``noise_seconds`` of an update, the rates of
      :func:`metarl_jax.diagnostics.benchmark.rates`, ``compile_seconds``, ``memory_bytes`` and what was ``decided`` for
      ``auto``; ``complete_units``: the amounts for which throughput became flat, or memory full; and ``is_complete``:
      whether that is all of them.

    Raises:
      Refusal: if ``units`` are given for a method that does not adapt in training.
    """
    adaptation = declared_adaptation(experiment.config, experiment.algorithm)
    trained = adaptation.trained
    require(trained > 0 or not units, "units", list(units), "this method does not adapt in training: give none")
    budgets = tuple(units) or (tuple(dict.fromkeys((trained, *_USUAL_UNITS))) if trained else (0,))
    points: list[Point] = []
    complete = []
    for budget in budgets:
        first = _as_point(known) if known is not None and budget == trained else None
        of_tasks = partial(_of_tasks, experiment, budget, settled or partial(build, **experiment.hyper))
        row, is_complete = _row(of_tasks, experiment.config.training.meta_batch_size, first, iterations, is_over, turn)
        points += [{"units": budget} | point for point in sorted(row, key=lambda point: point["meta_batch_size"])]
        complete += [budget] * is_complete
    return {
        "unit": adaptation.unit,
        "points": points,
        "complete_units": complete,
        "is_complete": len(complete) == len(budgets),
    }


def _as_point(known: Mapping[str, Any]) -> Point:
    names = ("meta_batch_size", *RATES, "compile_seconds", "memory_bytes", "decided")
    return {**known["per_iteration"]["total"], **{name: known[name] for name in names}}


def _with_budget(experiment: Experiment, units: int) -> Experiment:
    adaptation = declared_adaptation(experiment.config, experiment.algorithm)
    if units == adaptation.trained:
        return experiment
    episodes = experiment.config.training.episodes_per_task
    return experiment._replace(algorithm=adaptation.with_budget(units, episodes, "constant"))


def _of_tasks(
    experiment: Experiment, units: int, settled: Callable[[Config], Experiment], num_tasks: int
) -> Experiment:
    config = experiment.config
    if num_tasks != config.training.meta_batch_size:
        training = config.training.model_copy(update={"meta_batch_size": num_tasks})
        experiment = settled(config.model_copy(update={"training": training}))
    return _with_budget(experiment, units)


def _row(
    of_tasks: Callable[[int], Experiment],
    usual: int,
    first: Point | None,
    iterations: int,
    is_over: Callable[[], bool],
    turn: Turn,
) -> tuple[list[Point], bool]:
    """Larger and larger meta-batches, and whether there was time for all that tell something."""
    points = [] if first is None else [first]
    best = 0.0 if first is None else first["env_steps_per_second"]
    factor = 1 if first is None else 2
    fitting, too_many, is_full = usual, math.inf, True
    while not is_over():
        num_tasks = fitting * factor
        if num_tasks >= too_many:
            return points, is_full
        try:
            point = _measure(of_tasks(num_tasks), iterations, turn)
        except Refusal as refusal:
            points.append({"meta_batch_size": num_tasks, "refused": str(refusal)})
            factor, too_many, is_full = 2, num_tasks, not isinstance(refusal, _Crowded)
            continue
        points.append({"meta_batch_size": num_tasks} | point)
        rate = point["env_steps_per_second"]
        if best and rate < best * (1.0 + GAIN) ** math.log2(factor):
            return points, True
        factor = 4 if best and rate >= _FAR * factor * best else 2
        best, fitting = max(best, rate), num_tasks
    return points, False


def _measure(experiment: Experiment, iterations: int, turn: Turn) -> Point:
    num_tasks = experiment.config.training.meta_batch_size
    try:
        state = initial_state(experiment)
        update = compile_update(experiment, state)
        with turn:
            steps = int(update.program(state)[1]["steps_taken"])
        parts = {name: part for name, part in make_parts(experiment).items() if name in _TIMED}
        programs = {**compile_all(parts, state), "total": update.program}
        timings = in_rounds(programs, state, iterations, _LONGEST, "total", turn)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        if turn is ALONE:
            raise Refusal(META_BATCH, num_tasks, "does not fit the memory of the device") from error
        raise _Crowded(META_BATCH, num_tasks, "does not fit the memory that others who take turns leave") from error
    memory = memory_of(update.program)
    return {
        **summary(timings["total"]),
        **rates(timings, num_tasks, steps),
        "compile_seconds": update.compile_seconds,
        "memory_bytes": None if memory is None else memory.total,
        "decided": decided(experiment),
    }
