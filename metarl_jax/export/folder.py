"""The folder that ``metarl export`` writes: weights, config, programs, and what runs them."""

import json
import shutil
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metarl_jax.checks import Refusal, require
from metarl_jax.config import Config, ConfigError
from metarl_jax.export import policy as numpy_side
from metarl_jax.export.artefacts import Carried, act, export_act, export_adapt, is_readable, readable
from metarl_jax.export.program import NotInNumpy, write_program
from metarl_jax.runs.build import declared_adaptation
from metarl_jax.runs.one_task import evaluation_task, task_of_numbers
from metarl_jax.runs.run import Run
from metarl_jax.tracking.files import write_atomically
from metarl_jax.types import Agent, Array, MetaAlgorithm

FORMAT = 1
POLICY_FILE = "policy.json"
_FILES = (POLICY_FILE, "weights.safetensors", "config.json", "policy.py", "act.jaxexport", "adapt.jaxexport")


class Adapted(NamedTuple):
    """A run's agent after adaptation to one task.

    Attributes:
      agent: what adapted.
      about: a JSON object: the task's numbers, the units of adaptation, the mean return of each.
    """

    agent: Agent
    about: dict[str, Any]


def adapt_to(run: Run, task: int | list[float]) -> Adapted:
    """Adapt a run to one task, as its evaluation would.

    Args:
      run: a trained run.
      task: the number of a task of the evaluation, from 0; or the numbers that describe a task, to which it adapts with
        the random numbers of task 0.

    Raises:
      ConfigError: if the run cannot adapt, or a task has another number of numbers.

    Example:
      >>> import metarl_jax as mrl
      >>> run = mrl.build({"tasks": {"name": "navigation_finn", "horizon": 5}, "algorithm": {"name": "maml"}})
      >>> adapt_to(run, [0.3, -0.2]).about["task"]
      [0.30000001192092896, -0.20000000298023224]
    """
    chosen, key = evaluation_task(run, task if isinstance(task, int) else 0)
    if not isinstance(task, int):
        chosen = task_of_numbers(run, task)
    agent, info = jax.jit(_as_evaluated(run).adapt)(run.params, chosen, key)
    numbers = [float(x) for leaf in jax.tree.leaves(chosen) for x in np.ravel(leaf)]
    unit = f"{declared_adaptation(run.config, run.algorithm).unit}s"
    returns = np.asarray(info["return"], np.float64).mean(axis=1).tolist()
    return Adapted(agent, {"task": numbers, "unit": unit, "mean_return": returns})


def export_run(run: Run, folder: str | Path, adapted: Adapted | None = None) -> dict[str, Any]:
    """Write all that it takes to act, and to adapt, without this package.

    ``config.json``; ``weights.safetensors``: parameters, and what is remembered at first; ``policy.json``: what the
    policy computes, for numpy; ``policy.py``, which reads these; ``act.jaxexport`` and ``adapt.jaxexport``.

    Args:
      run: a trained run.
      folder: a new or empty one, or one that was exported before.
      adapted: export this agent in the place of the run's own parameters.

    Returns:
      What ``policy.json`` says of the run; ``refused`` and ``no_adapt`` say why numpy cannot act, or why there is no
      ``adapt.jaxexport``, and are None otherwise.

    Raises:
      ConfigError: if the folder holds something else, or what writes the files is not installed.
    """
    place = Path(folder)
    require_exportable(place)
    agent = Agent(run.params, run.policy.initial_carry(1)) if adapted is None else adapted.agent
    carried = Carried(run.family, run.policy, agent)
    artefacts: dict[str, bytes] = {"act": export_act(carried)}
    learn, no_adapt = _learner(run)
    if learn is not None:
        try:
            artefacts["adapt"] = export_adapt(carried, learn)
        except (jax.errors.InconclusiveDimensionOperation, TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            no_adapt = f"adaptation to any number of episodes cannot be traced: {reason}"
    programs, constants = _programs(carried)
    about = {
        "format": FORMAT,
        "algorithm": run.config.algorithm.name,
        "tasks": run.config.tasks.name,
        "iteration": run.iteration,
        "adapted": None if adapted is None else adapted.about,
        "no_adapt": no_adapt,
        **_signature(carried),
    }
    _write(place, run, {**_tensors(carried), **constants}, {**about, **programs}, artefacts)
    return {**about, "refused": programs["refused"]}


def require_exportable(folder: Path) -> None:
    """Refuse what :func:`export_run` would, before there is a run to export.

    Args:
      folder: to export to.

    Raises:
      ConfigError: if the folder holds something else.
      Refusal: if what writes the files is not installed.
    """
    _require_writers()
    _require_ours(folder)


def untracked(config: Config) -> Config:
    """A config without its trackers, whose addresses may hold a password: for others to read."""
    return config.model_copy(update={"logging": config.logging.model_copy(update={"trackers": ()})})


def _as_evaluated(run: Run) -> MetaAlgorithm:
    """The method with the evaluation's budget."""
    settings = run.config.evaluation
    adaptation = declared_adaptation(run.config, run.algorithm)
    return adaptation.with_budget(settings.num_inner_steps, settings.episodes_per_task, settings.step_size_rule)


def _learner(run: Run) -> tuple[Any, str | None]:
    """How the run's method adapts to recorded data; or why it does not."""
    if run.algorithm.learn is None or run.algorithm.adaptation is None:
        return None, f"{run.config.algorithm.name} does not adapt to recorded data: it has no MetaAlgorithm.learn"
    if run.config.evaluation.num_inner_steps == 0:
        return None, "evaluation.num_inner_steps = 0: the run takes no step of adaptation"
    return _as_evaluated(run).learn, None


def _require_writers() -> None:
    missing = [name for name in ("flatbuffers", "safetensors") if find_spec(name) is None]
    if missing:
        raise Refusal("", None, f"this needs {' and '.join(missing)}: pip install 'metarl-jax[export]'")


def _require_ours(folder: Path) -> None:
    """Nothing of somebody else's is overwritten."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder}: is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / POLICY_FILE).exists():
        raise ConfigError(
            f"--output {folder}: holds something else than an exported policy; give a new or empty folder"
        )


def _signature(carried: Carried) -> dict[str, Any]:
    """Shapes and types of what goes in and comes out."""
    observation, action, reward, _ = carried.percept
    return {
        "observation": {
            "shape": list(observation.shape[1:]),
            "privileged": carried.family.privileged_size,
            "dtype": readable(observation.dtype).name,
        },
        "action": {**carried.family.action._asdict(), "dtype": np.dtype(action.dtype).name},
        "reward": {"dtype": reward.dtype.name},
        "memory": list(carried.memory),
    }


def _tensors(carried: Carried) -> dict[str, np.ndarray]:
    kinds: Mapping[str, Mapping[str, Array]] = {"params": carried.params, "memory": carried.memory}
    tensors = {f"{kind}/{name}": np.asarray(x) for kind, leaves in kinds.items() for name, x in leaves.items()}
    for name, array in tensors.items():
        remedy = "numpy cannot read this type: keep what the policy carries in float32 or bfloat16"
        require(is_readable(array.dtype), name, array.dtype.name, remedy)
    return tensors


def _programs(carried: Carried) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What numpy computes: the most likely action, a random one, and what the environment is given for it.

    All of one robot, so that no program depends on how many there are; or why it cannot be written for numpy.
    """
    try:
        return _written(carried)
    except NotInNumpy as refusal:
        return {"act": None, "sample": None, "control": None, "refused": str(refusal)}, {}


def _written(carried: Carried) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    percept, control = carried.percept, carried.family.control
    tensors = _tensors(carried)
    named = (*tensors, *percept._fields, "key")
    arguments = (carried.params, carried.memory, *percept, jax.random.key(0))

    def chosen(which: int, *arguments: Any) -> tuple[Array, list[Array]]:
        *actions, memory = act(carried)(*arguments)
        return actions[which], list(memory.values())

    constants: dict[str, np.ndarray] = {}
    programs = {
        name: write_program(
            partial(chosen, which), named, arguments, constants, rounded=tensors, is_random=name == "sample"
        )
        for which, name in enumerate(("act", "sample"))
    }
    one = jax.ShapeDtypeStruct(percept.previous_action.shape[1:], percept.previous_action.dtype)
    applied = None if control is None else write_program(control, ["action"], (one,), constants, is_random=False)
    return {**programs, "control": applied, "refused": None}, constants


def _write(
    folder: Path, run: Run, tensors: dict[str, np.ndarray], about: dict[str, Any], artefacts: dict[str, bytes]
) -> None:
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    for name in _FILES:  # of an export before this one
        (folder / name).unlink(missing_ok=True)
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}  # a number stays one
    (folder / "weights.safetensors").write_bytes(save(contiguous, {"format": "np"}))
    for name, artefact in artefacts.items():
        (folder / f"{name}.jaxexport").write_bytes(artefact)
    shutil.copyfile(numpy_side.__file__, folder / "policy.py")
    write_atomically(folder / "config.json", json.dumps(untracked(run.config).model_dump(mode="json"), indent=1) + "\n")
    write_atomically(folder / POLICY_FILE, json.dumps(about, allow_nan=False) + "\n")  # the last: now it is one
