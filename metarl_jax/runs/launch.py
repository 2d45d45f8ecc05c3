"""From configs to trained run directories: one run, or several that one program trains."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from metarl_jax.checks import Refusal, require
from metarl_jax.config import Config, ConfigError
from metarl_jax.runs.build import with_config
from metarl_jax.runs.directory import continuation, gone_if_refused, holds_run, make, runs_in
from metarl_jax.runs.fit import settle
from metarl_jax.runs.log import computed_steps
from metarl_jax.runs.memory import usable_bytes
from metarl_jax.runs.processes import any_process, smallest_anywhere, together
from metarl_jax.runs.program import Program, check_lanes, lanes_per_device, make_program
from metarl_jax.runs.run import choose_directory, claimed, prepared
from metarl_jax.runs.tracked import make_trackers
from metarl_jax.runs.training import Lane, StopRequested, TrainResult, train_lanes, warm_starts

Progress = Callable[[Sequence[int]], AbstractContextManager[Callable[[int, dict[str, Any]], None]]]
"""``(iterations of each run) -> what shows``, given the number of a run, the row of each of its updates."""
_UNTOLD = 2**31 - 1  # MiB of memory, where nobody tells


class Place(NamedTuple):
    """A run directory, whether the run in it goes on, and the name of the group of seeds that it belongs to."""

    directory: Path
    resume: bool
    group: str | None = None


class Work(NamedTuple):
    """What is trained.

    Attributes:
      configs: of one run, or of several that differ in seeds and traced numbers alone.
      choose: makes up its mind where each of them lives, when all fits; what it makes for them is gone after a refusal.
      overwrite: delete what is there.
      options: of the command with which the runs are continued.
      env_steps: how long each is trained; None as its config says.
    """

    configs: Sequence[Config]
    choose: Callable[[], AbstractContextManager[Sequence[Place]]]
    overwrite: bool = False
    options: Sequence[str] = ()
    env_steps: float | None = None


class Trained(NamedTuple):
    """What came of it: of lanes that a signal kept from starting, there is no result; ``again`` continues them."""

    lanes: list[Lane]
    results: list[TrainResult]
    again: str


@contextmanager
def choose_places(
    config: Config, name: str, folder: Path | None, seeds: Sequence[int] | None, how: Literal["new", "resume", "either"]
) -> Iterator[list[Place]]:
    """Where a run is to live, or those of several seeds: in folders ``seed-N`` of one.

    Args:
      config: says where runs live.
      name: of the run; that of a new one is numbered if taken.
      folder: where the user wants it; None by its name.
      seeds: of several runs; None of one.
      how: start, go on, or go on if there is a run to go on with (and then its name is never numbered).

    Yields:
      A place for each run; a numbered folder that was made for them is gone if what is done inside is refused.

    Raises:
      ConfigError: if there is nothing to go on with, or a single run is where several are to live.
    """
    root = Path(config.logging.run_root)
    made: list[Path] = []
    if folder is None and how != "either":
        above = make(root) if how == "new" else []
        folder = choose_directory(config, name, how == "resume", holds_run if seeds is None else runs_in)
        made = [folder, *above] if how == "new" else []
    with gone_if_refused(made):
        yield _places(folder or root / name, seeds, how)


def _places(folder: Path, seeds: Sequence[int] | None, how: Literal["new", "resume", "either"]) -> list[Place]:
    if seeds is None:
        return [Place(folder, how == "resume" or (how == "either" and any_process(holds_run(folder))))]
    if holds_run(folder):
        raise ConfigError(f"{folder} holds a single run: choose another --run-dir, or train without --seeds")
    directories = [folder / f"seed-{seed}" for seed in seeds]
    group = folder.resolve().name
    places = [Place(path, how != "new" and any_process(holds_run(path)), group) for path in directories]
    if how == "resume" and not any(place.resume for place in places):
        raise ConfigError(f"nothing to resume in {folder}: start the runs without --resume")
    return places


def suits(configs: Sequence[Config], devices: int) -> bool:
    """Whether so many devices have something to do all the time: lanes of their own, or equal shares of the tasks.

    Example:
      >>> from metarl_jax.config import load_config
      >>> [suits([load_config("quickstart")] * 3, devices) for devices in (2, 3, 4, 7)]
      [True, True, True, False]
    """
    return devices <= len(configs) or configs[0].training.meta_batch_size % devices == 0


def first_devices(wanted: int | None) -> list[jax.Device]:
    """As many devices as are wanted, or all.

    Raises:
      ConfigError: if there are not so many.

    Example:
      >>> len(first_devices(1))
      1
    """
    here = jax.devices()
    if wanted is not None and not 1 <= wanted <= len(here):
        allowed = "1" if len(here) == 1 else f"1 to {len(here)}"
        found = f"there are {len(here)} of kind {here[0].device_kind}: give {allowed}"
        can_split = here[0].platform == "cpu" and wanted > 1 and jax.process_count() == 1
        raise ConfigError(f"devices = {wanted}: {found}{_to_split_cpu(wanted) if can_split else ''}")
    return here[:wanted]


def _to_split_cpu(number: int) -> str:
    """How a CPU becomes several devices: JAX reads it once, when it is imported, and XLA needs a thread to spare."""
    settings = f'import os; os.environ.update(JAX_NUM_CPU_DEVICES="{number}", NPROC="{number + 1}")'
    return (
        f"; a CPU is split into devices before JAX starts: give the command --devices {number} or, in Python, restart "
        f"it (in a notebook: the kernel) and begin, before jax or metarl_jax is imported, with: {settings}"
    )


def prepare_program(configs: Sequence[Config], wanted: int | None) -> Program:
    """What trains some runs; whatever they ask for in vain is refused here, before a directory is touched.

    Args:
      configs: of the runs.
      wanted: how many devices; None if the user did not say: on a CPU, one if the method needs it so.

    Returns:
      The program, not yet compiled.

    Raises:
      Refusal: if the runs cannot share a program, or what they ask for cannot work.
    """
    check_lanes(configs)
    make_trackers(configs[0])
    devices = first_devices(wanted)
    try:
        program = settled_program(configs[0], devices, len(configs))
    except Refusal:
        is_our_choice = wanted is None and devices[0].platform == "cpu" and jax.process_count() == 1
        if not is_our_choice or len(devices) == 1:
            raise
        program = settled_program(configs[0], devices[:1], len(configs))
    for config in configs[1:]:
        with_config(program.experiment, config)  # its numbers are checked
    return program


def of_length(work: Work, program: Program) -> Work:
    """The work with configs that say how many updates its environment steps are.

    Args:
      work: what is to be trained.
      program: of its configs.

    Raises:
      Refusal: if the method does not declare how many steps an update takes.
    """
    if work.env_steps is None:
        return work
    steps = computed_steps(program.experiment)
    remedy = "the method declares no adaptation, so that its steps cannot be told: set training.num_iterations"
    require(steps is not None, "env_steps", work.env_steps, remedy)
    assert steps is not None  # for the type checker
    updates = {"num_iterations": max(1, round(work.env_steps / steps))}
    lasting = [config.training.model_copy(update=updates) for config in work.configs]
    configs = [config.model_copy(update={"training": one}) for config, one in zip(work.configs, lasting, strict=True)]
    return work._replace(configs=configs)


def settled_program(config: Config, devices: Sequence[jax.Device], num_lanes: int) -> Program:
    """A program in which what the config leaves open is decided by the memory there is.

    Args:
      config: of one of the lanes.
      devices: to train on.
      num_lanes: how many will go through it.

    Returns:
      The program, not yet compiled.

    Raises:
      Refusal: if what the config asks for cannot work.
    """
    num_sharing = len(devices) if num_lanes < len(devices) else 1
    usable, num_batched = usable_bytes(devices), lanes_per_device(num_lanes, devices)
    # Processes that decided apart could make programs that differ, and wait for ever.
    mebibytes = smallest_anywhere(_UNTOLD if usable is None else usable // 2**20)
    usable = None if mebibytes == _UNTOLD else mebibytes * 2**20 // num_batched
    experiment, _ = settle(config, devices[0].platform, usable, num_sharing)
    return make_program(experiment, devices, num_lanes)


def launch(
    program: Program,
    work: Work,
    *,
    announce: Callable[[Program, Sequence[Lane]], object],
    progress: Progress,
    warn: Callable[[str], object],
    stop_requested: StopRequested | None = None,
) -> Trained:
    """Claim the run directories and train in them; of several processes, the first one writes and speaks.

    Args:
      program: of :func:`prepare_program`.
      work: what is trained.
      announce: called when the directories are ours.
      progress: shows how far it is.
      warn: see :func:`metarl_jax.runs.training.train`, as the rest.
      stop_requested: as there.

    Returns:
      What was trained, and how it ended.

    Raises:
      ConfigError: if a directory is taken, or holds no run to go on with, or the run to start from does not fit.
      Refusal: if an update, or an evaluation that is due while training, needs more memory than there is.
      WriteError: if a run cannot be written.
    """
    is_main, started = jax.process_index() == 0, time.perf_counter()
    with ExitStack() as held:
        places = held.enter_context(work.choose())
        lanes = [Lane(config, place.directory, place.group) for config, place in zip(work.configs, places, strict=True)]
        again = continuation(lanes[0].directory if len(lanes) == 1 else lanes[0].directory.parent, *work.options)
        starts = warm_starts(program, lanes, not work.overwrite, warn)
        if work.overwrite:  # what does not fit deletes nothing
            _keep_sources(lanes)
            program.compile()

        def claim() -> None:
            for step in (claimed, prepared):  # all are ours before anything is deleted
                for lane, place in zip(lanes, places, strict=True):
                    held.enter_context(step(lane.directory, lane.config, place.resume, work.overwrite, warn))

        together(claim if is_main else lambda: None)
        if is_main:
            announce(program, lanes)
        iterations = [config.training.num_iterations for config in work.configs]
        with progress(iterations) if is_main else nullcontext(lambda run, row: None) as show:
            results = train_lanes(
                program,
                lanes,
                report=lambda lane, row: show(lanes.index(lane), row),
                warn=warn,
                stop_requested=stop_requested,
                started=started,
                again=again,
                starts=starts,
            )
    return Trained(lanes, results, again)


def _keep_sources(lanes: Sequence[Lane]) -> None:
    """Refuse to delete the run that another is to start from."""
    targets = {lane.directory.resolve() for lane in lanes}
    for source in filter(None, (lane.config.training.initial_run for lane in lanes)):
        if Path(source).resolve() in targets:
            remedy = "is what --overwrite would delete: choose another --run-dir"
            raise ConfigError(f"training.initial_run = {source!r}: {remedy}")
