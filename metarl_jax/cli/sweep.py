"""``metarl sweep``."""

import shlex
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metarl_jax.cli.app import Devices, as_words, check_folder, errors, warn

if TYPE_CHECKING:
    from metarl_jax.runs.training import StopRequested
    from metarl_jax.studies.sweep.sweep import Sweep
    from metarl_jax.studies.sweep.trials import Trials
    from metarl_jax.studies.sweep.work import Worker


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
    from metarl_jax.studies.sweep.points import num_trials
    from metarl_jax.studies.sweep.results import heat_map_keys
    from metarl_jax.studies.sweep.sweep import load_sweep
    from metarl_jax.studies.sweep.trials import is_over, read_trials
    from metarl_jax.studies.sweep.work import work

    loaded = load_sweep(study)
    if keys is not None:
        heat_map_keys(loaded.study, [], keys)
    place = directory or Path(loaded.base.logging.run_root) / study.stem
    check_folder("--dir", place)
    options = as_words({"dir": directory, "devices": devices, "worker": worker, "keys": keys})
    again = shlex.join(["metarl", "sweep", str(study), *options])
    with stop_on_signals(warn, end_at_once) as stop_requested:
        who = _worker(loaded, place, devices, stop_requested, again)
        stopped_by = work(who, waits=not worker)
    if is_over(who.trials):
        _conclude(loaded, who.trials, keys or ())
    else:
        ended = sum(trial.state != "unfinished" for trial in read_trials(who.trials))
        print(f"{ended} of {num_trials(loaded.study)} trials have ended; continue with:\n  {again}")
    if stopped_by is not None:
        raise typer.Exit(128 + stopped_by)


def _worker(loaded: "Sweep", place: Path, wanted: int | None, stop_requested: "StopRequested", again: str) -> "Worker":
    """Everything that a worker needs; what is wrong with the study is said before its directory is made."""
    from metarl_jax.runs.startup import set_up
    from metarl_jax.studies.sweep.points import num_trials
    from metarl_jax.studies.sweep.sweep import make_programs, record_of, seeds_of

    num_seeds = len(seeds_of(loaded))
    set_up(wanted, lambda devices: devices <= num_seeds * (loaded.study.batch or num_trials(loaded.study)))
    from metarl_jax.runs.launch import first_devices
    from metarl_jax.runs.progress import progress
    from metarl_jax.runs.tracked import make_trackers
    from metarl_jax.studies.sweep.objective import make_measure
    from metarl_jax.studies.sweep.trials import has_begun, open_trials
    from metarl_jax.studies.sweep.work import Worker, batch_size

    make_trackers(loaded.base)
    devices = first_devices(wanted)
    size = batch_size(loaded, devices)
    program_of = make_programs(loaded, devices, size * num_seeds)
    if not has_begun(place):
        program_of(loaded.base).compile()  # what does not fit begins no study
    trials = open_trials(loaded.study, place, record_of(loaded))
    print(f"study directory: {place}", flush=True)
    measure = make_measure(loaded.study.objective, warn, devices)
    show = partial(progress, console=errors, print_every=loaded.base.logging.print_every)
    return Worker(loaded, trials, program_of, measure, size, warn, show, stop_requested, again)


def _conclude(loaded: "Sweep", trials: "Trials", keys: tuple[str, ...]) -> None:
    """Write and show what the study came to, and how its best setting is trained."""
    from metarl_jax.config.overrides import as_override
    from metarl_jax.report.tables import print_table
    from metarl_jax.studies.sweep.results import ranked, table, write_results
    from metarl_jax.studies.sweep.sweep import seeds_of
    from metarl_jax.studies.sweep.trials import read_trials

    told = read_trials(trials)
    written = write_results(loaded.study, seeds_of(loaded), told, trials.directory, keys)
    print_table(table(loaded.study, told))
    best, given = ranked(loaded.study, told)[0], loaded.study.config
    if best.objective is not None:
        config = given if loaded.config_file.stem == given else str(loaded.config_file)
        settings = [as_override(key, value) for key, value in {**loaded.study.overrides, **best.values}.items()]
        print("train the best setting with:\n  " + shlex.join(["metarl", "train", config, *settings]))
        print("all about the study on one page:\n  " + shlex.join(["metarl", "report", str(trials.directory)]))
    print("written:", *(f"  {file}" for file in written), sep="\n")
