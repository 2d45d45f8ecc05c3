"""``metarl train``."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from metarl_jax.cli.app import (
    LARGEST_SEED,
    ConfigPath,
    Devices,
    Overrides,
    as_words,
    check_folder,
    errors,
    explain_mistakes,
    warn,
)
from metarl_jax.cli.conclusion import tell_end, tell_trouble, tell_what_next
from metarl_jax.cli.evaluate import evaluate_lanes

if TYPE_CHECKING:
    from metarl_jax.runs.launch import Work
    from metarl_jax.runs.program import Program
    from metarl_jax.runs.training import Lane

Evaluate = Annotated[bool, typer.Option("--evaluate", help="Evaluate on held-out tasks when training has finished.")]
Distributed = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(
        help="Join the other processes that Slurm, Open MPI, Kubernetes or a TPU pod describe: 'auto' if there are "
        "any, 'on' or refuse to start."
    ),
]
Coordinator = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Join processes started by hand: address of the first.")
]
NumProcesses = Annotated[int | None, typer.Option(min=1, help="With --coordinator: processes in all.")]
ProcessId = Annotated[int | None, typer.Option(min=0, help="With --coordinator: which one this is.")]
EXIT_CODES = (
    "Exit codes: 0 finished; 1 a fault, such as a full disk; 2 a mistake in what was asked for; "
    "75 another process of the job has ended: start all again; 130 stopped by Ctrl-C and 143 by SIGTERM, saved."
)


class _Options(NamedTuple):
    """How a run is started, whatever it trains."""

    devices: int | None
    evaluate_after: bool
    distributed: Distributed
    coordinator: str | None
    num_processes: int | None
    process_id: int | None


def train(
    config: ConfigPath,
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run is to live.", show_default="runs/CONFIG, numbered if taken")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Train so many runs in one program, of the config's seed and those that follow, each in a folder "
            "seed-N of the run directory.",
            show_default="one run",
        ),
    ] = None,
    env_steps: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Train for so many environment steps, those after an episode's early end included, to the nearest "
            "update, in the place of training.num_iterations.",
            show_default="from the config",
        ),
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
    distributed: Distributed = "off",
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
) -> None:
    """Train a meta-policy from a config file, writing metrics, checkpoints and a picture into a run directory."""
    from metarl_jax.config import ConfigError, load_config

    if resume_if_exists + resume + overwrite > 1:
        raise ConfigError("--resume-if-exists, --resume and --overwrite are three ways to start: give one of them")
    from metarl_jax.runs.launch import Work, choose_places

    settings = load_config(config, overrides or [])
    numbers = None if seeds is None else range(settings.seed, settings.seed + seeds)
    if numbers and numbers[-1] > LARGEST_SEED:
        raise ConfigError(
            f"--seeds {seeds}: from seed = {settings.seed} on they pass {LARGEST_SEED}: begin with a lower one"
        )
    configs = [load_config(config, [*(overrides or []), f"seed={number}"]) for number in numbers or [settings.seed]]
    how: Literal["new", "resume", "either"] = "either" if resume_if_exists else "resume" if resume else "new"
    choose = partial(choose_places, settings, config.stem, run_dir, numbers, how)
    options = _Options(devices, evaluate_after, distributed, coordinator, num_processes, process_id)
    with _together(options):
        is_named = run_dir is not None or how != "new"
        _train(Work(configs, choose, overwrite, _again(options), env_steps), config.stem, options, run_dir, is_named)


def resume(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="What training printed first; or a folder of several runs.")
    ],
    overrides: Overrides = None,
    devices: Devices = None,
    evaluate_after: Evaluate = False,
    distributed: Distributed = "off",
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
) -> None:
    """Continue a run that was stopped or killed, or several in one folder, as their own configs say."""
    from metarl_jax.runs.directory import holds_run, runs_in
    from metarl_jax.runs.launch import Place, Work
    from metarl_jax.runs.run import read_config

    directories = [run_dir] if holds_run(run_dir) else runs_in(run_dir) or [run_dir]
    configs = [read_config(directory, overrides or []) for directory in directories]
    group = run_dir.resolve().name if len(directories) > 1 else None
    places = [Place(directory, True, group) for directory in directories]
    options = _Options(devices, evaluate_after, distributed, coordinator, num_processes, process_id)
    with _together(options):
        work = Work(configs, lambda: nullcontext(places), options=_again(options))
        _train(work, run_dir.resolve().name, options, run_dir)


@contextmanager
def _together(options: _Options) -> Iterator[None]:
    """With the other processes, if there are any; a mistake is explained before this one leaves them."""
    from metarl_jax.runs.cluster import find_job
    from metarl_jax.runs.processes import joined

    job = find_job(options.distributed, options.coordinator, options.num_processes, options.process_id)
    with joined(job), explain_mistakes():
        yield


def _train(work: "Work", title: str, options: _Options, folder: Path | None, is_named: bool = True) -> None:
    """Train what there is to train, and end the process as a signal asks.

    ``folder`` is where the user wants it; ``is_named`` says that its place is settled, and is not the next free one.
    """
    import jax

    from metarl_jax.runs.launch import launch, of_length, prepare_program, suits
    from metarl_jax.runs.processes import leave, refuse_alone
    from metarl_jax.runs.progress import progress
    from metarl_jax.runs.signals import end_at_once, stop_on_signals
    from metarl_jax.runs.startup import set_up

    set_up(options.devices, partial(suits, work.configs))
    if jax.process_count() > 1:
        refuse_alone(run_dir=folder, devices=options.devices, evaluate_after=options.evaluate_after)
    elif is_named:
        _check_places(work)
    program, is_main = prepare_program(work.configs, options.devices), jax.process_index() == 0
    work = of_length(work, program)
    with stop_on_signals(warn, end_at_once) as stop_requested:
        shown = partial(progress, console=errors, print_every=work.configs[0].logging.print_every)
        done = launch(
            program,
            work,
            announce=partial(_announce, options.devices),
            progress=shown,
            warn=warn,
            stop_requested=stop_requested,
        )
        if is_main:
            tell_end(done, title)
        leave()
        signals = [result.signal for result in done.results if result.signal is not None]
        stopped_by = next(iter(signals), stop_requested())  # a signal during the last save counts, too
    if stopped_by is not None:
        tell_trouble(done if is_main else done._replace(lanes=[]))
        raise typer.Exit(128 + stopped_by)
    if is_main:
        for lane in done.lanes:
            _send(lane.directory)
        if options.evaluate_after:
            evaluate_lanes(program, done.lanes)
        tell_what_next(done, program.experiment, options.evaluate_after)


def _check_places(work: "Work") -> None:
    """Refuse places where the runs cannot be, before anything is traced."""
    from metarl_jax.runs.run import check_place

    with work.choose() as places:
        for config, place in zip(work.configs, places, strict=True):
            check_folder("run directory", place.directory)
            check_place(place.directory, config, place.resume, work.overwrite)


def _send(run_dir: Path) -> None:
    """Tell the trackers of a run of its learning curve and its newest checkpoint."""
    from metarl_jax.runs.checkpoint import Checkpoints
    from metarl_jax.runs.directory import CHECKPOINTS, LEARNING_CURVE
    from metarl_jax.runs.tracked import send
    from metarl_jax.tracking.base import Artifact

    checkpoints = run_dir / CHECKPOINTS
    newest = [Artifact("checkpoint", checkpoints / str(step)) for step in Checkpoints(checkpoints).steps()[-1:]]
    curve = run_dir / LEARNING_CURVE
    send(run_dir, [*newest, *([Artifact("picture", curve)] if curve.exists() else [])], warn)


def _again(options: _Options) -> list[str]:
    """The options with which a run is continued."""
    given = options._asdict()
    evaluate, distributed = given.pop("evaluate_after"), given.pop("distributed")
    return as_words({**given, "evaluate": evaluate, "distributed": None if distributed == "off" else distributed})


def _announce(wanted: int | None, program: "Program", lanes: Sequence["Lane"]) -> None:
    """Where the runs live, and what they are trained on."""
    import jax

    from metarl_jax.cores import usable_cores
    from metarl_jax.runs.startup import virtual_devices_configured

    training, devices = lanes[0].config.training, program.devices
    tasks = training.meta_batch_size
    is_cpu, is_alone = devices[0].platform == "cpu", jax.process_count() == 1
    where = lanes[0].directory if len(lanes) == 1 else f"{lanes[0].directory.parent}, {len(lanes)} runs"
    print(f"run directory: {where}")
    if len(devices) > 1:
        kind = "CPU cores" if is_cpu else f"devices ({devices[0].device_kind})"
        shared = f"share the {tasks} tasks of an update" if program.width == 1 else "train runs of their own"
        print(f"{len(devices)} {kind} {shared}{' (--devices 1 for one)' if is_alone else ''}")
    elif is_cpu and is_alone and wanted is None and not virtual_devices_configured() and (cores := usable_cores()) > 1:
        print(f"1 CPU core of {cores}: no more can share the {tasks} tasks of an update evenly in this method")
    if training.initial_run is not None:
        print(f"initial parameters: {training.initial_run}, checkpoint {training.initial_checkpoint}")
    for key, value in program.experiment.hyper.items():
        print(f"algorithm.{key}: {value}")
    sys.stdout.flush()
