"""Throughput against the size of the meta-batch and the amount of adaptation, until larger is no faster."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from metarl_jax.checks import Refusal, checked, require
from metarl_jax.diagnostics.benchmark import compile_all, compile_update, initial_state, rates
from metarl_jax.diagnostics.programs import make_parts
from metarl_jax.diagnostics.timing import ALONE, Turn, in_rounds, summary
from metarl_jax.runs.build import Experiment, declared_adaptation
from metarl_jax.runs.memory import META_BATCH, memory_of
from metarl_jax.types import PositiveInt

GAIN = 0.1
"""Throughput is flat where twice the tasks give less than this part more of it."""
_HALVINGS = 3  # of the config's meta-batch, at most, for the first
_USUAL_UNITS = (1, 5)
_LONGEST = 10.0  # seconds after which a point is not timed once more
_TIMED = ("physics", "adapt")

Point = dict[str, Any]


@checked
def sweep(
    experiment: Experiment,
    units: Sequence[PositiveInt] = (),
    iterations: PositiveInt = 10,
    is_over: Callable[[], bool] = lambda: False,
    turn: Turn = ALONE,
) -> dict[str, Any]:
    """Time updates of meta-batches of twice the size each, from a part of the config's on, until throughput is flat.

    Args:
      experiment: what to time.
      units: of adaptation, such as inner steps; 1, 5 and the config's if none are given. A method that does not adapt
        in training is timed as it is.
      iterations: repetitions of each program; fewer where they take longer than ten seconds.
      is_over: whether to begin no further point.
      turn: is held while programs run, not while they compile.

    Returns:
      A JSON object: the ``unit`` of adaptation; ``points``, each of ``units``, a ``meta_batch_size`` and either a
      ``refused`` reason or ``seconds`` and ``noise_seconds`` of an update, the rates of
      :func:`metarl_jax.diagnostics.benchmark.rates`, ``compile_seconds`` and ``memory_bytes``; and ``is_complete``:
      whether throughput became flat, or memory full, for all ``units``.

    Raises:
      Refusal: if ``units`` are given for a method that does not adapt in training.
    """
    adaptation = declared_adaptation(experiment.config, experiment.algorithm)
    trained = adaptation.trained
    require(trained > 0 or not units, "units", list(units), "this method does not adapt in training: give none")
    budgets = tuple(units) or (tuple(sorted({*_USUAL_UNITS, trained})) if trained else (0,))
    rows = [_row(_with_budget(experiment, budget), budget, iterations, is_over, turn) for budget in budgets]
    points = [point for row, _ in rows for point in row]
    return {"unit": adaptation.unit, "points": points, "is_complete": all(complete for _, complete in rows)}


def _with_budget(experiment: Experiment, units: int) -> Experiment:
    adaptation = declared_adaptation(experiment.config, experiment.algorithm)
    if units == adaptation.trained:
        return experiment
    episodes = experiment.config.training.episodes_per_task
    return experiment._replace(algorithm=adaptation.with_budget(units, episodes, "constant"))


def _with_tasks(experiment: Experiment, num_tasks: int) -> Experiment:
    config = experiment.config
    training = config.training.model_copy(update={"meta_batch_size": num_tasks})
    return experiment._replace(config=config.model_copy(update={"training": training}))


def _row(
    experiment: Experiment, units: int, iterations: int, is_over: Callable[[], bool], turn: Turn
) -> tuple[list[Point], bool]:
    """Larger and larger meta-batches, and whether there was time for all that tell something."""
    usual = experiment.config.training.meta_batch_size
    points: list[Point] = []
    best, num_tasks = 0.0, _smallest(usual)
    while not is_over():
        head = {"units": units, "meta_batch_size": num_tasks}
        try:
            point = head | _measure(_with_tasks(experiment, num_tasks), iterations, turn)
        except Refusal as refusal:
            points.append(head | {"refused": str(refusal)})
            if best or num_tasks >= usual:  # a meta-batch may be too small, for minibatches, or too large
                return points, True
        else:
            points.append(point)
            if point["env_steps_per_second"] < (1.0 + GAIN) * best:
                return points, True
            best = max(best, point["env_steps_per_second"])
        num_tasks *= 2
    return points, False


def _smallest(num_tasks: int) -> int:
    """An eighth of a meta-batch, or what halves to a whole number: what must divide the one may divide the other."""
    return next(num_tasks // 2**n for n in range(_HALVINGS, -1, -1) if num_tasks % 2**n == 0)


def _measure(experiment: Experiment, iterations: int, turn: Turn) -> Point:
    state, num_tasks = initial_state(experiment), experiment.config.training.meta_batch_size
    try:
        update = compile_update(experiment, state)
        with turn:
            steps = int(update.program(state)[1]["steps_taken"])
        parts = {name: part for name, part in make_parts(experiment).items() if name in _TIMED}
        programs = {**compile_all(parts, state), "total": update.program}
        timings = in_rounds(programs, state, iterations, _LONGEST, "total", turn)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise Refusal(META_BATCH, num_tasks, "does not fit the memory of the device") from error
    memory = memory_of(update.program)
    return {
        **summary(timings["total"]),
        **rates(timings, num_tasks, steps),
        "compile_seconds": update.compile_seconds,
        "memory_bytes": None if memory is None else memory.total,
    }
