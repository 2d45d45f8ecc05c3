"""How fast a config trains here: seconds, CPU seconds and bytes per meta-iteration, and what they are spent on."""

import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax

from metarl_jax.checks import checked
from metarl_jax.collect.randomness import stream
from metarl_jax.diagnostics.programs import blank_stages, make_derivatives, make_parts, update_once
from metarl_jax.diagnostics.timing import ALONE, Timings, Turn, difference, in_rounds, ratio, summary
from metarl_jax.plan.estimate import roofline
from metarl_jax.plan.kernels import launches, parse
from metarl_jax.plan.operations import Operations, operations
from metarl_jax.plan.targets import target_here
from metarl_jax.runs.build import Experiment, declared_adaptation
from metarl_jax.runs.fit import decided
from metarl_jax.runs.memory import memory_of, refuse_too_large
from metarl_jax.types import PositiveInt, TrainState

RATES = ("meta_iterations_per_second", "adaptations_per_second", "env_steps_per_second", "efficiency")
"""What :func:`rates` returns."""
_PROFILED = 3
_LONGEST = 60.0  # seconds after which no further round of timing begins


class Update(NamedTuple):
    """A compiled meta-iteration.

    Attributes:
      program: ``state -> (state, info)``.
      asked: operations of the traced program.
      lower_seconds: that tracing and lowering took.
      compile_seconds: that XLA took.
    """

    program: Any
    asked: Operations
    lower_seconds: float
    compile_seconds: float


def initial_state(experiment: Experiment) -> TrainState:
    """The state before the first update."""
    return experiment.algorithm.init(stream(experiment.config.seed, "initial_params"))


def compile_update(experiment: Experiment, state: TrainState) -> Update:
    """Compile a meta-iteration on one device.

    Args:
      experiment: what is trained.
      state: the first.

    Returns:
      The program, and how long it took.

    Raises:
      Refusal: if it cannot fit the device.
    """
    started = time.perf_counter()
    traced = jax.jit(partial(update_once, experiment)).trace(state)
    lowered = traced.lower()
    lowered_at = time.perf_counter()
    program = lowered.compile()
    compiled_at = time.perf_counter()
    refuse_too_large(program, experiment, jax.devices()[:1])
    return Update(program, operations(traced.jaxpr), lowered_at - started, compiled_at - lowered_at)


def compile_all(programs: Mapping[str, Callable[[Any], Any]], argument: Any) -> dict[str, Callable[[Any], Any]]:
    """Compile several programs side by side.

    Example:
      >>> compile_all({"double": lambda x: 2 * x}, jax.numpy.arange(2))["double"](jax.numpy.arange(2)).tolist()
      [0, 2]
    """
    lowered = [jax.jit(program).lower(argument) for program in programs.values()]
    with ThreadPoolExecutor() as pool:
        return dict(zip(programs, pool.map(lambda one: one.compile(), lowered), strict=True))


@checked
def benchmark(
    experiment: Experiment,
    name: str,
    iterations: PositiveInt = 10,
    profile: Path | None = None,
    turn: Turn = ALONE,
) -> dict[str, Any]:
    """Time whole meta-iterations and, separately, what they consist of, on one device.

    Programs that hold more and more of an update's work are timed in turn: the environment's steps (``physics``), with
    the policy acting (``rollout``), with advantages, with inner steps, and the whole. What each adds is a difference
    of two timings, taken round by round, and is marked where it is within noise. A method without gradient steps has no
    ``advantages`` of its own: they are part of ``outer``.

    Args:
      experiment: what to time; its meta-batch is used as configured.
      name: shown in the table.
      iterations: repetitions of each program, after one that is not counted; after a minute, none beyond three.
      profile: a folder for a trace of three iterations, which Perfetto opens.
      turn: is held while programs run, not while they compile.

    Returns:
      A JSON object. ``decided``: what ``auto`` was. ``per_iteration``: medians of ``seconds`` and ``cpu_seconds``
      with ``noise_seconds`` of the ``total``, ``rollout``, ``physics``, ``policy``, ``advantages``, ``inner`` and
      ``outer``. ``efficiency``: physics over total. ``adaptations_per_second``: tasks, adapted to without an
      outer step; None of a method that does not adapt in training. ``env_steps_per_second``: of the steps that
      the first update takes; ``computed_env_steps_per_second``: an episode that ends early is computed until its
      horizon. ``derivatives``: what those of a policy gradient's loss take, and their ratios, or None.
      ``achieved``: operations and bytes per second, beside the peaks of the device where they are known.
      ``lower_seconds``, ``compile_seconds``, ``memory_bytes`` and, of it, ``temporary_bytes`` of the compiled
      update; ``peak_bytes`` after its first run, of the device, or of this process on CPU. Hardware and versions.

    Raises:
      ConfigError: if the method does not declare how it adapts.
    """
    config, family, _, algorithm, *_ = experiment
    adaptation, training = declared_adaptation(config, algorithm), config.training
    state = initial_state(experiment)
    update = compile_update(experiment, state)
    with turn:
        steps = int(update.program(state)[1]["steps_taken"])
    peak, memory = _peak_bytes(), memory_of(update.program)
    parts = compile_all(make_parts(experiment), state)
    timings = in_rounds({**parts, "total": update.program}, state, iterations, _LONGEST, "total", turn)
    per_iteration = _split(timings)
    seconds = float(per_iteration["total"]["seconds"])
    computed = adaptation.stages_per_update * training.meta_batch_size * training.episodes_per_task * family.horizon
    return {
        "config": name,
        "iterations": len(timings["total"].seconds),
        "meta_batch_size": training.meta_batch_size,
        "decided": decided(experiment),
        "adaptation": {"unit": adaptation.unit, "trained": adaptation.trained},
        "per_iteration": per_iteration,
        "env_steps_per_iteration": steps,
        "computed_env_steps_per_iteration": computed,
        **rates(timings, training.meta_batch_size, steps),
        "computed_env_steps_per_second": computed / seconds,
        "derivatives": _derivatives(experiment, state, iterations, turn),
        "achieved": _achieved(update, family.horizon, seconds),
        "lower_seconds": update.lower_seconds,
        "compile_seconds": update.compile_seconds,
        "memory_bytes": None if memory is None else memory.total,
        "temporary_bytes": 0 if memory is None else memory.temporary,
        "peak_bytes": peak,
        **({} if profile is None else {"trace": str(_trace(update, state, profile, turn))}),
        "hardware": {"device": jax.devices()[0].device_kind, "backend": jax.default_backend(), "cpu": cpu_name()},
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("metarl-jax", "jax", "jaxlib", "flax", "optax", "brax")},
    }


def _split(timings: Mapping[str, Timings]) -> dict[str, dict[str, Any]]:
    """What each part adds to those before it."""
    total, rollouts = timings["total"], timings["rollout"]
    scored = timings.get("scored", rollouts)
    adapting = timings.get("adapt", scored)
    return {
        "total": summary(total),
        "rollout": summary(rollouts),
        "physics": summary(timings["physics"]),
        "policy": difference(rollouts, timings["physics"]),
        **({"advantages": difference(scored, rollouts)} if "scored" in timings else {}),
        "inner": difference(adapting, scored),
        "outer": difference(total, adapting),
    }


def rates(timings: Mapping[str, Timings], num_tasks: int, steps: int) -> dict[str, float | None]:
    """Work per second, and which part of the time is the environments'.

    Args:
      timings: of ``total``, ``physics`` and, if training adapts, ``adapt``.
      num_tasks: M.
      steps: environment steps that an update takes.

    Returns:
      ``meta_iterations_per_second``, ``adaptations_per_second``, ``env_steps_per_second``, ``efficiency``.
    """
    seconds = summary(timings["total"])["seconds"]
    return {
        "meta_iterations_per_second": 1.0 / seconds,
        "adaptations_per_second": num_tasks / summary(timings["adapt"])["seconds"] if "adapt" in timings else None,
        "env_steps_per_second": steps / seconds,
        "efficiency": ratio(timings["physics"], timings["total"]),
    }


def _derivatives(experiment: Experiment, state: TrainState, iterations: int, turn: Turn) -> dict[str, Any] | None:
    """What :func:`make_derivatives` makes take for a whole meta-batch, and two ratios."""
    stages = blank_stages(experiment)
    if stages is None:
        return None
    given = (state.params, stages)
    timings = in_rounds(compile_all(make_derivatives(experiment), given), given, iterations, _LONGEST, turn=turn)
    ratios = {"hvp_over_gradient": ratio(timings["hvp"], timings["gradient"])}
    if "second_order" in timings:
        ratios["second_over_first_order"] = ratio(timings["second_order"], timings["first_order"])
    return {name: summary(timing) for name, timing in timings.items()} | ratios


def _achieved(update: Update, horizon: int, seconds: float) -> dict[str, Any]:
    """Operations and bytes per second, and how near they come to what the device can do at most."""
    here = target_here(jax.devices()[0])
    name, target = here or (None, None)
    least, bandwidth = (0.0, 1.0) if target is None else (target.kernel_seconds, target.bandwidth)
    launched = launches(parse(update.program.as_text()), horizon, least, bandwidth)
    work = {"products": update.asked.products, "other_operations": update.asked.others, "bytes": launched.bytes}
    achieved: dict[str, Any] = {
        "per_iteration": {**work, "kernels": launched.kernels},
        "per_second": {part: amount / seconds for part, amount in work.items()},
        "target": name,
    }
    if target is None:
        return achieved
    peaks = {"products": target.products, "other_operations": target.others, "bytes": target.bandwidth}
    return achieved | {
        "peak_per_second": peaks,
        "of_peak": {part: rate / peaks[part] for part, rate in achieved["per_second"].items()},
        "estimated_seconds": roofline(update.asked, launched, target)["per_update"],
    }


def _trace(update: Update, state: TrainState, folder: Path, turn: Turn) -> Path:
    with turn, jax.profiler.trace(folder, create_perfetto_trace=True):
        for i in range(_PROFILED):
            with jax.profiler.StepTraceAnnotation("meta-iteration", step_num=i):
                state, _ = jax.block_until_ready(update.program(state))
    return max(folder.rglob("perfetto_trace.json.gz"), key=lambda file: file.stat().st_mtime)


def _peak_bytes() -> int:
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return int(stats["peak_bytes_in_use"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cpu_name() -> str:
    """The processor, as it calls itself."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
