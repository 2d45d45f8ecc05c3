"""Training what a comparison lacks: ``metarl train --seeds``, in a process of its own for each config."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from metarl_jax.config import load_config
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.directory import CHECKPOINTS, holds_run
from metarl_jax.runs.run import read_config, stopped_early_at
from metarl_jax.studies.compare.sources import Recipe
from metarl_jax.tracking.jsonl import read_metrics

_SECONDS_BETWEEN_LOOKS = 0.2
_CHECKPOINTS = 20
_RECENT = 10  # updates that tell how early episodes end


def command(recipe: Recipe, folder: Path, seeds: int, env_steps: float | None, devices: int | None) -> list[str]:
    """The words of the command that trains a config, or goes on where that stopped.

    Args:
      recipe: the config.
      folder: of its runs.
      seeds: how many.
      env_steps: of each run; None as the config says.
      devices: that they are trained on; None for all that suit.
    """
    options = {"--run-dir": folder, "--seeds": seeds, "--env-steps": env_steps, "--devices": devices}
    given = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    kept = [] if env_steps is None else _kept(recipe)
    return ["train", str(recipe.config), *recipe.overrides, *kept, *given, "--resume-if-exists"]


def _kept(recipe: Recipe) -> list[str]:
    """So many checkpoints, if the config does not say how many, that each seed has one near where all are compared.

    Seeds whose episodes end later are ahead of the others by then.
    """
    training = load_config(recipe.config, list(recipe.overrides)).training
    return [] if "keep_checkpoints" in training.model_fields_set else [f"training.keep_checkpoints={_CHECKPOINTS}"]


def is_done(runs: Sequence[Path], env_steps: float | None) -> bool:
    """Whether all runs have gone so far, to the nearest update, or have ended early: then nothing need be started."""
    going = [run for run in runs if stopped_early_at(run) is None]
    if env_steps is None:
        return all(holds_run(run) and _updates(run) >= read_config(run).training.num_iterations for run in going)
    ends = [rows[-1] if (rows := read_metrics(run)) else {"iteration": 1, "env_steps": 0} for run in going]
    return all(row["env_steps"] * (1 + 0.5 / row["iteration"]) >= env_steps for row in ends)


def to_compute(runs: Sequence[Path], env_steps: float) -> float:
    """How many environment steps have to be computed until so many are taken, since episodes may end early.

    Args:
      runs: of one config, as far as they are; what they lack is estimated from their last updates.
      env_steps: that each is to take.
    """
    found = [env_steps]
    for run in runs:
        if rows := read_metrics(run)[-_RECENT:]:
            first, last = rows[0] if len(rows) > 1 else {"env_steps": 0, "computed_env_steps": 0}, rows[-1]
            taken, computed = (last[name] - first[name] for name in ("env_steps", "computed_env_steps"))
            found.append(last["computed_env_steps"] + (env_steps - last["env_steps"]) * computed / taken)
    return max(found)


def _updates(run: Path) -> int:
    """That are saved."""
    return max(Checkpoints(run / CHECKPOINTS).steps(), default=0)


def train(words: Sequence[str], stop_requested: Callable[[], int | None]) -> int | None:
    """Run ``metarl`` until it ends; what stops this process stops it, and it saves.

    Args:
      words: of the command.
      stop_requested: tells the number of the signal that has arrived, or None.

    Returns:
      The number of the signal that stopped it, or None.

    Raises:
      subprocess.CalledProcessError: if it fails.
    """
    # How it goes on and what is wrong is on its stderr; what to do next with a run is not the comparison's to say. And
    # which signal stops it is ours.
    process = subprocess.Popen(_command(words), stdout=subprocess.DEVNULL, start_new_session=True)
    told: int | None = None
    while process.poll() is None:
        if told is None and (told := stop_requested()) is not None:
            process.send_signal(signal.Signals(told))
        try:
            process.wait(_SECONDS_BETWEEN_LOOKS)
        except subprocess.TimeoutExpired:
            continue
    if process.returncode and told is None:
        raise subprocess.CalledProcessError(process.returncode, list(words))
    return told


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "metarl_jax", *words]
