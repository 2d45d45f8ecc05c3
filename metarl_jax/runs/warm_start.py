"""Training that starts from the parameters of another run, all or some of them."""

import json
import re
import zlib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metarl_jax.checks import some
from metarl_jax.config import ConfigError, TrainingConfig
from metarl_jax.ops import trees
from metarl_jax.runs.checkpoint import Checkpoints, Stored
from metarl_jax.runs.directory import CHECKPOINTS, INITIAL_RUN, holds_run
from metarl_jax.runs.snapshot import describe
from metarl_jax.tracking.files import write_atomically
from metarl_jax.types import MetaAlgorithm, Params, TrainState


class WarmStart(NamedTuple):
    """What training starts from.

    Attributes:
      leaves: by path, as in ``mean/Dense_0/kernel``.
      source: whose they were, as JSON: ``run``, ``iteration``, ``params`` (their paths) and ``crc32`` of them.
    """

    leaves: Mapping[str, Any]
    source: dict[str, Any]

    def begin(self, state: TrainState) -> TrainState:
        """The state with these parameters; that of the optimiser is as it was."""
        return state._replace(params=trees.replace(state.params, self.leaves))

    def record(self, run_dir: Path) -> None:
        """Write down where a run began."""
        write_atomically(run_dir / INITIAL_RUN, json.dumps(self.source, indent=1) + "\n")


def warm_start(algorithm: MetaAlgorithm, training: TrainingConfig, warn: Callable[[str], object]) -> WarmStart | None:
    """Read what a run is to start from, if its config names another run.

    Args:
      algorithm: what is to be trained.
      training: that section of the config.
      warn: called with a sentence for each damaged checkpoint that is passed over, and with one on parameters that are
        there and have no place here, unless the config names those to take.

    Returns:
      The parameters; None if it starts from random ones.

    Raises:
      ConfigError: if there is no such run, or its parameters do not fit, with their paths and shapes.
      CheckpointError: if no checkpoint of it can be used.
    """
    if training.initial_run is None:
        return None
    folder = Path(training.initial_run)
    if not holds_run(folder) or not (folder / CHECKPOINTS).is_dir():
        raise ConfigError(f"training.initial_run = {training.initial_run!r}: holds no run; give a run directory")
    with Checkpoints(folder / CHECKPOINTS) as checkpoints:
        stored = checkpoints.read(training.initial_checkpoint, warn)
    wanted = _chosen(jax.eval_shape(algorithm.init, jax.random.key(0)).params, training)
    leaves = _fitting(wanted, stored, training)
    if training.initial_params is None and (unused := _unused(wanted, stored)):
        remedy = "if that is meant, name those to take in training.initial_params"
        warn(
            f"training.initial_run = {training.initial_run!r}: these parameters of it are left out, for this run has "
            f"none of their names: {some(unused)}; {remedy}"
        )
    source = {
        "run": str(folder.resolve()),
        "iteration": stored.step,
        "params": sorted(leaves),
        "crc32": zlib.crc32(b"".join(leaves[path].tobytes() for path in sorted(leaves))),
    }
    return WarmStart(leaves, source)


class _Wanted(NamedTuple):
    """A parameter of the run that is to start: its name in a checkpoint, and what it has to be."""

    name: str
    shape: Any


def _chosen(params: Params, training: TrainingConfig) -> dict[str, _Wanted]:
    """The parameters that are to be taken over, by path."""
    names = [f".params{jax.tree_util.keystr(path)}" for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    by_path = trees.by_path(params)
    every = {path: _Wanted(name, leaf) for (path, leaf), name in zip(by_path.items(), names, strict=True)}
    if training.initial_params is None:
        return every
    for pattern in training.initial_params:
        if not any(_matches(path, pattern) for path in every):
            there = ", ".join(every)
            raise ConfigError(f"training.initial_params: {pattern!r} is no parameter of this run; there are {there}")
    return {
        path: wanted
        for path, wanted in every.items()
        if any(_matches(path, pattern) for pattern in training.initial_params)
    }


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")


def _fitting(wanted: Mapping[str, _Wanted], stored: Stored, training: TrainingConfig) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint that are wanted, if all of them are there and of the same shape and type."""
    types = {name: leaf["type"] for name, leaf in stored.snapshot.leaves.items()}
    misfits = [
        f"{path} is {types.get(leaf.name, 'absent')} there and {here} here"
        for path, leaf in wanted.items()
        if types.get(leaf.name) != (here := describe(leaf.shape))
    ]
    if misfits:
        remedy = "name those that fit in training.initial_params, or choose the same policy"
        raise ConfigError(
            f"training.initial_run = {training.initial_run!r}: its parameters do not fit: "
            f"{some(misfits, '; ')}; {remedy}"
        )
    return {path: stored.snapshot.values[leaf.name] for path, leaf in wanted.items()}


def _unused(wanted: Mapping[str, _Wanted], stored: Stored) -> list[str]:
    """The paths of a checkpoint's parameters that none is wanted for."""
    known = {leaf.name for leaf in wanted.values()}
    others = sorted(stored.snapshot.leaves.keys() - known)
    return ["/".join(re.findall(r"[\w-]+", name)[1:]) for name in others if re.match(r"\.params\W", name)]
