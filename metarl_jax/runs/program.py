"""The device program: one mapped function that runs outer updates, and the states it takes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from metarl_jax.collect.randomness import fold_in_each, stream
from metarl_jax.runs.build import Experiment
from metarl_jax.runs.memory import refuse_too_large
from metarl_jax.runs.shares import deal, join
from metarl_jax.types import Array, Info, PyTree, TrainState

AXIS = "devices"
RunUpdates = Callable[[TrainState, int, int], tuple[TrainState, Info]]


def make_run_updates(experiment: Experiment, devices: Sequence[jax.Device]) -> RunUpdates:
    """Compile-once device function: ``(state, seed, count) -> (state, infos)`` runs ``count`` outer updates.

    The meta-batch is split over the devices by ``jax.pmap``. Random numbers are addressed by the update's number and
    the *global* index of the task, so results do not depend on the number of devices, up to the rounding of sums.
    ``count`` is traced: any number up to ``updates_per_visit`` runs the same program.

    Args:
      experiment: what to train.
      devices: all devices of all processes that share the meta-batch.

    Returns:
      The function of a placed state. ``infos`` has a leading axis of ``updates_per_visit``, filled up to ``count``.

    Raises:
      Refusal: if it needs more memory than the devices have, with the keys to change.
    """
    mapped = map_updates(experiment, devices)
    if jax.process_count() == 1:  # else only what is placed can be lowered
        # Calls find the program compiled.
        refuse_too_large(mapped.lower(*argument_shapes(experiment, devices)).compile(), experiment, devices)
    task_indices = _local_task_indices(experiment.config.training.meta_batch_size, devices)

    def run_updates(state: TrainState, seed: int, count: int) -> tuple[TrainState, Info]:
        state, infos = mapped(state, np.uint32(seed), np.int32(count), task_indices)
        # Queued calls with collectives can deadlock virtual CPU devices: wait for each one.
        return jax.block_until_ready((state, infos))

    return run_updates


def map_updates(experiment: Experiment, devices: Sequence[jax.Device]) -> Any:
    """The mapped function of :func:`make_run_updates`, which can be lowered for devices that are not here.

    Args:
      experiment: what to train.
      devices: that share the meta-batch.

    Returns:
      ``(state, seed, count, task indices) -> (state, infos)``; :func:`argument_shapes` has what it takes.
    """
    family, algorithm = experiment.family, experiment.algorithm
    capacity = experiment.config.training.updates_per_visit

    def update(state: TrainState, seed: Array, indices: Array) -> tuple[TrainState, Info]:
        keys = fold_in_each(jax.random.fold_in(stream(seed, "training"), state.step), indices)
        key_task, key_data = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        return algorithm.update(state, jax.vmap(family.sample)(key_task), key_data, axis_name=AXIS)

    def run(state: TrainState, seed: Array, count: Array, indices: Array) -> tuple[TrainState, Info]:
        _, shapes = jax.eval_shape(update, state, seed, indices)
        buffer = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)

        def body(i: Array, carry: tuple[TrainState, Info]) -> tuple[TrainState, Info]:
            state, buffer = carry
            state, info = update(state, seed, indices)
            return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), buffer, info)

        return jax.lax.fori_loop(0, count, body, (state, buffer))

    of_state = TrainState._make(0 if name == "local" else None for name in TrainState._fields)
    return jax.pmap(run, axis_name=AXIS, in_axes=(of_state, None, None, 0), out_axes=(of_state, None), devices=devices)


def argument_shapes(experiment: Experiment, devices: Sequence[jax.Device]) -> tuple[Any, ...]:
    """The shapes of what the mapped function takes; nothing is computed.

    Args:
      experiment: what to train.
      devices: that share the meta-batch.

    Returns:
      Of the placed state, the seed, the count, and the task indices.
    """
    everywhere, one_each = _shardings(devices)

    def placed(sharding: NamedSharding | None, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)

    state = jax.eval_shape(experiment.algorithm.init, jax.random.key(0))
    shares = jax.eval_shape(partial(deal, num_devices=len(devices)), state.local)
    state = placed(everywhere, state._replace(local=()))._replace(local=placed(one_each, shares))
    task_indices = _local_task_indices(experiment.config.training.meta_batch_size, devices)
    return state, *placed(None, (np.uint32(0), np.int32(0), task_indices))


def _local_task_indices(meta_batch_size: int, devices: Sequence[jax.Device]) -> np.ndarray:
    """Global task indices of this process's devices, ``[local devices, tasks per device]``."""
    per_device = np.arange(meta_batch_size, dtype=np.uint32).reshape(len(devices), -1)
    return per_device[_is_ours(devices)]


def _is_ours(devices: Sequence[jax.Device]) -> np.ndarray:
    """Which of the devices are this process's."""
    return np.array([device.process_index == jax.process_index() for device in devices])


def initial_state(experiment: Experiment, devices: Sequence[jax.Device]) -> TrainState:
    """The state before the first update, on the devices.

    Args:
      experiment: what to train.
      devices: where it is trained.

    Returns:
      The placed state.
    """
    return place(experiment.algorithm.init(stream(experiment.config.seed, "initial_params")), devices)


def place(state: TrainState, devices: Sequence[jax.Device]) -> TrainState:
    """Put a state on the devices the way the mapped function returns it, so that it compiles once.

    Args:
      state: host or device arrays, as of one device.
      devices: where to.

    Returns:
      A copy on every device, but each device's share of ``local``: ``[devices of this process, items of each, ...]``.

    Raises:
      Refusal: if ``local`` cannot be shared evenly.
    """
    everywhere, one_each = _shardings(devices)
    is_ours = _is_ours(devices)
    shares = deal(jax.device_get(state.local), len(devices))
    placed = jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(everywhere, np.asarray(leaf)), state._replace(local=())
    )
    return placed._replace(local=jax.tree.map(lambda leaf: jax.device_put(leaf[is_ours], one_each), shares))


def _shardings(devices: Sequence[jax.Device]) -> tuple[NamedSharding, NamedSharding]:
    """How a state is placed: a copy on every device; an item of ``local`` on each of this process's."""
    ours = [device for device, here in zip(devices, _is_ours(devices), strict=True) if here]
    everywhere = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())
    return everywhere, NamedSharding(Mesh(np.asarray(ours), (AXIS,)), PartitionSpec(AXIS))


def gather(state: TrainState, devices: Sequence[jax.Device]) -> TrainState:
    """Undo ``place`` for ``local``, on the host: the state as of one device. All processes must ask.

    Args:
      state: placed on the devices.
      devices: in the same order.

    Returns:
      The state with all items of ``local``.
    """
    # Processes answer in the order of their numbers, which need not be that of the devices.
    order = np.argsort(np.argsort([device.process_index for device in devices], kind="stable"))

    def of_all_devices(share: Array) -> np.ndarray:
        if jax.process_count() == 1:
            return np.asarray(share)
        by_process = multihost_utils.process_allgather(np.asarray(share))
        return np.asarray(by_process.reshape(len(devices), *share.shape[1:])[order])

    return state._replace(local=join(jax.tree.map(of_all_devices, state.local)))
