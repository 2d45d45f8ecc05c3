"""What ``auto`` means for ``remat`` and ``task_chunk``: as fast as the memory of the devices allows.

Nothing is compiled for it: what differentiating one task keeps is counted from the shapes of its residuals, of which
XLA frees about half, so what is chosen fits.
"""

from typing import Any, NamedTuple

import jax

from metarl_jax.config import Config, check_devices
from metarl_jax.runs.build import Experiment, build
from metarl_jax.runs.memory import size_of, trajectory_bytes
from metarl_jax.types import AUTO, Key, require

_LEFT_OPEN = ("remat", "task_chunk")
_MARGIN = 0.9  # of the memory; parameters, optimiser and metrics need little of the rest


class Fit(NamedTuple):
    """What was decided, and from what.

    Attributes:
      settings: the algorithm's keys that the config leaves open.
      trajectories: bytes of the episodes that a device stores; 0 if nothing had to be counted, like the rest.
      plain: bytes that differentiating one task keeps.
      recomputed: the same with ``remat``.
    """

    settings: dict[str, Any]
    trajectories: int = 0
    plain: int = 0
    recomputed: int = 0


def settle(config: Config, platform: str, usable: int | None, num_devices: int) -> tuple[Experiment, Fit]:
    """Build what a config describes, with what it leaves open decided for some devices, here or not.

    ``task_chunk`` that is left out means all tasks at once on accelerators; ``auto`` the most that fit. On CPUs both
    mean what fits their cache. ``remat: auto`` recomputes only if the tasks do not fit otherwise.

    Args:
      config: what is to be trained.
      platform: of the devices: ``cpu``, ``gpu`` or ``tpu``.
      usable: bytes of memory on each; None if unknown, and then all fits.
      num_devices: that share the meta-batch.

    Returns:
      The experiment, and what was decided.

    Raises:
      Refusal: if the config cannot be trained there, naming the key and the remedy.
    """
    check_devices(config, num_devices)
    given = config.algorithm.model_dump()
    tasks = config.training.meta_batch_size // num_devices
    is_open = {key: given.get(key, 0) == AUTO for key in _LEFT_OPEN}
    is_open["task_chunk"] &= platform != "cpu"  # where collecting takes more at once than differentiating
    if any(is_open.values()):
        chunk = given.get("task_chunk")
        most = min(chunk, tasks) if isinstance(chunk, int) else 1 if platform == "cpu" else tasks
        fit = _decide(config, given, is_open, most, usable, num_devices)
    else:  # what is left out is for this process's kind of device
        is_foreign = platform != "cpu" and jax.default_backend() == "cpu"
        fit = Fit({"task_chunk": tasks} if is_foreign and given.get("task_chunk", 0) is None else {})
    experiment = build(config, **fit.settings)
    _refuse_host_steps(experiment, platform)
    return experiment, fit


def decided(experiment: Experiment) -> dict[str, Any]:
    """What :func:`settle` put in the place of what the config of an experiment leaves open."""
    return {key: value for key, value in experiment.hyper.items() if key in _LEFT_OPEN}


def _refuse_host_steps(experiment: Experiment, platform: str) -> None:
    backend = getattr(experiment.config.tasks, "backend", None)
    remedy = (
        f"steps on the host, for which {platform.upper()}s wait at every step: choose another that the family takes, "
        "such as mjx or spring, or train on CPUs (JAX_PLATFORMS=cpu)"
    )
    require(platform == "cpu" or not experiment.family.on_host, "tasks.backend", backend, remedy)


def _decide(
    config: Config, given: dict[str, Any], is_open: dict[str, bool], most: int, usable: int | None, num_devices: int
) -> Fit:
    """The fastest settings that fit; ``most`` tasks at once are best."""
    can_recompute = "remat" in given
    plain, kept = (
        activation_bytes(build(config, **({"remat": remat} if can_recompute else {}))) for remat in (False, True)
    )
    # Of a step that is recomputed, everything is there while its own gradient is taken.
    recomputed = kept + (plain - kept) // max(1, given.get("num_inner_steps", 1))
    trajectories = trajectory_bytes(build(config), num_devices) or 0
    budget = None if usable is None else _MARGIN * usable - trajectories
    held = {False: plain, True: recomputed}
    choices = [False, True] if is_open["remat"] else [bool(given.get("remat"))]
    remat = next((r for r in choices if budget is None or most * held[r] <= budget), choices[-1])
    settings: dict[str, Any] = {"remat": remat} if is_open["remat"] else {}
    if is_open["task_chunk"]:
        fitting = most if budget is None or not held[remat] else int(budget / held[remat])
        settings["task_chunk"] = max(1, min(most, fitting))
    return Fit(settings, trajectories, plain, recomputed)


def activation_bytes(experiment: Experiment) -> int:
    """Bytes that differentiating the replayed inner steps of one task keeps, before XLA frees what it can.

    Args:
      experiment: what is trained; by a method without gradient steps nothing is kept per task.

    Returns:
      The bytes.
    """
    algorithm, family = experiment.algorithm, experiment.family
    collect, replay = algorithm.collect, algorithm.replay
    if collect is None or replay is None:
        return 0

    def residuals(key: Key) -> Any:
        params = algorithm.init(key).params
        _, stages = collect(params, family.sample(key), key)
        return jax.vjp(lambda theta: replay(theta, stages), params)[1]

    return size_of(jax.eval_shape(residuals, jax.random.key(0)))
