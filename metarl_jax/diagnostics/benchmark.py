"""How fast a config trains here: seconds, CPU seconds and bytes per meta-iteration."""

import platform
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import checked
from metarl_jax.collect.randomness import fold_in_each, stream
from metarl_jax.collect.rollout import rollout
from metarl_jax.ops import trees
from metarl_jax.runs.build import Experiment, declared_adaptation
from metarl_jax.types import Array, Info, Key, PositiveInt, Task, TrainState


@checked
def benchmark(experiment: Experiment, name: str, iterations: PositiveInt = 10) -> dict[str, Any]:
    """Time whole meta-iterations and, separately, what they consist of, on one device.

    The split comes from three programs: the whole update, adaptation alone (rollouts and inner steps), and the
    rollouts alone. ``inner`` and ``outer`` are differences of two timings: 0 where noise exceeds them. A method that
    does not adapt in training (``pretraining``) has no ``inner``.

    Args:
      experiment: what to time; its meta-batch is used as configured.
      name: shown in the table.
      iterations: repetitions of each program, after one that is not counted.

    Returns:
      A JSON object with ``per_iteration`` (``total``, ``rollout``, ``inner``, ``outer``: ``seconds`` and
      ``cpu_seconds``), ``env_steps_per_second`` (of the steps that the first update takes) and
      ``computed_env_steps_per_second`` (an episode that ends early is computed until its horizon), ``lower_seconds``,
      ``compile_seconds``, ``temporary_bytes`` (of the compiled update), ``peak_bytes`` (of the device, or of this
      process on CPU), hardware and versions.

    Raises:
      ConfigError: if the method does not declare how it adapts.
    """
    config, family, _, algorithm, *_ = experiment
    state = algorithm.init(stream(config.seed, "initial_params"))
    update, adapt, rollouts = _programs(experiment)
    adaptation = declared_adaptation(config, algorithm)
    num_stages, adapts = adaptation.stages_per_update, adaptation.trained > 0

    started = time.perf_counter()
    lowered = jax.jit(update).lower(state)
    lowered_at = time.perf_counter()
    compiled = lowered.compile()
    compiled_at = time.perf_counter()

    steps = int(compiled(state)[1]["steps_taken"])
    total = _time(compiled, state, iterations, advance=True)
    collection = _time(jax.jit(partial(rollouts, num_stages)).lower(state).compile(), state, iterations)
    adapting = _time(jax.jit(adapt).lower(state).compile(), state, iterations) if adapts else collection
    computed = num_stages * config.training.meta_batch_size * config.training.episodes_per_task * family.horizon
    return {
        "config": name,
        "iterations": iterations,
        "per_iteration": {
            "total": total,
            "rollout": collection,
            "inner": _difference(adapting, collection),
            "outer": _difference(total, adapting),
        },
        "env_steps_per_iteration": steps,
        "computed_env_steps_per_iteration": computed,
        "env_steps_per_second": steps / total["seconds"],
        "computed_env_steps_per_second": computed / total["seconds"],
        "lower_seconds": lowered_at - started,
        "compile_seconds": compiled_at - lowered_at,
        "temporary_bytes": int(getattr(compiled.memory_analysis(), "temp_size_in_bytes", 0)),
        "peak_bytes": _peak_bytes(),
        "hardware": {"device": jax.devices()[0].device_kind, "backend": jax.default_backend(), "cpu": cpu_name()},
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("metarl-jax", "jax", "jaxlib", "flax", "optax", "brax")},
    }


class _Programs(NamedTuple):
    """A whole update; its adaptation alone; ``(stages, state)``: the rollouts of so many stages alone."""

    update: Callable[[TrainState], tuple[TrainState, Info]]
    adapt: Callable[[TrainState], Any]
    rollouts: Callable[[int, TrainState], Any]


def tasks_and_keys(experiment: Experiment, step: Array) -> tuple[Task, Key]:
    """A meta-batch of tasks, and a key for each."""
    indices = jnp.arange(experiment.config.training.meta_batch_size)
    keys = fold_in_each(jax.random.fold_in(stream(experiment.config.seed, "training"), step), indices)
    return jax.vmap(experiment.family.sample)(keys), keys


def update_once(experiment: Experiment, state: TrainState) -> tuple[TrainState, Info]:
    """One meta-iteration on one device, tasks drawn and all; to be compiled."""
    return experiment.algorithm.update(state, *tasks_and_keys(experiment, state.step))


def _programs(experiment: Experiment) -> _Programs:
    config, family, policy, algorithm, *_ = experiment
    at_once = algorithm.tasks_at_once

    def adapt(state: TrainState) -> Any:
        def of_task(one: tuple[Task, Key]) -> Any:
            return algorithm.adapt(state.params, *one)

        return trees.over_tasks(of_task, tasks_and_keys(experiment, state.step), at_once)

    def rollouts(num_stages: int, state: TrainState) -> Any:
        tasks, keys = tasks_and_keys(experiment, state.step)

        def one_stage(k: Array) -> Any:
            def of_task(one: tuple[Task, Key]) -> Any:
                task, key = one[0], jax.random.fold_in(one[1], k)
                data = rollout(family, policy, state.params, task, key, config.training.episodes_per_task)
                return jax.tree.map(jnp.sum, (data.reward, data.log_prob, data.percept.observation))

            return trees.over_tasks(of_task, (tasks, keys), at_once)

        return jax.lax.map(one_stage, jnp.arange(num_stages))

    return _Programs(partial(update_once, experiment), adapt, rollouts)


def _time(
    program: Callable[[TrainState], Any], state: TrainState, iterations: int, advance: bool = False
) -> dict[str, float]:
    """Median wall seconds and mean CPU seconds (of all threads) per call."""
    result = jax.block_until_ready(program(state))
    seconds = []
    cpu_started = time.process_time()
    for _ in range(iterations):
        state = result[0] if advance else state
        started = time.perf_counter()
        result = jax.block_until_ready(program(state))
        seconds.append(time.perf_counter() - started)
    return {"seconds": float(np.median(seconds)), "cpu_seconds": (time.process_time() - cpu_started) / iterations}


def _difference(whole: dict[str, float], part: dict[str, float]) -> dict[str, float]:
    return {key: max(0.0, whole[key] - part[key]) for key in whole}


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
