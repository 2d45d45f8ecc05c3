"""Run directories: where a run lives, and how to get it back."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import jax

from metarl_jax.checkpoint import Checkpoints, Restored
from metarl_jax.config import Config, ConfigError, dump, load_config
from metarl_jax.config.components import holds_run
from metarl_jax.experiment import Experiment, build
from metarl_jax.types import MetaAlgorithm, Params, Policy, TaskFamily

CONFIG_FILE = "config.yaml"
CHECKPOINTS = "checkpoints"

_FREE_TO_CHANGE = {
    "training": {"num_iterations", "checkpoint_every", "keep_checkpoints", "log_every", "updates_per_visit"},
    "evaluation": None,
    "logging": None,
}
"""Keys that a resumed run may set anew: none of them touches the numbers of an update."""


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
      checkpoint: ``latest``, ``best`` (highest mean return after 1..K steps on training tasks), or an iteration.
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
    config_path = run_dir / CONFIG_FILE
    if not holds_run(run_dir):
        raise ConfigError(
            f"{run_dir} holds no run: there is no {CONFIG_FILE}, or no {CHECKPOINTS}, in it; give the folder that "
            "training printed"
        )
    experiment = build(load_config(config_path))
    restored = restore(experiment, run_dir, checkpoint, report)
    config, family, policy, algorithm = experiment
    return Run(config, family, policy, algorithm, restored.state.params, restored.step)


def restore(
    experiment: Experiment,
    run_dir: Path,
    checkpoint: int | Literal["latest", "best"] = "latest",
    report: Callable[[str], object] = warnings.warn,
) -> Restored:
    """Restore a run's training state.

    Args:
      experiment: what the run trains.
      run_dir: where it lives.
      checkpoint: which one.
      report: called with one sentence for each damaged checkpoint that is passed over.

    Returns:
      The state and its record.
    """
    with Checkpoints(run_dir / CHECKPOINTS) as checkpoints:
        return checkpoints.restore(jax.eval_shape(experiment.algorithm.init, jax.random.key(0)), checkpoint, report)


def choose_directory(config: Config, name: str, resume: bool) -> Path:
    """The default run directory: ``runs/NAME``, or the first free ``runs/NAME-2``, ``-3``, ...

    Args:
      config: says where runs live.
      name: usually the config file's stem.
      resume: the newest that exists instead.

    Returns:
      The directory; not made yet.

    Raises:
      ConfigError: if there is nothing to resume.
    """
    root = Path(config.logging.run_root)
    number = 1
    while _holds_run(root / _numbered(name, number)):
        number += 1
    if not resume:
        return root / _numbered(name, number)
    if number == 1:
        raise ConfigError(f"nothing to resume in {root / name}: start the run without --resume")
    return root / _numbered(name, number - 1)


def prepare_directory(run_dir: Path, config: Config, resume: bool, overwrite: bool) -> None:
    """Make a run directory ready for training, or refuse to touch it.

    Args:
      run_dir: where the run is to live.
      config: what it is to train.
      resume: continue the run that is there.
      overwrite: delete the run that is there.

    Raises:
      ConfigError: if the directory holds a run and neither was asked for, if there is nothing to resume, or if the
        run there was trained with another config.
    """
    if resume and overwrite:
        raise ConfigError("--resume continues a run and --overwrite deletes it: give one of them")
    if resume:
        _check_resumable(run_dir, config)
    elif _holds_run(run_dir):
        if not overwrite:
            raise ConfigError(
                f"{run_dir} already holds a run: continue it with --resume, delete it with --overwrite, "
                "or choose another --run-dir"
            )
        _delete_run(run_dir)
    elif run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise ConfigError(f"{run_dir} exists and is not a run: choose an empty or new --run-dir")
    run_dir.mkdir(parents=True, exist_ok=True)
    replacement = run_dir / f"{CONFIG_FILE}.tmp"
    replacement.write_text(dump(config))
    replacement.replace(run_dir / CONFIG_FILE)


def _check_resumable(run_dir: Path, config: Config) -> None:
    if not _holds_run(run_dir):
        raise ConfigError(f"nothing to resume in {run_dir}: start the run without --resume")
    saved, wanted = _fixed_part(load_config(run_dir / CONFIG_FILE)), _fixed_part(config)
    changed = sorted(key for key in saved.keys() | wanted.keys() if saved.get(key) != wanted.get(key))
    if changed:
        lines = [f"  {key}: {wanted.get(key)!r} now, {saved.get(key)!r} in the run" for key in changed]
        raise ConfigError(
            f"{run_dir} was trained with another config and cannot be resumed with this one:\n" + "\n".join(lines)
        )


def _fixed_part(config: Config) -> dict[str, object]:
    tree = config.model_dump(mode="json")
    flat: dict[str, object] = {"seed": tree.pop("seed")}
    for section, values in tree.items():
        free = _FREE_TO_CHANGE.get(section, set())
        if free is not None:
            flat |= {f"{section}.{key}": value for key, value in (values or {}).items() if key not in free}
    return flat


def _holds_run(run_dir: Path) -> bool:
    return (run_dir / CONFIG_FILE).exists() or (run_dir / CHECKPOINTS).exists()


def _delete_run(run_dir: Path) -> None:
    """Delete what a run wrote, and nothing else a user may have put beside it."""
    for folder in (CHECKPOINTS, "tensorboard"):
        shutil.rmtree(run_dir / folder, ignore_errors=True)
    for file in (CONFIG_FILE, "metrics.jsonl", "evaluation.json", "adaptation.png", "training.png"):
        (run_dir / file).unlink(missing_ok=True)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"
