"""The plan of a run: its device program compiled for hardware that need not be here, and what that tells."""

import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax

from metarl_jax.checks import Refusal
from metarl_jax.config import Config
from metarl_jax.plan.kernels import Launches, launches, parse
from metarl_jax.plan.operations import Operations, operations
from metarl_jax.plan.targets import HERE, Target, absent_devices, find_target, this_machine
from metarl_jax.runs.build import Experiment
from metarl_jax.runs.fit import Fit, settle
from metarl_jax.runs.memory import (
    Memory,
    bytes_beside_params,
    evaluation_remedy,
    kept_bytes,
    memory_of,
    process_bytes,
    remedy,
    trajectory_bytes,
)
from metarl_jax.runs.program import make_program

ASSUMPTIONS = (
    "products, other operations and kernels overlap, so the longest of the three is the time of an update",
    "products run at the highest rate of the hardware, other operations at that of its vector units",
    "a kernel takes the time of the bytes that it moves, and never less than its launch",
    "of a loop whose length depends on data one pass is counted",
)


class _Compiled(NamedTuple):
    """A device program for a target, and how it came about; ``memory`` is None and ``why`` says so if it is none."""

    experiment: Experiment
    fit: Fit
    asked: Operations
    launched: Launches
    memory: Memory | None
    process: int
    seconds: float
    why: str
    lower_evaluation: Callable[[], Any]


def plan(config: Config, target: str, *, confirm: bool = True) -> dict[str, Any]:
    """Compile a run's device program for a target, and say what an update needs and costs there.

    Args:
      config: what is to be trained.
      target: of :data:`metarl_jax.plan.targets.NAMES`.
      confirm: compile once more, with the largest meta-batch that memory seems to allow.

    Returns:
      A JSON object, all of it of one device: ``compiles`` and, if not, ``why``; ``memory``, in bytes, and whether it
      ``fits``; ``kernels``, ``operations`` and ``bytes`` of an update; ``seconds``, estimated as :data:`ASSUMPTIONS`
      say; of all devices together the ``largest_meta_batch``, and the ``compiled_meta_batch`` that surely fits. With
      ``evaluation.every`` also ``evaluation``: whether that ``compiles`` and, where that can be told, its ``memory``
      and whether it ``fits``.

    Raises:
      Refusal: if there is no such target, its compiler is not installed, or the config cannot be trained there.

    Example:
      >>> from metarl_jax.config import load_config
      >>> plan(load_config("configs/quickstart.yaml"), "h100")["memory"]["fits"]  # doctest: +SKIP
      True
    """
    if target == HERE:
        rates, devices = this_machine(), jax.devices()
    else:
        rates, devices = find_target(target), absent_devices(target)
    compiled = _compile(config, rates, devices)
    head = {"target": target, "devices": len(devices), "meta_batch_size": config.training.meta_batch_size}
    if compiled.memory is None:
        return head | {"compiles": False, "why": compiled.why}
    evaluation = {} if config.evaluation.every is None else {"evaluation": _evaluation(compiled, rates)}
    described = _described(compiled, compiled.memory, rates) | evaluation
    return head | described | _largest(config, compiled, rates, devices, confirm)


def _compile(config: Config, target: Target, devices: Sequence[Any]) -> _Compiled:
    usable = _usable(target, process_bytes())
    experiment, fit = settle(config, target.platform, usable, len(devices))
    program = make_program(experiment, devices)
    asked = operations(jax.make_jaxpr(program.mapped)(*program.shapes))
    if target.platform == "cpu":
        program.initial_state(config)  # as training does: what compiling for it takes stays with the process
    made = partial(_Compiled, experiment, fit, asked, lower_evaluation=program.lower_evaluation)
    started = time.perf_counter()
    try:
        compiled = _for_target(program.lowered, target)
    except jax.errors.JaxRuntimeError as error:
        seconds, process = time.perf_counter() - started, process_bytes()
        return made(Launches(), None, process, seconds, str(error).partition("\n")[0])
    seconds, process = time.perf_counter() - started, process_bytes()
    launched = launches(parse(compiled.as_text()), experiment.family.horizon, target.kernel_seconds, target.bandwidth)
    return made(launched, memory_of(compiled), process, seconds, "")


def _for_target(lowered: Any, target: Target) -> Any:
    """Compile. Which tiles suit a fused product is tried on a GPU; without one a guess may be refused: then unfused."""
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError:
        if target.gpu is None:
            raise
        return lowered.compile({"xla_gpu_enable_triton_gemm": False})


def _usable(target: Target, process: int) -> int:
    """Bytes that a program can have on each device: CPU devices share their memory with the process itself."""
    taken = process // target.devices if target.platform == "cpu" else 0
    return int(target.usable * target.memory) - taken


def _described(compiled: _Compiled, memory: Memory, target: Target) -> dict[str, Any]:
    experiment, launched, usable = compiled.experiment, compiled.launched, _usable(target, compiled.process)
    fits = memory.total <= usable
    process = {"process": compiled.process} if target.platform == "cpu" else {}
    kept = kept_bytes(experiment, target.devices)
    return {
        "compiles": True,
        "compile_seconds": compiled.seconds,
        "settings": compiled.fit.settings,
        "memory": {
            **memory._asdict(),
            **({"kept": kept} if kept else {}),
            "total": memory.total,
            "trajectories": trajectory_bytes(experiment, target.devices),
            **process,
            "usable": usable,
            "fits": fits,
            **({} if fits else {"remedy": remedy(experiment, target.devices, usable)}),
        },
        "kernels": {
            "per_update": launched.kernels,
            "per_environment_step": launched.kernels_per_step,
            "loops_of_unknown_length": launched.open_loops - 1,  # but for that over updates
        },
        "operations": compiled.asked._asdict(),
        "bytes": launched.bytes,
        "seconds": roofline(compiled.asked, launched, target),
        "assumptions": list(ASSUMPTIONS),
    }


def _evaluation(compiled: _Compiled, target: Target) -> dict[str, Any]:
    """The evaluation while training, a program of its own."""
    experiment, usable = compiled.experiment, _usable(target, compiled.process)
    try:
        memory = memory_of(_for_target(compiled.lower_evaluation(), target))
    except jax.errors.JaxRuntimeError as error:
        return {"compiles": False, "why": str(error).partition("\n")[0]}
    if memory is None:
        return {"compiles": True}
    state = jax.eval_shape(experiment.algorithm.init, jax.random.key(0))
    beside = bytes_beside_params(state, target.devices)
    total = memory.total + beside
    parts = memory._asdict() | {"training_state": beside, "total": total}
    planned = {"compiles": True, "memory": parts, "fits": total <= usable}
    if planned["fits"]:
        return planned
    return planned | {
        "remedy": evaluation_remedy(experiment, experiment.config.evaluation.model_dump(), is_trained=False)
    }


def roofline(asked: Operations, launched: Launches, target: Target) -> dict[str, float]:
    """Seconds of an update, estimated as :data:`ASSUMPTIONS` say, by what takes them.

    Args:
      asked: operations of the traced program.
      launched: kernels of the compiled one.
      target: what runs it.

    Returns:
      The parts, and ``per_update``: the longest of them.

    Example:
      >>> seconds = roofline(Operations(products=1e12), Launches(), find_target("h100"))
      >>> round(1e3 * seconds["per_update"], 2)
      2.02
    """
    parts = {
        "products": asked.products / target.products,
        "other_operations": asked.others / target.others,
        "memory": launched.bytes / target.bandwidth,
        "launches": launched.kernels * target.kernel_seconds,
        "kernels": launched.seconds,
    }
    return {**parts, "per_update": max(parts.values())}


def _largest(
    config: Config, compiled: _Compiled, target: Target, devices: Sequence[Any], confirm: bool
) -> dict[str, Any]:
    """The largest meta-batch that fits: memory is linear in the tasks, which a second compilation can tell."""
    memory, size = compiled.memory, config.training.meta_batch_size
    assert memory is not None
    usable = _usable(target, compiled.process)
    first = _whole(size * usable / memory.total, len(devices))  # what does not grow with the tasks counts as if it did
    if not confirm or first in (0, size):
        return {"largest_meta_batch": first, "compiled_meta_batch": None}
    # Minibatches and chunks divide a multiple of the config's tasks as they do these; fewer tasks, they may not.
    tried = first if first < size else max(_whole(first, size), 2 * size)
    training = config.training.model_copy(update={"meta_batch_size": tried})
    try:
        again = _compile(config.model_copy(update={"training": training}), target, devices)
    except Refusal:
        return {"largest_meta_batch": first, "compiled_meta_batch": None}
    needed = _used(again.why) if again.memory is None else again.memory.total
    if needed is None:
        return {"largest_meta_batch": first, "compiled_meta_batch": None}
    per_task = (needed - memory.total) / (tried - size)
    final = _whole(size + (usable - memory.total) / per_task, len(devices))
    fits = again.memory is not None and needed <= usable
    return {"largest_meta_batch": final, "compiled_meta_batch": tried if fits else None}


def _used(why: str) -> int | None:
    """What a program would need whose compilation fails for want of memory, if the message tells."""
    found = re.search(r"Used ([\d.]+)([KMG])i?B? of", why)
    return found and int(float(found[1]) * 1024 ** (1 + "KMG".index(found[2])))


def _whole(tasks: float, unit: int) -> int:
    return int(tasks) // unit * unit
