"""The command ``metarl``: train, evaluate, render, benchmark, list."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console

if TYPE_CHECKING:
    from jax import Device

    from metarl_jax.training import TrainResult

app = typer.Typer(
    name="metarl",
    help="Meta-reinforcement learning in JAX: train from a YAML file, evaluate adaptation, benchmark.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_errors = Console(stderr=True)
_LARGEST_SEED = 2**32 - 1

_Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; see configs/ and 'metarl list'.")]
_Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Config keys to set, as in algorithm.inner_lr=0.05.", show_default=False
    ),
]
_Devices = Annotated[
    int | None,
    typer.Option(
        min=1, help="Devices to share the meta-batch. On CPU, cores to split it over.", show_default="all there are"
    ),
]
_RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="What training printed first.")]
_Checkpoint = Annotated[
    str, typer.Option(help="'latest', 'best' (mean return after 1..K steps in training), or an iteration.")
]


def main() -> None:
    """Run the command; a user's mistake ends it with one message and exit code 2."""
    with _explain_mistakes():
        app()


@contextmanager
def _explain_mistakes() -> Iterator[None]:
    from metarl_jax.checks import Refusal

    try:
        yield
    except Refusal as refusal:
        _fail(str(refusal))
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}; choose another folder or file, or its permissions")


def _fail(message: str) -> NoReturn:
    _errors.print("[bold red]error:[/] ", end="")
    _errors.print(message, markup=False, highlight=False, soft_wrap=True)
    sys.exit(2)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"metarl {version('metarl-jax')} (jax {version('jax')}, brax {version('brax')})")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show versions.")] = False,
) -> None:
    pass


@app.command()
def train(
    config: _Config,
    overrides: _Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run is to live.", show_default="runs/CONFIG, numbered if taken")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped or killed.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run that is in the run directory.")
    ] = False,
    devices: _Devices = None,
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
    set_up(devices)
    join(distributed, coordinator, num_processes, process_id)
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
    shown = progress(settings.training.num_iterations, _errors) if is_main else nullcontext(lambda row: None)
    with shown as report:
        result = run_training(experiment, directory, devices=chosen, resume=resume, report=report, warn=_warn)
    if is_main:
        _conclude(result, directory, config.stem)
        if result.finished and evaluate_after:
            _evaluate(directory, "latest", {})


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


@app.command()
def evaluate(
    run_dir: _RunDir,
    tasks: Annotated[int | None, typer.Option(help="Held-out tasks.", show_default="from the config")] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps per task.", show_default="from the config")] = None,
    episodes: Annotated[
        int | None, typer.Option(help="Episodes per task and step.", show_default="from the config")
    ] = None,
    step_size_rule: Annotated[
        Literal["constant", "finn"] | None,
        typer.Option(help="'finn' halves the step size after the first step.", show_default="from the config"),
    ] = None,
    distribution: Annotated[
        Literal["held_out", "beyond"] | None,
        typer.Option(
            help="'beyond': tasks out of the training distribution, if there are such.", show_default="from the config"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=_LARGEST_SEED, help="Of tasks and episodes.", show_default="from the config"),
    ] = None,
    checkpoint: _Checkpoint = "latest",
) -> None:
    """Measure the return on held-out tasks after 0..K gradient steps, beside a random initialisation."""
    from metarl_jax.startup import set_up

    set_up(None)
    given = {
        "num_tasks": tasks,
        "num_inner_steps": steps,
        "episodes_per_task": episodes,
        "step_size_rule": step_size_rule,
        "distribution": distribution,
        "seed": seed,
    }
    _evaluate(run_dir, checkpoint, given)


def _evaluate(run_dir: Path, checkpoint: str, given: dict[str, Any]) -> None:
    from metarl_jax.evaluation import evaluate as measure
    from metarl_jax.metrics import finite_or_null
    from metarl_jax.report import adaptation_table, plot_adaptation, print_table
    from metarl_jax.runs import load

    run = load(run_dir, _which(checkpoint), report=_warn)
    with _errors.status("adapting to held-out tasks"):
        result = {"checkpoint": run.iteration, **measure(run.config, run.params, **given)}
    is_beyond = result["settings"]["distribution"] == "beyond"
    title = f"{run.config.algorithm.name} on {run.config.tasks.name}, iteration {run.iteration}"
    numbers = run_dir / ("evaluation_beyond.json" if is_beyond else "evaluation.json")
    picture = run_dir / ("adaptation_beyond.png" if is_beyond else "adaptation.png")
    numbers.write_text(json.dumps(finite_or_null(result), indent=1, allow_nan=False) + "\n")
    plot_adaptation(result, picture, f"{title}, beyond training" if is_beyond else title)
    print_table(adaptation_table(result))
    print(f"numbers: {numbers}\npicture: {picture}")


def _which(checkpoint: str) -> int | Literal["latest", "best"]:
    from metarl_jax.config import ConfigError

    if checkpoint in ("latest", "best"):
        return checkpoint  # type: ignore[return-value]
    if not checkpoint.isdigit():
        raise ConfigError(f"--checkpoint {checkpoint}: give 'latest', 'best' or an iteration")
    return int(checkpoint)


@app.command()
def benchmark(
    config: _Config,
    overrides: _Overrides = None,
    iterations: Annotated[int, typer.Option(min=1, help="Meta-iterations to time.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time meta-iterations on one device: seconds and CPU seconds, split into rollout, inner and outer."""
    from metarl_jax.config import load_config
    from metarl_jax.startup import set_up

    settings = load_config(config, overrides or [])
    set_up(1)
    import jax

    jax.config.update("jax_enable_compilation_cache", False)  # compile time is one of the numbers
    from metarl_jax.benchmark import benchmark as measure
    from metarl_jax.experiment import build
    from metarl_jax.report import benchmark_table, print_table

    with _errors.status("compiling and timing"):
        result = measure(build(settings), config.stem, iterations)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        print_table(benchmark_table(result))


@app.command("check-gradients")
def check_gradients(
    estimator: Annotated[
        list[str] | None, typer.Option(help="One of them; may be given several times.", show_default="all")
    ] = None,
    samples: Annotated[
        list[int] | None, typer.Option(min=1, help="Episodes per estimate; several.", show_default="10, 100, 1000")
    ] = None,
    repeats: Annotated[int, typer.Option(min=2, help="Simulated meta-gradients per sample size.")] = 500,
    inner_lr: Annotated[float, typer.Option(min=0.0, help="Inner step size alpha.")] = 0.5,
    seed: Annotated[
        int, typer.Option(min=0, max=_LARGEST_SEED, help="Of the process, the policy and the samples.")
    ] = 0,
    picture: Annotated[Path, typer.Option(help="Where the plot over sample sizes goes.")] = Path("gradients.png"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compare the inner-loss estimators with exact Hessians and meta-gradients on a small enumerable process."""
    from metarl_jax.startup import set_up

    set_up(1)
    import jax

    from metarl_jax.gradient_check import ESTIMATORS
    from metarl_jax.gradient_check import check_gradients as measure
    from metarl_jax.report import gradients_table, plot_gradients, print_table

    settings = {"repeats": repeats, "inner_lr": inner_lr, "seed": seed}
    with _errors.status("enumerating and sampling"), jax.enable_x64(True):
        result = measure(estimator or ESTIMATORS, sample_sizes=samples or (10, 100, 1000), **settings)  # type: ignore[arg-type]
    plot_gradients(result, picture)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        print_table(gradients_table(result))
        print(f"picture: {picture}")


@app.command()
def render(
    run_dir: _RunDir,
    output: Annotated[
        Path | None,
        typer.Option(help="The picture: PNG, GIF, or HTML of a body.", show_default="named after the family"),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Its numbers, as in 0.3,-0.2 (a goal) or -1 (a direction).", show_default="drawn"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=_LARGEST_SEED, help="Of the task and its episodes.")] = 0,
    checkpoint: _Checkpoint = "latest",
) -> None:
    """Draw a run on one task, before and after adaptation: paths, an animated body or game, or pulls of a bandit."""
    from metarl_jax.startup import set_up

    set_up(1)
    from metarl_jax.config import ConfigError
    from metarl_jax.render import render as draw
    from metarl_jax.runs import load

    try:
        numbers = None if task is None else [float(number) for number in task.split(",")]
    except ValueError:
        raise ConfigError(f"--task {task}: give numbers separated by commas") from None
    run = load(run_dir, _which(checkpoint), report=_warn)
    with _errors.status("adapting and drawing"):
        picture, summary = draw(run, output, numbers, seed)
    print(f"picture: {picture}\n{summary}")


@app.command("list")
def list_(
    folder: Annotated[Path, typer.Option(help="Where config files lie.")] = Path("configs"),
) -> None:
    """List algorithms, task families, policies and config files."""
    from metarl_jax.algorithms import ALGORITHMS
    from metarl_jax.networks import POLICIES
    from metarl_jax.tasks import FAMILIES

    catalogues: dict[str, dict[str, Callable[..., Any]]] = {
        "algorithms": dict(ALGORITHMS),
        "task families": dict(FAMILIES),
        "policies": dict(POLICIES),
    }
    for title, factories in catalogues.items():
        print(f"{title}:")
        for name, factory in factories.items():
            summary = (factory.__doc__ or "").strip().splitlines()[0]
            print(f"  {name:24}{summary}")
    print(f"configs in {folder}/:")
    for path in sorted(folder.glob("*.yaml")):
        print(f"  {path}")
    if not any(folder.glob("*.yaml")):
        print("  none; name another folder with --folder")


def _warn(text: str) -> None:
    _errors.print(text, markup=False, highlight=False, soft_wrap=True)
