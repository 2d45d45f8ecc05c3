"""How much memory the device program needs, and whether what there is will do."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import Refusal
from metarl_jax.collect.rollout import rollout
from metarl_jax.runs.build import Experiment
from metarl_jax.runs.processes import processes_here, together
from metarl_jax.types import Key, PyTree, TrainState

META_BATCH = "training.meta_batch_size"
NUM_TASKS = "evaluation.num_tasks"
_OPTIONS = {NUM_TASKS: "--tasks", "evaluation.episodes_per_task": "--episodes"}
"""Of ``metarl evaluate``, which takes no keys."""


class Memory(NamedTuple):
    """Bytes that a compiled program needs on each of its devices.

    Attributes:
      arguments: of what it takes: the training state.
      results: of what it gives.
      temporary: the most that it holds at any time besides, trajectories included.
      code: of the program itself.
    """

    arguments: int
    results: int
    temporary: int
    code: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def memory_of(compiled: Any) -> Memory | None:
    """What XLA has planned for a compiled program.

    Args:
      compiled: a ``jax.stages.Compiled``.

    Returns:
      Its memory; None if the backend does not tell.
    """
    stats = compiled.memory_analysis()
    if stats is None:
        return None
    results = stats.output_size_in_bytes - stats.alias_size_in_bytes
    sizes = stats.argument_size_in_bytes, results, stats.temp_size_in_bytes, stats.generated_code_size_in_bytes
    return Memory(*sizes)


def size_of(tree: PyTree) -> int:
    """Bytes of all arrays, or shapes, of a tree.

    Example:
      >>> size_of({"a": jax.ShapeDtypeStruct((2, 3), "float32")})
      24
    """
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def trajectory_bytes(experiment: Experiment, num_devices: int) -> int | None:
    """Bytes of the episodes that each device stores in an update: all stages of its tasks, advantages and targets.

    Args:
      experiment: what is trained.
      num_devices: that share the meta-batch.

    Returns:
      The bytes; None if the method does not declare how many stages it collects.
    """
    _, family, policy, algorithm, *_ = experiment
    training, adaptation = experiment.config.training, algorithm.adaptation
    if adaptation is None:
        return None

    def stages(key: Key) -> Any:
        params = algorithm.init(key).params
        if algorithm.collect is not None:
            return algorithm.collect(params, family.sample(key), key)[1]
        seen = rollout(family, policy, params, family.sample(key), key, training.episodes_per_task)
        return [(seen, seen.reward, seen.reward)] * adaptation.stages_per_update

    tasks = training.meta_batch_size // num_devices
    return tasks * size_of(jax.eval_shape(stages, jax.random.key(0)))


def kept_bytes(experiment: Experiment, num_devices: int) -> int:
    """Bytes of what each device keeps of its own, such as a replay of trials.

    Args:
      experiment: what is trained.
      num_devices: that share it.
    """
    return size_of(jax.eval_shape(experiment.algorithm.init, jax.random.key(0)).local) // num_devices


def bytes_beside_params(state: TrainState, num_devices: int = 1) -> int:
    """Bytes of a training state that stay on each device while its parameters are evaluated.

    Args:
      state: or its shapes; of several lanes with a leading axis.
      num_devices: that share what devices keep of their own.

    Example:
      >>> replay = jax.ShapeDtypeStruct((6, 2), "float32")
      >>> bytes_beside_params(TrainState(params=replay, opt_state=(), aux=(), step=np.int32(0), local=replay), 2)
      28
    """
    return size_of(state._replace(params=(), local=())) + size_of(state.local) // num_devices


def host_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Main memory that this process can have at most: the machine's, or what its control group allows.

    Args:
      meminfo: where the kernel tells the first.
      cgroup: where it tells the second, of either version.

    Returns:
      Bytes; None where the kernel does not tell.
    """
    limits = [
        int(file.read_text())
        for file in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes")
        if file.is_file() and file.read_text().strip().isdigit()
    ]
    if meminfo.is_file():
        limits += [
            1024 * int(line.split()[1]) for line in meminfo.read_text().splitlines() if line.startswith("MemTotal")
        ]
    return min(limits, default=None)


def process_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Main memory that this process has now: Python, the libraries, and what has been compiled; 0 if nobody tells.

    Args:
      status: where the kernel tells.

    Returns:
      Bytes.
    """
    return _kilobytes(status, "VmRSS:") if status.is_file() else 0


def _kilobytes(file: Path, name: str) -> int:
    """A number of bytes that one of the kernel's files gives in kB."""
    return next(1024 * int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(name))


def usable_bytes(devices: Sequence[jax.Device]) -> int | None:
    """Memory that a program can have on each of this process's devices: CPU devices share the machine's.

    Of several processes those with the same host name share it, as if all were as large as this one; containers, which
    have names of their own, do not.

    Args:
      devices: of one kind; if some are of other processes, these must ask, too.

    Returns:
      Bytes; None if nobody tells.
    """
    ours = [device for device in devices if device.process_index == jax.process_index()]
    if devices[0].platform == "cpu":
        whole, sharing = host_bytes(), processes_here() if len(ours) < len(devices) else 1
        return None if whole is None else (whole // sharing - process_bytes()) // len(ours)
    return (ours[0].memory_stats() or {}).get("bytes_limit")


def refuse_too_large(compiled: Any, experiment: Experiment, devices: Sequence[jax.Device]) -> None:
    """Refuse a program that cannot fit, before it runs.

    Args:
      compiled: the device program.
      experiment: what it trains.
      devices: where it would run.

    Raises:
      Refusal: naming what it needs, what there is, and which keys to change.
    """
    usable = _exceeded(compiled, devices)
    if usable is not None:
        end = remedy(experiment, len(devices), usable)
        needs = _needs("an update", compiled, usable)
        raise Refusal(META_BATCH, experiment.config.training.meta_batch_size, f"{needs}; {end}")


def compile_fitting(
    program: Any, lower: Callable[[], Any], refuse: Callable[[Any], None], devices: Sequence[jax.Device]
) -> Any:
    """Compile a program, and refuse it before it runs if it cannot fit; if it cannot on one process, on all.

    Among several, what ``pmap`` compiles does not take one process's share of the arguments. The program itself does,
    and finds what has been compiled.

    Args:
      program: of ``jax.jit`` or ``jax.pmap``.
      lower: what lowers it; among several processes, ``pmap`` needs arrays for it (see :func:`filled`).
      refuse: ``(compiled)``: raises if it cannot fit.
      devices: where it would run; if some are of other processes, these must compile it, too.

    Returns:
      What is called with the arguments.
    """
    if jax.process_count() == 1:
        compiled = lower().compile()
        refuse(compiled)
        return compiled

    def attempt() -> None:
        refuse(lower().compile())

    if any(device.process_index != jax.process_index() for device in devices):
        processes_here()  # is asked for while nothing can have failed here and not there
        together(attempt)
    else:
        attempt()
    return program


def filled(shapes: PyTree) -> PyTree:
    """Zeros in place of shapes; arrays stay as they are.

    Example:
      >>> filled((jax.ShapeDtypeStruct((2,), "int32"), 3.0))
      (array([0, 0], dtype=int32), 3.0)
    """
    return jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf, shapes
    )


class FittingEvaluation(NamedTuple):
    """An evaluation that is compiled once, and refused before it runs if it cannot fit.

    Attributes:
      compile: ``(*arguments) -> compiled``, of arguments or their shapes; all processes that share it must ask.
    """

    compile: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        """Evaluate, after compiling what is not yet compiled."""
        return self.compile(*arguments)(*arguments)


def fitting_evaluation(
    program: Any,
    experiment: Experiment,
    settings: Mapping[str, Any],
    devices: Sequence[jax.Device],
    is_trained: bool = False,
    beside: int = 0,
) -> FittingEvaluation:
    """Hold an evaluation to the memory there is.

    Args:
      program: of ``jax.jit`` or ``jax.pmap``.
      experiment: what it evaluates.
      settings: of the ``evaluation`` section.
      devices: where it would run.
      is_trained: see :func:`evaluation_remedy`.
      beside: bytes that each device holds meanwhile, of no use to the evaluation.

    Returns:
      The same function, which raises a :class:`Refusal` as :func:`refuse_too_large` does.
    """
    compiled: dict[Any, Any] = {}

    def refuse(made: Any) -> None:
        usable = _exceeded(made, devices, beside)
        if usable is not None:
            what = "an evaluation, with the training state," if beside else "an evaluation"
            needs, end = _needs(what, made, usable, beside), evaluation_remedy(experiment, settings, is_trained)
            raise Refusal(NUM_TASKS, settings["num_tasks"], f"{needs}; {end}")

    def compile_(*arguments: Any) -> Any:
        kind = tuple((np.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(arguments))
        if kind not in compiled:
            lowered_with = arguments if jax.process_count() == 1 else filled(arguments)
            compiled[kind] = compile_fitting(program, partial(program.lower, *lowered_with), refuse, devices)
        return compiled[kind]

    return FittingEvaluation(compile_)


def evaluation_remedy(experiment: Experiment, settings: Mapping[str, Any], is_trained: bool) -> str:
    """Which keys make an evaluation smaller: of tasks that come in chunks, their number hardly matters.

    Args:
      experiment: what does not fit.
      settings: of the ``evaluation`` section.
      is_trained: whether training is over, so that there are options of ``metarl evaluate``, and its keys are fixed.

    Returns:
      The end of a sentence.
    """
    at_once = experiment.algorithm.tasks_at_once
    keys = [] if at_once == 1 else [NUM_TASKS]
    if keys and not is_trained and settings.get("validation_tasks"):
        keys.append("evaluation.validation_tasks")
    keys = ["evaluation.episodes_per_task", *keys] if at_once else [*keys, "evaluation.episodes_per_task"]
    lower = f"lower {' or '.join(keys)}"
    if is_trained:
        return f"{lower} (metarl evaluate {', '.join(_OPTIONS[key] for key in keys)})"
    can_chunk = at_once != 1 and hasattr(experiment.config.algorithm, "task_chunk")
    return f"{lower}, or train with algorithm.task_chunk=1" if can_chunk else lower


def _exceeded(compiled: Any, devices: Sequence[jax.Device], beside: int = 0) -> int | None:
    """The bytes that each device has, if the program needs more."""
    memory, usable = memory_of(compiled), usable_bytes(devices)
    return usable if memory is not None and usable is not None and memory.total + beside > usable else None


def _needs(what: str, compiled: Any, usable: int, beside: int = 0) -> str:
    memory = memory_of(compiled)
    assert memory is not None
    return f"{what} needs {in_words(memory.total + beside)} of memory on each device, and {in_words(usable)} can be had"


def remedy(experiment: Experiment, num_devices: int, usable: int) -> str:
    """Which keys make an update smaller, those that change no number of it first.

    Args:
      experiment: what does not fit.
      num_devices: that share the meta-batch.
      usable: bytes of each.

    Returns:
      The end of a sentence.
    """
    algorithm = experiment.config.algorithm
    kept = kept_bytes(experiment, num_devices)
    if 2 * kept > usable and hasattr(algorithm, "replay_updates"):  # it is taken and given
        return f"lower algorithm.replay_updates (the replay alone takes twice {in_words(kept)}), or use more devices"
    stored = trajectory_bytes(experiment, num_devices) or 0
    helps = {
        "remat": getattr(algorithm, "remat", None) is False,
        "task_chunk": getattr(algorithm, "task_chunk", 1) is None,
    }
    keys = " ".join(f"algorithm.{key}=auto" for key, can_help in helps.items() if can_help)
    if keys and stored < usable:
        return f"set {keys} (the trajectories alone take {in_words(stored)}), or lower {META_BATCH}"
    return f"lower {META_BATCH}, training.episodes_per_task or tasks.horizon, or use more devices"


def in_words(size: float) -> str:
    """Bytes as people say them.

    Example:
      >>> in_words(3 * 2**29), in_words(5e6)
      ('1.5 GiB', '4.8 MiB')
    """
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
