"""``metarl train``."""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from metarl_jax.cli.app import ConfigPath, Devices, Overrides, RunDir, errors, warn
from metarl_jax.cli.evaluate import evaluate_run

if TYPE_CHECKING:
    from jax import Device

    from metarl_jax.config import Config
    from metarl_jax.runs.training import TrainResult

Evaluate = Annotated[bool, typer.Option("--evaluate", help="Evaluate on held-out tasks when training has finished.")]
Distributed = Annotated[
    bool, typer.Option("--distributed", help="Join the processes of a Slurm, MPI, Kubernetes or TPU job.")
]
Coordinator = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Join processes started by hand: address of the first.")
]
NumProcesses = Annotated[int | None, typer.Option(min=1, help="With --coordinator: processes in all.")]
ProcessId = Annotated[int | None, typer.Option(min=0, help="With --coordinator: which one this is.")]
EXIT_CODES = (
    "Exit codes: 0 finished; 1 a fault, such as a full disk; 2 a mistake in what was asked for; "
    "130 stopped by Ctrl-C and 143 by SIGTERM, saved."
)


class _Launch(NamedTuple):
    """How a run is started, whatever it trains."""

    devices: int | None
    evaluate_after: bool
    distributed: bool
    coordinator: str | None
    num_processes: int | None
    process_id: int | None


def train(
    config: ConfigPath,
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run is to live.", show_default="runs/CONFIG, numbered if taken")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped or killed.")] = False,
    resume_if_exists: Annotated[
        bool,
        typer.Option(
            "--resume-if-exists",
            help="Continue the run in the run directory (runs/CONFIG, never numbered) or, if there is none, start it: "
            "for jobs that are queued again.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run that is in the run directory.")
    ] = False,
    devices: Devices = None,
    evaluate_after: Evaluate = False,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
) -> None:
    """Train a meta-policy from a config file, writing metrics, checkpoints and a picture into a run directory."""
    from metarl_jax.config import ConfigError, load_config

    if resume_if_exists and (resume or overwrite):
        raise ConfigError("--resume-if-exists, --resume and --overwrite are three ways to start: give one of them")
    settings = load_config(config, overrides or [])
    launch = _Launch(devices, evaluate_after, distributed, coordinator, num_processes, process_id)

    def choose() -> tuple[Path, bool]:
        from metarl_jax.runs.directory import holds_run
        from metarl_jax.runs.processes import any_process
        from metarl_jax.runs.run import choose_directory

        if resume_if_exists:
            directory = run_dir or Path(settings.logging.run_root) / config.stem
            return directory, any_process(holds_run(directory))
        return run_dir or choose_directory(settings, config.stem, resume), resume

    _train(settings, config.stem, launch, run_dir, choose, overwrite)


def resume(
    run_dir: RunDir,
    overrides: Overrides = None,
    devices: Devices = None,
    evaluate_after: Evaluate = False,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
) -> None:
    """Continue a run that was stopped or killed, as its own config says."""
    from metarl_jax.runs.run import read_config

    settings = read_config(run_dir, overrides or [])
    launch = _Launch(devices, evaluate_after, distributed, coordinator, num_processes, process_id)
    _train(settings, run_dir.resolve().name, launch, run_dir, lambda: (run_dir, True), overwrite=False)


def _train(
    settings: "Config",
    title: str,
    launch: _Launch,
    run_dir: Path | None,
    choose: Callable[[], tuple[Path, bool]],
    overwrite: bool,
) -> None:
    """Train what the settings say; ``choose`` makes up its mind where, and whether to continue, when all fits."""
    from metarl_jax.runs.processes import join, refuse_alone, together
    from metarl_jax.runs.startup import set_up

    join(launch.distributed, launch.coordinator, launch.num_processes, launch.process_id)
    set_up(launch.devices)
    import jax

    from metarl_jax.runs.directory import continuation
    from metarl_jax.runs.fit import settle
    from metarl_jax.runs.memory import usable_bytes
    from metarl_jax.runs.progress import progress
    from metarl_jax.runs.run import prepared
    from metarl_jax.runs.signals import end_at_once, stop_on_signals
    from metarl_jax.runs.training import train as run_training

    if jax.process_count() > 1:
        refuse_alone(run_dir=run_dir, devices=launch.devices, evaluate_after=launch.evaluate_after)
    chosen = _first_devices(launch.devices)
    # Before a directory is made or a run deleted.
    experiment, fit = settle(settings, chosen[0].platform, usable_bytes(chosen), len(chosen))
    is_main = jax.process_index() == 0
    with stop_on_signals(warn, end_at_once) as stop_requested, ExitStack() as held:
        directory, resumed = choose()
        keep = prepared(directory, settings, resumed, overwrite, warn) if is_main else nullcontext()
        together(lambda: held.enter_context(keep))
        if is_main:
            print(f"run directory: {directory}", flush=True)
            for key, value in fit.settings.items():
                print(f"algorithm.{key}: {value}")
        shown = progress(settings.training.num_iterations, errors) if is_main else nullcontext(lambda row: None)
        with shown as report:
            result = run_training(
                experiment,
                directory,
                devices=chosen,
                resume=resumed,
                report=report,
                warn=warn,
                stop_requested=stop_requested,
            )
        if is_main:
            _conclude(result, directory, title, continuation(directory, *_again(launch)))
        stopped_by = result.signal or stop_requested()  # a signal during the last save counts, too
    if stopped_by is not None:
        raise typer.Exit(128 + stopped_by)
    if is_main and launch.evaluate_after:
        evaluate_run(directory, "latest", {})


def _again(launch: _Launch) -> list[str]:
    """The options with which a run is continued."""
    return [
        *([] if launch.devices is None else ["--devices", str(launch.devices)]),
        *(["--evaluate"] if launch.evaluate_after else []),
        *(["--distributed"] if launch.distributed else []),
    ]


def _first_devices(wanted: int | None) -> "list[Device]":
    import jax

    from metarl_jax.config import ConfigError

    chosen = jax.devices()[:wanted]
    if wanted is not None and len(chosen) < wanted:
        raise ConfigError(f"--devices {wanted}: there are only {len(chosen)} of kind {chosen[0].device_kind}")
    return chosen


def _conclude(result: "TrainResult", directory: Path, title: str, command: str) -> None:
    """Draw the learning curve and say how training ended."""
    from metarl_jax.report.curves import plot_training
    from metarl_jax.runs.directory import LEARNING_CURVE
    from metarl_jax.tracking.jsonl import read_metrics

    picture = ""
    if rows := read_metrics(directory):
        plot_training(rows, directory / LEARNING_CURVE, title)
        picture = f"; learning curve: {directory / LEARNING_CURVE}"
    iteration = int(result.state.step)
    if result.seconds_to_first_update is not None:
        print(f"first update after {result.seconds_to_first_update:.1f} s, compilation included")
    if result.finished:
        print(f"finished {iteration} iterations{picture}")
    elif iteration == 0:
        print(f"stopped before the first update; start it with: {command}")
    else:
        print(f"stopped and saved at iteration {iteration}; continue with: {command}")
