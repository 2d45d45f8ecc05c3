"""``metarl train``."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metarl_jax.cli.app import ConfigPath, Devices, Overrides, errors, warn
from metarl_jax.cli.evaluate import evaluate_run

if TYPE_CHECKING:
    from jax import Device

    from metarl_jax.training import TrainResult


def train(
    config: ConfigPath,
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run is to live.", show_default="runs/CONFIG, numbered if taken")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped or killed.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run that is in the run directory.")
    ] = False,
    devices: Devices = None,
    evaluate_after: Annotated[
        bool, typer.Option("--evaluate", help="Evaluate on held-out tasks when training has finished.")
    ] = False,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Join the processes of a Slurm, MPI, Kubernetes or TPU job.")
    ] = False,
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Join processes started by hand: address of the first.")
    ] = None,
    num_processes: Annotated[int | None, typer.Option(min=1, help="With --coordinator: processes in all.")] = None,
    process_id: Annotated[int | None, typer.Option(min=0, help="With --coordinator: which one this is.")] = None,
) -> None:
    """Train a meta-policy from a config file, writing metrics, checkpoints and a picture into a run directory."""
    from metarl_jax.config import load_config
    from metarl_jax.runs import choose_directory, prepare_directory
    from metarl_jax.startup import join, refuse_alone, set_up

    settings = load_config(config, overrides or [])
    join(distributed, coordinator, num_processes, process_id)
    set_up(devices)
    import jax

    from metarl_jax.config import check_devices
    from metarl_jax.experiment import build, rehearse
    from metarl_jax.progress import progress
    from metarl_jax.training import together
    from metarl_jax.training import train as run_training

    if jax.process_count() > 1:
        refuse_alone(run_dir=run_dir, devices=devices, evaluate_after=evaluate_after)
    chosen = _first_devices(devices)
    check_devices(settings, len(chosen))
    experiment = build(settings)
    rehearse(experiment, len(chosen))  # before a directory is made or a run deleted
    directory = run_dir or choose_directory(settings, config.stem, resume)
    is_main = jax.process_index() == 0
    together(lambda: prepare_directory(directory, settings, resume, overwrite) if is_main else None)
    if is_main:
        print(f"run directory: {directory}", flush=True)
    shown = progress(settings.training.num_iterations, errors) if is_main else nullcontext(lambda row: None)
    with shown as report:
        result = run_training(experiment, directory, devices=chosen, resume=resume, report=report, warn=warn)
    if is_main:
        _conclude(result, directory, config.stem)
        if result.finished and evaluate_after:
            evaluate_run(directory, "latest", {})


def _first_devices(wanted: int | None) -> "list[Device]":
    import jax

    from metarl_jax.config import ConfigError

    chosen = jax.devices()[:wanted]
    if wanted is not None and len(chosen) < wanted:
        raise ConfigError(f"--devices {wanted}: there are only {len(chosen)} of kind {chosen[0].device_kind}")
    return chosen


def _conclude(result: "TrainResult", directory: Path, title: str) -> None:
    """Draw the learning curve and say how training ended."""
    from metarl_jax.metrics import read_metrics
    from metarl_jax.report import plot_training

    picture = ""
    if rows := read_metrics(directory):
        plot_training(rows, directory / "training.png", title)
        picture = f"; learning curve: {directory / 'training.png'}"
    iteration = int(result.state.step)
    if result.seconds_to_first_update is not None:
        print(f"first update after {result.seconds_to_first_update:.1f} s, compilation included")
    if result.finished:
        print(f"finished {iteration} iterations{picture}")
    else:
        print(f"stopped and saved at iteration {iteration}; continue with --resume --run-dir {directory}")
