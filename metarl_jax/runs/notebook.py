"""What the command line does, from a notebook: a run from a config, trained; and what was trained by hand, kept."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from rich.console import Console

from metarl_jax.config import Config, ConfigError, config_from_dict, load_config
from metarl_jax.config.overrides import apply_overrides
from metarl_jax.runs.build import Experiment
from metarl_jax.runs.build import build as build_experiment
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.launch import Progress, Work, choose_places, launch, prepare_program
from metarl_jax.runs.program import initialiser
from metarl_jax.runs.progress import progress
from metarl_jax.runs.run import CHECKPOINTS, Run, prepared
from metarl_jax.runs.warm_start import warm_start
from metarl_jax.types import TrainState

Source = str | Path | Mapping[str, Any] | Config
"""A YAML file, its contents, or a config made before."""


def build(config: Source, overrides: Sequence[str] = ()) -> Run:
    """The run that a config describes, before the first update.

    Args:
      config: a YAML file, a dict of its sections, or a ``Config``.
      overrides: ``key.path=value`` each, as on the command line.

    Returns:
      The run, with the parameters that training would start from.

    Raises:
      ConfigError: with every problem of the config.
      ValueError: if a combination of values cannot work.

    Example:
      >>> run = build({"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "maml"}}, ["tasks.horizon=5"])
      >>> run.family.horizon, run.iteration
      (5, 0)
    """
    made = build_experiment(_read(config, overrides))
    state, start = initialiser(made)(made.config), warm_start(made.algorithm, made.config.training, print)
    return _as_run(made, state if start is None else start.begin(state))


def train(
    config: Source,
    overrides: Sequence[str] = (),
    *,
    run_dir: str | Path | None = None,
    devices: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Train as ``metarl train`` does, in this process: metrics and checkpoints go into a run directory.

    Interrupting the kernel stops after the updates under way and saves: the run that is returned is as far as it got,
    and ``resume=True`` goes on. In a thread that gets no signals it trains to the end.

    Args:
      config: a YAML file, a dict of its sections, or a ``Config``.
      overrides: ``key.path=value`` each, as on the command line.
      run_dir: where the run is to live; if None, ``runs/NAME``, numbered if taken. NAME is the file's, or the
        algorithm's and the family's.
      devices: how many of ``jax.devices()`` share the meta-batch; all if None.
      resume: continue the run that is there.
      overwrite: delete the run that is there.
      report: called with the row of every update, as in ``metrics.jsonl``; if None, progress is printed.

    Returns:
      The trained run.

    Raises:
      ConfigError: with every problem of the config; if the meta-batch cannot be shared by the devices, or there are not
        so many; if the directory is taken, or there is nothing to resume in it.
      ValueError: if a combination of values cannot work.

    Example:
      >>> import metarl_jax as mrl
      >>> run = mrl.train("configs/quickstart.yaml", ["seed=2"], run_dir="runs/second")  # doctest: +SKIP
      >>> mrl.evaluate(run, num_tasks=40)["mean_return"]  # doctest: +SKIP
    """
    settings = _read(config, overrides)
    program = prepare_program([settings], devices)  # before a directory is made or a run deleted
    how: Literal["new", "resume"] = "resume" if resume else "new"
    folder = None if run_dir is None else Path(run_dir)
    lines = partial(progress, console=Console(stderr=True), print_every=settings.logging.print_every)
    done = launch(
        program,
        Work([settings], partial(choose_places, settings, _name(config, settings), folder, None, how), overwrite),
        announce=lambda program, lanes: None,
        progress=lines if report is None else _reporting(report),
        warn=print,
    )
    return _as_run(program.experiment, done.results[0].state)


def _reporting(report: Callable[[dict[str, Any]], None]) -> Progress:
    return lambda iterations: nullcontext(lambda run, row: report(row))


def save(run: Run, state: TrainState, run_dir: str | Path, *, overwrite: bool = False) -> None:
    """Keep what was trained with the bare functions of a run, so that everything takes it that takes a trained run.

    ``mrl.load``, ``metarl evaluate`` and ``metarl render`` find it in the directory, and resuming goes on from there.

    Args:
      run: from :func:`build` or :func:`metarl_jax.load`.
      state: what ``run.algorithm.init`` and ``run.algorithm.update`` returned.
      run_dir: a new directory.
      overwrite: delete the run that is there.

    Raises:
      ConfigError: if the directory is taken, or the state is not of this run's algorithm.

    Example:
      >>> import tempfile, metarl_jax as mrl
      >>> run = build({"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "maml"}})
      >>> state = run.algorithm.init(jax.random.key(0))  # then as many updates as you like
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save(run, state, f"{folder}/mine")
      ...     mrl.load(f"{folder}/mine").iteration
      0
    """
    wanted = jax.eval_shape(run.algorithm.init, jax.random.key(0))
    if _shapes(state) != _shapes(wanted):
        name = run.config.algorithm.name
        raise ConfigError(
            f"state: is none of this run's {name}; give what its algorithm.init or algorithm.update returned"
        )
    directory = Path(run_dir)
    record = {"config": run.config.model_dump(mode="json"), "recent": []}
    with (
        prepared(directory, run.config, False, overwrite),
        Checkpoints(directory / CHECKPOINTS, run.config.training.keep_checkpoints) as checkpoints,
    ):
        checkpoints.save(int(state.step), state, record)


def _read(config: Source, overrides: Sequence[str]) -> Config:
    if isinstance(config, str | Path):
        return load_config(config, overrides)
    if isinstance(config, Config):
        config = config.model_dump(mode="json", exclude_none=True)
    tree, overridden = apply_overrides(config, overrides)
    return config_from_dict(tree, overridden=overridden)


def _name(source: Source, config: Config) -> str:
    if isinstance(source, str | Path):
        return Path(source).stem
    return f"{config.algorithm.name}_{config.tasks.name}"


def _as_run(made: Experiment, state: TrainState) -> Run:
    """A run whose parameters are on the default device alone, as those of ``algorithm.init`` are."""
    return Run(*made[:4], params=jax.tree.map(jnp.asarray, jax.device_get(state.params)), iteration=int(state.step))


def _shapes(state: TrainState) -> object:
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), state)
