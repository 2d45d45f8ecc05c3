"""Run directories: where a run lives, and how to get it back."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, takewhile
from pathlib import Path
from typing import Literal, NamedTuple

import jax

from metarl_jax.checks import Refusal
from metarl_jax.config import Config, ConfigError, dump, load_config
from metarl_jax.config.components import is_run
from metarl_jax.runs.build import Experiment, build
from metarl_jax.runs.checkpoint import Checkpoints, Restored
from metarl_jax.runs.directory import (
    CHECKPOINTS,
    CONFIG_FILE,
    delete_run,
    gone_if_refused,
    hold,
    holds_run,
    is_free,
    make,
    refuse_in_use,
    runs_in,
)
from metarl_jax.runs.snapshot import replicate
from metarl_jax.tracking.files import write_atomically
from metarl_jax.types import MetaAlgorithm, Params, Policy, TaskFamily

_FREE_TO_CHANGE = {
    "training": {"num_iterations", "checkpoint_every", "keep_checkpoints", "log_every", "updates_per_visit"},
    "evaluation": None,  # but for what the best checkpoint is chosen by
    "logging": None,
}
"""Keys that a resumed run may set anew: none of them touches the numbers of an update."""
_VALIDATION = ("num_inner_steps", "episodes_per_task", "step_size_rule", "seed", "test_policy")
"""What a validation return depends on: those of one run are compared with each other."""
UNTRACKED = ("logging.trackers=[]",)
"""The override for whoever only reads a run: its trackers, which may be the user's own modules, need not be here."""


class Run(NamedTuple):
    """A trained run, ready for use.

    Attributes:
      config: its resolved config.
      family: its tasks.
      policy: its policy.
      algorithm: its algorithm; ``algorithm.adapt(params, task, key)`` adapts to one task.
      params: the meta-parameters.
      iteration: outer updates behind them.
    """

    config: Config
    family: TaskFamily
    policy: Policy
    algorithm: MetaAlgorithm
    params: Params
    iteration: int


def load(
    run_dir: str | Path,
    checkpoint: int | Literal["latest", "best"] = "latest",
    report: Callable[[str], object] = warnings.warn,
) -> Run:
    """Load a run: its tasks, policy, algorithm and trained meta-parameters.

    Args:
      run_dir: a run directory.
      checkpoint: ``latest``, ``best`` (highest mean return after 1..K steps, on validation tasks or, without any,
        on training tasks), or an iteration.
      report: called with one sentence for each damaged checkpoint that is passed over.

    Returns:
      The run.

    Raises:
      ConfigError: if there is no run.
      CheckpointError: if no checkpoint can be used.

    Example:
      >>> run = load("runs/quickstart")  # doctest: +SKIP
      >>> agent, info = jax.jit(run.algorithm.adapt)(run.params, task, key)  # doctest: +SKIP
    """
    run_dir = Path(run_dir)
    if not is_run(run_dir):
        raise _no_run(run_dir, f"no {CONFIG_FILE}, or no {CHECKPOINTS},")
    experiment = build(read_config(run_dir, UNTRACKED))
    return restored_run(experiment, run_dir, checkpoint, report)


def restored_run(
    experiment: Experiment,
    run_dir: Path,
    checkpoint: int | Literal["latest", "best"] = "latest",
    report: Callable[[str], object] = warnings.warn,
) -> Run:
    """A run whose experiment is there already, as of a checkpoint; see :func:`restore`."""
    restored = restore(experiment, run_dir, checkpoint, report)
    return Run(*experiment[:4], params=restored.state.params, iteration=restored.step)


def read_config(run_dir: Path, overrides: Sequence[str] = ()) -> Config:
    """The config of a run.

    Args:
      run_dir: where the run lives.
      overrides: keys to set anew, as ``key=value``.

    Raises:
      ConfigError: if there is no run, or an override does not fit.

    Example:
      >>> read_config(Path("runs/quickstart"), ["training.num_iterations=200"])  # doctest: +SKIP
    """
    path = run_dir / CONFIG_FILE
    if not path.is_file():
        raise _no_run(run_dir, f"no {CONFIG_FILE}")
    return load_config(path, overrides, closed=run_dir)


def _no_run(folder: Path, missing: str) -> ConfigError:
    if several := runs_in(folder):
        return ConfigError(f"{folder} holds {len(several)} runs: give one of them, such as {several[0]}")
    return ConfigError(f"{folder} holds no run: there is {missing} in it; give the folder that training printed")


def restore(
    experiment: Experiment,
    run_dir: Path,
    checkpoint: int | Literal["latest", "best"] = "latest",
    report: Callable[[str], object] = warnings.warn,
) -> Restored:
    """Restore a run's training state, but for what each device kept of its own.

    Args:
      experiment: what the run trains.
      run_dir: where it lives.
      checkpoint: which one.
      report: called with one sentence for each damaged checkpoint that is passed over.

    Returns:
      The state and its record.
    """
    with Checkpoints(run_dir / CHECKPOINTS) as checkpoints:
        like = jax.eval_shape(experiment.algorithm.init, jax.random.key(0))
        return checkpoints.restore(like, checkpoint, report, lambda state: replicate(state._replace(local=())))


def stopped_early_at(run_dir: Path) -> int | None:
    """The iteration at which ``evaluation.patience`` ended a run; None of a run that it did not end.

    Args:
      run_dir: where it lives.

    Example:
      >>> stopped_early_at(Path("nowhere"))
    """
    checkpoints = Checkpoints(run_dir / CHECKPOINTS)
    newest = checkpoints.steps()[-1:]
    return next((step for step in newest if checkpoints.record(step).get("ended") == "patience"), None)


def choose_directory(config: Config, name: str, resume: bool, holds: Callable[[Path], object] = holds_run) -> Path:
    """Make the default run directory: ``runs/NAME`` or, if that exists, ``runs/NAME-2``, ``-3``, ...

    Runs that start at the same moment get a directory each, since only one of them can make it.

    Args:
      config: says where runs live.
      name: usually the config file's stem.
      resume: the newest that holds a run instead.
      holds: whether a directory holds what is to be resumed.

    Returns:
      The directory; empty if it is a new one.

    Raises:
      ConfigError: if there is nothing to resume.
    """
    root = Path(config.logging.run_root)
    numbered = (root / (name if number == 1 else f"{name}-{number}") for number in count(1))
    if resume:
        runs = [path for path in takewhile(Path.exists, numbered) if holds(path)]
        if not runs:
            raise ConfigError(f"nothing to resume in {root / name}: start the run without --resume")
        return runs[-1]
    root.mkdir(parents=True, exist_ok=True)
    return next(path for path in numbered if _make(path))


def _make(directory: Path) -> bool:
    """Whether the directory is new and ours."""
    try:
        directory.mkdir()
    except FileExistsError:
        return False
    return True


def prepare_directory(run_dir: Path, config: Config, resume: bool, overwrite: bool) -> None:
    """Make a run directory ready for training, or refuse to touch it.

    Args:
      run_dir: where the run is to live.
      config: what it is to train.
      resume: continue the run that is there.
      overwrite: delete the run that is there.

    Raises:
      ConfigError: if the directory holds a run and neither was asked for, if there is nothing to resume, if the run
        there was trained with another config, or if it is in use.
    """
    with prepared(run_dir, config, resume, overwrite):
        pass


@contextmanager
def prepared(
    run_dir: Path, config: Config, resume: bool, overwrite: bool, report: Callable[[str], object] = warnings.warn
) -> Iterator[None]:
    """``prepare_directory``, and then keep the directory: no other run can be started, resumed or deleted in it.

    Args:
      run_dir: like the rest, see there.
      config: what is to be trained.
      resume: continue.
      overwrite: delete.
      report: called with a sentence if the directory is taken over from a process that died in it.

    Raises:
      ConfigError: see there.

    Example:
      >>> with prepared(run_dir, experiment.config, False, False):  # doctest: +SKIP
      ...     train(experiment, run_dir)
    """
    with claimed(run_dir, config, resume, overwrite, report):
        if overwrite:
            delete_run(run_dir)
        write_atomically(run_dir / CONFIG_FILE, dump(config))
        try:
            yield
        except Refusal:
            if not resume and not (run_dir / CHECKPOINTS).exists():  # it never began
                delete_run(run_dir)
            raise


@contextmanager
def claimed(
    run_dir: Path, config: Config, resume: bool, overwrite: bool, report: Callable[[str], object] = warnings.warn
) -> Iterator[None]:
    """All of ``prepared`` that can be refused: the directory is kept, and what is in it is left alone.

    Of a directory that was made here nothing is left if what it was made for is refused.
    """
    if resume and overwrite:
        raise ConfigError("--resume continues a run and --overwrite deletes it: give one of them")
    _check_kind(run_dir, resume)  # before the lock file is made: nothing is left where there is no run
    with gone_if_refused(make(run_dir)), hold(run_dir, report):
        _check_run(run_dir, config, resume, overwrite)
        yield


def check_place(run_dir: Path, config: Config, resume: bool, overwrite: bool) -> None:
    """Refuse a directory where a run cannot be started, or continued, as far as looking tells.

    Args:
      run_dir: of the run.
      config: what is to be trained.
      resume: go on with the run that is there.
      overwrite: delete it.

    Raises:
      ConfigError: naming what is there, or who uses it.

    Example:
      >>> check_place(Path("nowhere"), load_config("quickstart"), resume=False, overwrite=False)
    """
    _check_kind(run_dir, resume)
    refuse_in_use(run_dir)
    _check_run(run_dir, config, resume, overwrite)


def _check_kind(run_dir: Path, resume: bool) -> None:
    if resume and not holds_run(run_dir):
        raise ConfigError(f"nothing to resume in {run_dir}: start the run without --resume")
    if not holds_run(run_dir) and not is_free(run_dir):
        raise ConfigError(f"{run_dir} exists and is not a run: choose an empty or new --run-dir")


def _check_run(run_dir: Path, config: Config, resume: bool, overwrite: bool) -> None:
    if resume:
        _check_resumable(run_dir, config)
    elif not overwrite and holds_run(run_dir):
        raise ConfigError(
            f"{run_dir} already holds a run: continue it with --resume (or metarl resume), delete it with "
            "--overwrite, or choose another --run-dir"
        )


def _check_resumable(run_dir: Path, config: Config) -> None:
    before = read_config(run_dir)
    is_validated = None not in (before.evaluation.validation_tasks, config.evaluation.validation_tasks)
    of_validation = ("validation_tasks", *(_VALIDATION if is_validated else ()))
    saved, wanted = fixed_part(before, of_validation), fixed_part(config, of_validation)
    changed = sorted(key for key in saved.keys() | wanted.keys() if saved.get(key) != wanted.get(key))
    if changed:
        lines = [f"  {key}: {wanted.get(key)!r} now, {saved.get(key)!r} in the run" for key in changed]
        raise ConfigError(
            f"{run_dir} was trained with another config and cannot be resumed with this one:\n" + "\n".join(lines)
        )


def fixed_part(config: Config, of_validation: Sequence[str] = ()) -> dict[str, object]:
    """The keys that a run keeps for good, dotted: all that touch the numbers of an update.

    Args:
      config: of the run.
      of_validation: keys of ``evaluation`` that count, too.

    Example:
      >>> fixed = fixed_part(load_config("quickstart"))
      >>> "algorithm.inner_lr" in fixed, "training.log_every" in fixed
      (True, False)
    """
    tree = config.model_dump(mode="json")
    flat: dict[str, object] = {"seed": tree.pop("seed")}
    flat |= {f"evaluation.{key}": tree["evaluation"][key] for key in of_validation}
    for section, values in tree.items():
        free = _FREE_TO_CHANGE.get(section, set())
        if free is not None:
            flat |= {f"{section}.{key}": value for key, value in (values or {}).items() if key not in free}
    return flat
