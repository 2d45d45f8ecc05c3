"""``metarl train``."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from metarl_jax.cli.app import ConfigPath, Devices, Overrides, errors, explain_mistakes, warn
from metarl_jax.cli.evaluate import evaluate_run

if TYPE_CHECKING:
    from jax import Device

    from metarl_jax.config import Config
    from metarl_jax.runs.program import Program
    from metarl_jax.runs.training import Lane, StopRequested, TrainResult

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


class _Launch(NamedTuple):
    """How a run is started, whatever it trains."""

    devices: int | None
    evaluate_after: bool
    distributed: Distributed
    coordinator: str | None
    num_processes: int | None
    process_id: int | None


class _Place(NamedTuple):
    """A run directory, and whether the run in it goes on."""

    directory: Path
    resume: bool


class _Work(NamedTuple):
    """What is trained.

    Attributes:
      configs: of one run, or of several that one program trains.
      title: of pictures.
      choose: makes up its mind where each of them lives, when all fits.
      folder: as the user gave it, if they did.
      overwrite: delete what is there.
    """

    configs: Sequence["Config"]
    title: str
    choose: Callable[[], list[_Place]]
    folder: Path | None
    overwrite: bool = False


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

    if resume_if_exists and (resume or overwrite):
        raise ConfigError("--resume-if-exists, --resume and --overwrite are three ways to start: give one of them")
    settings = load_config(config, overrides or [])
    numbers = [settings.seed] if seeds is None else range(settings.seed, settings.seed + seeds)
    configs = [load_config(config, [*(overrides or []), f"seed={number}"]) for number in numbers]

    def choose() -> list[_Place]:
        from metarl_jax.runs.directory import holds_run, runs_in
        from metarl_jax.runs.processes import any_process
        from metarl_jax.runs.run import choose_directory

        holds = holds_run if seeds is None else runs_in
        usual = Path(settings.logging.run_root) / config.stem
        folder = run_dir or (usual if resume_if_exists else choose_directory(settings, config.stem, resume, holds))
        directories = [folder] if seeds is None else [folder / f"seed-{number}" for number in numbers]
        if resume_if_exists:
            return [_Place(directory, any_process(holds_run(directory))) for directory in directories]
        return [_Place(path, resume and (seeds is None or holds_run(path))) for path in directories]

    launch = _Launch(devices, evaluate_after, distributed, coordinator, num_processes, process_id)
    with _together(launch):
        _train(_Work(configs, config.stem, choose, run_dir, overwrite), launch)


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
    from metarl_jax.runs.run import read_config

    directories = [run_dir] if holds_run(run_dir) else runs_in(run_dir) or [run_dir]
    configs = [read_config(directory, overrides or []) for directory in directories]
    places = [_Place(directory, True) for directory in directories]
    launch = _Launch(devices, evaluate_after, distributed, coordinator, num_processes, process_id)
    with _together(launch):
        _train(_Work(configs, run_dir.resolve().name, lambda: places, run_dir), launch)


@contextmanager
def _together(launch: _Launch) -> Iterator[None]:
    """With the other processes, if there are any; a mistake is explained before this one leaves them."""
    from metarl_jax.runs.cluster import find_job
    from metarl_jax.runs.processes import joined

    job = find_job(launch.distributed, launch.coordinator, launch.num_processes, launch.process_id)
    with joined(job), explain_mistakes():
        yield


def _train(work: _Work, launch: _Launch) -> None:
    """Train what there is to train, and end the process as a signal asks."""
    from metarl_jax.runs.startup import set_up

    size = work.configs[0].training.meta_batch_size
    set_up(launch.devices, lambda devices: 1 < devices <= len(work.configs) or size % devices == 0)
    import jax

    from metarl_jax.runs.processes import leave, refuse_alone
    from metarl_jax.runs.signals import end_at_once, stop_on_signals

    if jax.process_count() > 1:
        refuse_alone(run_dir=work.folder, devices=launch.devices, evaluate_after=launch.evaluate_after)
    program = _program(work.configs, launch.devices)
    with stop_on_signals(warn, end_at_once) as stop_requested:
        lanes, results = _run(program, work, launch, stop_requested)
        leave()
        signals = [result.signal for result in results if result.signal is not None]
        stopped_by = next(iter(signals), stop_requested())  # a signal during the last save counts, too
    if stopped_by is not None:
        raise typer.Exit(128 + stopped_by)
    if jax.process_index() == 0 and launch.evaluate_after:
        for lane in lanes:
            evaluate_run(lane.directory, "latest", {})


def _program(configs: Sequence["Config"], wanted: int | None) -> "Program":
    """What trains them, before a directory is made or a run deleted; on fewer cores where the method needs it so."""
    import jax

    from metarl_jax.checks import Refusal
    from metarl_jax.runs.build import with_config
    from metarl_jax.runs.fit import settle
    from metarl_jax.runs.memory import usable_bytes
    from metarl_jax.runs.program import check_lanes, make_program

    check_lanes(configs)
    devices = first_devices(wanted)
    num_sharing = len(devices) if len(configs) < len(devices) else 1
    experiment, _ = settle(configs[0], devices[0].platform, usable_bytes(devices), num_sharing)
    for config in configs[1:]:
        with_config(experiment, config)  # its numbers are checked
    try:
        return make_program(experiment, devices, len(configs))
    except Refusal:
        is_our_choice = wanted is None and devices[0].platform == "cpu" and jax.process_count() == 1
        if not is_our_choice or len(devices) == 1:
            raise
        return make_program(experiment, devices[:1], len(configs))


def _run(
    program: "Program", work: _Work, launch: _Launch, stop_requested: "StopRequested"
) -> tuple[list["Lane"], list["TrainResult"]]:
    """Claim the directories, train, and say how it ended."""
    import jax

    from metarl_jax.runs.processes import together
    from metarl_jax.runs.progress import progress
    from metarl_jax.runs.run import prepared
    from metarl_jax.runs.training import Lane, train_lanes

    is_main = jax.process_index() == 0
    with ExitStack() as held:
        places = work.choose()
        lanes = [Lane(config, place.directory) for config, place in zip(work.configs, places, strict=True)]

        def claim() -> None:
            for lane, place in zip(lanes, places, strict=True):
                held.enter_context(prepared(lane.directory, lane.config, place.resume, work.overwrite, warn))

        together(claim if is_main else lambda: None)
        if is_main:
            _announce(program, lanes)
        total = [config.training.num_iterations for config in work.configs]
        shown = progress(total, errors) if is_main else nullcontext(lambda lane, row: None)
        with shown as report:
            results = train_lanes(
                program,
                lanes,
                report=lambda lane, row: report(lanes.index(lane), row),
                warn=warn,
                stop_requested=stop_requested,
            )
        if is_main:
            _conclude(lanes, results, work, launch)
    return lanes, results


def _again(launch: _Launch) -> list[str]:
    """The options with which a run is continued."""
    return [
        *([] if launch.devices is None else ["--devices", str(launch.devices)]),
        *(["--evaluate"] if launch.evaluate_after else []),
        *([] if launch.distributed == "off" else ["--distributed", launch.distributed]),
        *([] if launch.coordinator is None else ["--coordinator", launch.coordinator]),
        *([] if launch.num_processes is None else ["--num-processes", str(launch.num_processes)]),
        *([] if launch.process_id is None else ["--process-id", str(launch.process_id)]),
    ]


def first_devices(wanted: int | None) -> "list[Device]":
    """As many devices as are wanted, or all."""
    import jax

    from metarl_jax.config import ConfigError

    chosen = jax.devices()[:wanted]
    if wanted is not None and len(chosen) < wanted:
        raise ConfigError(f"--devices {wanted}: there are only {len(chosen)} of kind {chosen[0].device_kind}")
    return chosen


def _announce(program: "Program", lanes: Sequence["Lane"]) -> None:
    """Where the runs live, and what they are trained on."""
    import jax

    tasks, devices = lanes[0].config.training.meta_batch_size, program.devices
    where = lanes[0].directory if len(lanes) == 1 else f"{lanes[0].directory.parent}, {len(lanes)} runs"
    print(f"run directory: {where}")
    if len(devices) > 1:
        kind = "CPU cores" if devices[0].platform == "cpu" else f"devices ({devices[0].device_kind})"
        shared = f"share the {tasks} tasks of an update" if program.width == 1 else "train runs of their own"
        fewer = " (--devices 1 for one)" if jax.process_count() == 1 else ""
        print(f"{len(devices)} {kind} {shared}{fewer}")
    for key, value in program.experiment.hyper.items():
        print(f"algorithm.{key}: {value}")
    sys.stdout.flush()


def _conclude(lanes: Sequence["Lane"], results: Sequence["TrainResult"], work: _Work, launch: _Launch) -> None:
    """Draw the learning curves and say how training ended."""
    from metarl_jax.report.curves import plot_training
    from metarl_jax.runs.directory import LEARNING_CURVE, continuation
    from metarl_jax.tracking.jsonl import read_metrics

    folder = lanes[0].directory if len(lanes) == 1 else lanes[0].directory.parent
    pictures = []
    for lane, _ in zip(lanes, results, strict=False):
        if rows := read_metrics(lane.directory):
            name = work.title if len(lanes) == 1 else f"{work.title}, seed {lane.config.seed}"
            plot_training(rows, lane.directory / LEARNING_CURVE, name)
            pictures.append(lane.directory / LEARNING_CURVE)
    again = continuation(folder, *_again(launch))
    iterations = [int(result.state.step) for result in results]
    if results[0].seconds_to_first_update is not None:
        print(f"first update after {results[0].seconds_to_first_update:.1f} s, compilation included")
    runs = "" if len(lanes) == 1 else f"{sum(result.finished for result in results)} of {len(lanes)} runs finished; "
    if len(results) == len(lanes) and all(result.finished for result in results):
        several = "" if len(lanes) == 1 else f" of each of {len(lanes)} runs"
        shown = f"; learning curve: {pictures[0]}" if pictures else ""
        print(f"finished {max(iterations)} iterations{several}{shown}{' and beside' if len(pictures) > 1 else ''}")
    elif max(iterations) == 0:
        print(f"stopped before the first update; start it with: {again}")
    else:
        print(f"{runs}stopped and saved at iteration {iterations[-1]}; continue with: {again}")
