"""The device program: one mapped function that runs outer updates of a group of lanes, and the states it takes.

A lane is one run: a seed, and the numbers of its config that may be traced. Lanes of a group differ in nothing else, so
one compiled program serves them all. With at least as many lanes as devices each device has lanes of its own; with
fewer, all devices share the tasks of one lane after the other.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from metarl_jax.checks import Refusal, some
from metarl_jax.collect.randomness import fold_in_each, stream
from metarl_jax.config import Config, ConfigError, Values, check_devices, static_part, traced_values
from metarl_jax.runs.build import Experiment
from metarl_jax.runs.memory import bytes_beside_params, compile_fitting, filled, fitting_evaluation, refuse_too_large
from metarl_jax.runs.monitor import monitor, num_monitored
from metarl_jax.runs.shares import deal, join
from metarl_jax.types import Array, Info, MetaAlgorithm, Params, PyTree, TrainState

AXIS = "devices"
_Evaluate = Callable[[TrainState, Sequence[Config]], list[Info]]


class Program(NamedTuple):
    """The device program of a group of lanes. Every lane that has the static part of the experiment's config fits.

    Attributes:
      experiment: what is trained.
      devices: what it is trained on.
      width: lanes that one call advances, side by side.
      mapped: the mapped function, ``(state, seed, values, count, task indices) -> (state, infos)``.
      shapes: of what it takes.
      lowered: the same, ready to be compiled; None among several processes.
      compile: compiles it, once, and what ``evaluate`` needs if ``evaluation.every`` is set, and refuses what does not
        fit. All processes must ask.
      initial_state: ``(config) -> state``: before the first update, as of one device.
      place: ``(states) -> placed``: the states of ``width`` lanes, on the devices, the way that ``run`` returns them.
      run: ``(placed, configs, counts) -> (placed, infos)``: so many outer updates of each lane; each info has a leading
        axis of ``updates_per_visit``, filled up to its count. It compiles what is not yet compiled: numbers of updates
        up to ``updates_per_visit``, seeds and traced numbers are all arguments.
      gather: ``(placed) -> states``: as of one device. All processes must ask.
      evaluate: ``(placed, configs) -> infos``: of each lane, see :func:`metarl_jax.runs.monitor.monitor`; the
        parameters stay where they are. A program of its own. All processes must ask.
      lower_evaluation: ``() -> lowered``: that program, ready to be compiled; not among several processes.
    """

    experiment: Experiment
    devices: Sequence[jax.Device]
    width: int
    mapped: Any
    shapes: tuple[Any, ...]
    lowered: Any
    compile: Callable[[], Any]
    initial_state: Callable[[Config], TrainState]
    place: Callable[[Sequence[TrainState]], TrainState]
    run: Callable[[TrainState, Sequence[Config], Sequence[int]], tuple[TrainState, list[Info]]]
    gather: Callable[[TrainState], list[TrainState]]
    evaluate: _Evaluate
    lower_evaluation: Callable[[], Any]


class _Evaluation(NamedTuple):
    """What ``evaluation.every`` asks for; see :class:`Program`."""

    lower: Callable[[], Any]
    compile: Callable[[], Any]
    run: _Evaluate


def make_program(experiment: Experiment, devices: Sequence[jax.Device], num_lanes: int = 1) -> Program:
    """Trace the device program: whatever a config asks for in vain is refused here, before anything is compiled.

    Random numbers are addressed by the update's number and the *global* index of the task, so results do not depend on
    the number of devices, up to the rounding of sums.

    Args:
      experiment: what to train.
      devices: all devices of all processes.
      num_lanes: how many lanes will go through it.

    Returns:
      The program.

    Raises:
      ValueError: if a combination of values cannot work, naming the key, the value and the remedy.

    Example:
      >>> import metarl_jax as mrl
      >>> run = mrl.build({"tasks": {"name": "navigation_finn", "horizon": 5}, "algorithm": {"name": "maml"}})
      >>> from metarl_jax.runs.build import build
      >>> make_program(build(run.config), jax.devices()[:1], num_lanes=3).width
      1
    """
    if num_lanes >= len(devices):
        if jax.process_count() > 1:
            raise ConfigError(f"{num_lanes} runs in one program are for one process: start 'metarl sweep' on each host")
        return _lanes_apart(experiment, devices, lanes_per_device(num_lanes, devices))
    check_devices(experiment.config, len(devices))
    return _tasks_shared(experiment, devices)


def lanes_per_device(num_lanes: int, devices: Sequence[jax.Device]) -> int:
    """Lanes that a device advances in one batch: a core goes through its lanes one by one, an accelerator takes all.

    Example:
      >>> lanes_per_device(5, jax.devices("cpu")[:1])
      1
    """
    return 1 if devices[0].platform == "cpu" else -(-num_lanes // len(devices))


def check_lanes(configs: Sequence[Config]) -> None:
    """Refuse runs that cannot share a program.

    Args:
      configs: of the runs.

    Raises:
      ConfigError: naming the keys that differ and may not.

    Example:
      >>> from metarl_jax.config import config_from_dict
      >>> check_lanes([config_from_dict({"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "maml"}})])
    """
    first, *others = (_flat(static_part(config)) for config in configs)
    differ = sorted(
        {key for other in others for key in first.keys() | other.keys() if first.get(key) != other.get(key)}
    )
    if differ:
        raise ConfigError(
            f"{some(differ)}: not the same in all of these runs, so they need programs of their own: train them one by "
            "one; a seed, and numbers that 'metarl list NAME' marks as traced, may differ, as long as as many are "
            "given"
        )


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{section}.{key}": value
        for section, keys in tree.items()
        for key, value in (keys if isinstance(keys, dict) else {"": keys}).items()
    }


def _tasks_shared(experiment: Experiment, devices: Sequence[jax.Device]) -> Program:
    """One lane at a time, whose tasks all devices share."""
    indices = np.arange(experiment.config.training.meta_batch_size, dtype=np.uint32).reshape(len(devices), -1)[
        _is_ours(devices)
    ]
    of_state = TrainState._make(0 if name == "local" else None for name in TrainState._fields)
    in_axes = (of_state, None, None, None, 0)
    updates = partial(_updates, experiment, AXIS)
    mapped = jax.pmap(updates, axis_name=AXIS, in_axes=in_axes, out_axes=(of_state, None), devices=devices)
    place = partial(_share_out, devices=devices)
    state = jax.eval_shape(partial(_initial, experiment), *_lane(experiment.config))
    shares = jax.eval_shape(partial(deal, num_devices=len(devices)), state.local)
    ours = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((len(indices), *leaf.shape[1:]), leaf.dtype), shares)
    shapes = (state._replace(local=ours), *_lane(experiment.config), np.int32(0), indices)
    is_alone = jax.process_count() == 1  # among several processes pmap lowers arrays only
    traced = jax.vmap(updates, in_axes=in_axes, axis_name=AXIS)
    lowered = _traced(experiment, mapped.lower if is_alone else partial(jax.eval_shape, traced), *shapes)

    evaluation = _evaluation_shared(experiment, devices, state)

    def lower(*arguments: Any) -> Any:
        return lowered if is_alone else mapped.lower(*(arguments or filled(shapes)))

    compiled = _compiled_once(mapped, lower, experiment, devices, evaluation.compile)

    def run(state: TrainState, configs: Sequence[Config], counts: Sequence[int]) -> tuple[TrainState, list[Info]]:
        arguments = state, *_lane(configs[0]), np.int32(counts[0]), indices
        state, infos = compiled(*arguments)(*arguments)
        # Queued calls with collectives can deadlock virtual CPU devices: wait for each one.
        state, infos = jax.block_until_ready((state, infos))
        return state, [infos]

    return Program(
        experiment=experiment,
        devices=devices,
        width=1,
        mapped=mapped,
        shapes=shapes,
        lowered=lowered if is_alone else None,
        compile=compiled,
        initial_state=initialiser(experiment),
        place=lambda states: place(states[0]),
        run=run,
        gather=lambda placed: [_collect(placed, devices)],
        evaluate=evaluation.run,
        lower_evaluation=evaluation.lower,
    )


def _lanes_apart(experiment: Experiment, devices: Sequence[jax.Device], per_device: int) -> Program:
    """Each device has lanes of its own, with all of their tasks."""
    width, is_batched = len(devices) * per_device, per_device > 1
    leading = (len(devices), per_device) if is_batched else (len(devices),)
    indices = np.arange(experiment.config.training.meta_batch_size, dtype=np.uint32)
    one = partial(_updates, experiment, None)
    each = jax.vmap(one, in_axes=(0, 0, 0, 0, None)) if is_batched else one
    mapped = jax.pmap(each, axis_name=AXIS, in_axes=(0, 0, 0, 0, None), devices=devices)
    sharding = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec(AXIS))

    def stack(lanes: Sequence[PyTree]) -> PyTree:
        return jax.tree.map(
            lambda *of: np.stack([np.asarray(x) for x in of]).reshape(*leading, *np.shape(of[0])), *lanes
        )

    def arguments(configs: Sequence[Config], counts: Sequence[int]) -> PyTree:
        return stack([(*_lane(config), np.int32(count)) for config, count in zip(configs, counts, strict=True)])

    def place(states: Sequence[TrainState]) -> TrainState:
        return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding), stack(states))

    def split(stacked: PyTree) -> list[Any]:
        flat = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(width, *leaf.shape[len(leading) :]), stacked)
        return [jax.tree.map(itemgetter(lane), flat) for lane in range(width)]

    state = jax.eval_shape(partial(_initial, experiment), *_lane(experiment.config))
    stacked = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*leading, *leaf.shape), leaf.dtype), state)
    shapes = (stacked, *arguments([experiment.config] * width, [0] * width), indices)
    lowered = _traced(experiment, mapped.lower, *shapes)

    evaluation = _evaluation_apart(experiment, devices, stacked, stack, split, is_batched)
    compiled = _compiled_once(mapped, lambda: lowered, experiment, devices, evaluation.compile)

    def run(state: TrainState, configs: Sequence[Config], counts: Sequence[int]) -> tuple[TrainState, list[Info]]:
        state, infos = compiled()(state, *arguments(configs, counts), indices)
        return state, split(infos)

    return Program(
        experiment=experiment,
        devices=devices,
        width=width,
        mapped=mapped,
        shapes=shapes,
        lowered=lowered,
        compile=compiled,
        initial_state=initialiser(experiment),
        place=place,
        run=run,
        gather=split,
        evaluate=evaluation.run,
        lower_evaluation=evaluation.lower,
    )


def _lane(config: Config) -> tuple[np.uint32, Values]:
    """What tells lanes of one program apart."""
    return np.uint32(config.seed), traced_values(config)


def _initial(experiment: Experiment, seed: Array, values: Values) -> TrainState:
    return _remade(experiment, values).init(stream(seed, "initial_params"))


def _remade(experiment: Experiment, values: Values) -> MetaAlgorithm:
    """The algorithm of a lane; a factory of the user's own may mark numbers as traced that it cannot trace."""
    try:
        return experiment.remake(values)
    except jax.errors.ConcretizationTypeError as error:
        names = (
            f"policy.name = {experiment.config.policy.name!r}, algorithm.name = {experiment.config.algorithm.name!r}"
        )
        remedy = "one of them decides by the value of a number that it marks as Traced: use jnp.where, or drop the mark"
        raise ConfigError(f"{names}: {remedy} ({str(error).partition(chr(10))[0]})") from error


def initialiser(experiment: Experiment) -> Callable[[Config], TrainState]:
    """``(config) -> state``: before the first update; of all lanes of the experiment, compiled once."""
    initial = jax.jit(partial(_initial, experiment))
    return lambda config: initial(*_lane(config))


def _updates(
    experiment: Experiment,
    axis_name: str | None,
    state: TrainState,
    seed: Array,
    values: Values,
    count: Array,
    indices: Array,
) -> tuple[TrainState, Info]:
    """``count`` outer updates of one lane, on this device's tasks; infos with an axis of ``updates_per_visit``."""
    family, algorithm = experiment.family, _remade(experiment, values)
    capacity = experiment.config.training.updates_per_visit

    @jax.jit  # traced once for its shapes and for the loop
    def update(state: TrainState, seed: Array, indices: Array) -> tuple[TrainState, Info]:
        keys = fold_in_each(jax.random.fold_in(stream(seed, "training"), state.step), indices)
        key_task, key_data = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        return algorithm.update(state, jax.vmap(family.sample)(key_task), key_data, axis_name=axis_name)

    _, shapes = jax.eval_shape(update, state, seed, indices)
    _check_info(experiment, shapes)
    buffer = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)

    def body(i: Array, carry: tuple[TrainState, Info]) -> tuple[TrainState, Info]:
        state, buffer = carry
        state, info = update(state, seed, indices)
        return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), buffer, info)

    return jax.lax.fori_loop(0, count, body, (state, buffer))


def _evaluation_shared(experiment: Experiment, devices: Sequence[jax.Device], state: TrainState) -> _Evaluation:
    """The evaluation of the one lane that all devices share: its tasks are dealt out."""
    number = num_monitored(experiment.config)
    share = -(-number // len(devices))  # where they do not come out even, the first are adapted to once more
    indices = (np.arange(share * len(devices)) % number).reshape(len(devices), share)[_is_ours(devices)]
    in_axes = (None, None, None, 0)
    measure = partial(_monitor, experiment, AXIS)
    mapped = jax.pmap(measure, axis_name=AXIS, in_axes=in_axes, out_axes=None, devices=devices)
    beside, settings = bytes_beside_params(state, len(devices)), experiment.config.evaluation.model_dump()
    measured = fitting_evaluation(mapped, experiment, settings, devices, beside=beside)
    trace = partial(jax.eval_shape, jax.vmap(measure, in_axes=in_axes, axis_name=AXIS))
    shapes = (state.params, state.step, traced_values(experiment.config), indices)
    _check_monitor(experiment, trace, *shapes)

    def evaluate(state: TrainState, configs: Sequence[Config]) -> list[Info]:
        info = measured(state.params, state.step, traced_values(configs[0]), indices)
        return [jax.tree.map(lambda leaf: np.asarray(leaf)[:number], jax.block_until_ready(info))]

    return _Evaluation(partial(mapped.lower, *shapes), partial(measured.compile, *shapes), evaluate)


def _evaluation_apart(
    experiment: Experiment,
    devices: Sequence[jax.Device],
    state: TrainState,
    stack: Callable[[Sequence[PyTree]], PyTree],
    split: Callable[[PyTree], list[Any]],
    is_batched: bool,
) -> _Evaluation:
    """The evaluation of lanes where they are, each on all tasks."""
    indices = np.arange(num_monitored(experiment.config))
    one, in_axes = partial(_monitor, experiment, None), (0, 0, 0, None)
    each = jax.vmap(one, in_axes=in_axes) if is_batched else one
    mapped = jax.pmap(each, axis_name=AXIS, in_axes=in_axes, devices=devices)
    beside, settings = bytes_beside_params(state) // len(devices), experiment.config.evaluation.model_dump()
    measured = fitting_evaluation(mapped, experiment, settings, devices, beside=beside)
    values = stack([traced_values(experiment.config)] * state.step.size)
    shapes = (state.params, state.step, values, indices)
    _check_monitor(experiment, mapped.lower, *shapes)

    def evaluate(state: TrainState, configs: Sequence[Config]) -> list[Info]:
        values = stack([traced_values(config) for config in configs])
        return split(measured(state.params, state.step, values, indices))

    return _Evaluation(partial(mapped.lower, *shapes), partial(measured.compile, *shapes), evaluate)


def _monitor(
    experiment: Experiment, axis_name: str | None, params: Params, step: Array, values: Values, indices: Array
) -> Info:
    """Evaluate one lane on some of the tasks; what several devices found is put together."""
    info = monitor(experiment, _remade(experiment, values), params, step, indices)
    return info if axis_name is None else jax.lax.all_gather(info, axis_name, tiled=True)


def _check_monitor(experiment: Experiment, trace: Callable[..., Any], *shapes: Any) -> None:
    """Refuse an evaluation that cannot work before anything is compiled, if there is to be one."""
    if experiment.config.evaluation.every is not None:
        _traced(experiment, trace, *shapes)


def _check_info(experiment: Experiment, info: Info) -> None:
    name, returns = experiment.config.algorithm.name, info.get("return")
    if returns is None or returns.ndim != 1:
        raise ConfigError(
            f"algorithm.name = {name!r}: its update must report 'return', the mean of each stage, in info"
        )
    if experiment.algorithm.adaptation is None and "steps_taken" not in info:
        raise ConfigError(
            f"algorithm.name = {name!r}: it must declare its adaptation, or its update report 'steps_taken' in info: "
            "else environment steps cannot be counted"
        )


def _traced(experiment: Experiment, trace: Callable[..., Any], *arguments: Any) -> Any:
    """Trace the updates; a refusal of one of the algorithm's settings names the section too."""
    try:
        return trace(*arguments)
    except Refusal as refusal:
        if isinstance(refusal, ConfigError) or refusal.name not in type(experiment.config.algorithm).model_fields:
            raise
        raise ConfigError(f"algorithm.{refusal}") from refusal


def _compiled_once(
    mapped: Any,
    lower: Callable[..., Any],
    experiment: Experiment,
    devices: Sequence[jax.Device],
    compile_evaluation: Callable[[], Any],
) -> Callable[..., Any]:
    """What compiles the program when it is first called, if it fits and so does the evaluation there is to be.

    It takes what ``lower`` does: the arguments, if they are there already.
    """
    refuse = partial(refuse_too_large, experiment=experiment, devices=devices)
    programs: list[Any] = []

    def compiled(*arguments: Any) -> Any:
        if not programs:
            program = compile_fitting(mapped, partial(lower, *arguments), refuse, devices)
            if experiment.config.evaluation.every is not None:
                compile_evaluation()
            programs.append(program)
        return programs[0]

    return compiled


def _is_ours(devices: Sequence[jax.Device]) -> np.ndarray:
    """Which of the devices are this process's."""
    return np.array([device.process_index == jax.process_index() for device in devices])


def _shardings(devices: Sequence[jax.Device]) -> tuple[NamedSharding, NamedSharding]:
    """How a state is placed: a copy on every device; an item of ``local`` on each of this process's."""
    ours = [device for device, is_here in zip(devices, _is_ours(devices), strict=True) if is_here]
    everywhere = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())
    return everywhere, NamedSharding(Mesh(np.asarray(ours), (AXIS,)), PartitionSpec(AXIS))


def _share_out(state: TrainState, devices: Sequence[jax.Device]) -> TrainState:
    """A copy on every device, but of ``local`` each one's share: ``[devices of this process, items of each, ...]``."""
    everywhere, one_each = _shardings(devices)
    is_ours = _is_ours(devices)
    shares = deal(jax.device_get(state.local), len(devices))
    placed = jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(everywhere, np.asarray(leaf)), state._replace(local=())
    )
    return placed._replace(local=jax.tree.map(lambda leaf: jax.device_put(leaf[is_ours], one_each), shares))


def _collect(state: TrainState, devices: Sequence[jax.Device]) -> TrainState:
    """Undo ``_share_out`` for ``local``, on the host: the state as of one device."""
    # Processes answer in the order of their numbers, which need not be that of the devices.
    order = np.argsort(np.argsort([device.process_index for device in devices], kind="stable"))

    def of_all_devices(share: Array) -> np.ndarray:
        if jax.process_count() == 1:
            return np.asarray(share)
        by_process = multihost_utils.process_allgather(np.asarray(share))
        return np.asarray(by_process.reshape(len(devices), *share.shape[1:])[order])

    return state._replace(local=join(jax.tree.map(of_all_devices, state.local)))
