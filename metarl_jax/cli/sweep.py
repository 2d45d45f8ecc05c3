"""``metarl sweep``."""

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metarl_jax.cli.app import Devices, warn

if TYPE_CHECKING:
    from jax import Device

    from metarl_jax.studies.sweep.sweep import Sweep
    from metarl_jax.studies.sweep.trials import Trials


def sweep(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="What to vary, and what to look for.")],
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where its runs are to live.", show_default="runs/STUDY")
    ] = None,
    devices: Devices = None,
    worker: Annotated[
        bool,
        typer.Option(
            "--worker", help="Take part in a study: leave when no trial is left to take, though others still train."
        ),
    ] = False,
    keys: Annotated[
        tuple[str, str] | None,
        typer.Option(help="The two keys of the heat map.", show_default="those with the most values"),
    ] = None,
) -> None:
    """Train many settings, several seeds of each, and compare them; stopped or killed, it goes on where it was."""
    from metarl_jax.checks import Refusal

    if find_spec("optuna") is None:
        raise Refusal("", None, "metarl sweep needs Optuna: pip install 'metarl-jax[sweep]'")
    from metarl_jax.runs.signals import end_at_once, stop_on_signals
    from metarl_jax.runs.startup import set_up
    from metarl_jax.studies.sweep.results import heat_map_keys
    from metarl_jax.studies.sweep.sweep import check_programs, load_sweep, record_of
    from metarl_jax.studies.sweep.trials import is_over, open_trials, read_trials
    from metarl_jax.studies.sweep.work import Worker, work

    loaded = load_sweep(study)
    if keys is not None:
        heat_map_keys(loaded.study, [], keys)
    set_up(devices)
    check_programs(loaded)
    place = directory or Path(loaded.base.logging.run_root) / study.stem
    trials = open_trials(loaded.study, place, record_of(loaded))
    print(f"study directory: {place}", flush=True)
    with stop_on_signals(warn, end_at_once) as stop_requested:
        who = Worker(loaded, trials, _devices(devices), warn, warn, lambda lane, row: None, stop_requested, {})
        stopped_by = work(who, waits=not worker)
    if is_over(trials):
        _conclude(loaded, trials, keys or ())
    else:
        told = [trial for trial in read_trials(trials) if trial.state != "unfinished"]
        again = shlex.join(["metarl", "sweep", str(study), *([] if directory is None else ["--dir", str(directory)])])
        print(f"{len(told)} trials have ended; continue with: {again}")
    if stopped_by is not None:
        raise typer.Exit(128 + stopped_by)


def _devices(wanted: int | None) -> "list[Device]":
    import jax

    return jax.devices()[:wanted]


def _conclude(loaded: "Sweep", trials: "Trials", keys: tuple[str, ...]) -> None:
    """Write and show what the study came to, and how its best setting is trained."""
    from metarl_jax.config.errors import show
    from metarl_jax.report.tables import print_table
    from metarl_jax.studies.sweep.results import ranked, table, write_results
    from metarl_jax.studies.sweep.sweep import seeds_of
    from metarl_jax.studies.sweep.trials import read_trials

    told = read_trials(trials)
    written = write_results(loaded.study, seeds_of(loaded), told, trials.directory, keys)
    print_table(table(loaded.study, told))
    best = ranked(loaded.study, told)[0]
    settings = [f"{key}={show(value)}" for key, value in {**loaded.study.overrides, **best.values}.items()]
    print("train the best setting with: " + shlex.join(["metarl", "train", loaded.study.config, *settings]))
    print("written: " + ", ".join(map(str, written)))
