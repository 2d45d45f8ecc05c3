"""``metarl evaluate``."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from metarl_jax.cli.app import LARGEST_SEED, Checkpoint, RunDir, busy, check_file, check_folder, warn, which

if TYPE_CHECKING:
    from metarl_jax.config import Config
    from metarl_jax.runs.directory import Evaluation
    from metarl_jax.runs.program import Program
    from metarl_jax.runs.run import Run
    from metarl_jax.runs.training import Lane


def evaluate(
    run_dir: RunDir,
    tasks: Annotated[int | None, typer.Option(min=1, help="Held-out tasks.", show_default="from the config")] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=0, help="Gradient steps per task, or episodes seen.", show_default="from the config"),
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Episodes per task and step.", show_default="from the config")
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
        typer.Option(min=0, max=LARGEST_SEED, help="Of tasks and episodes.", show_default="from the config"),
    ] = None,
    test_policy: Annotated[
        Literal["stochastic", "deterministic"] | None,
        typer.Option(help="'deterministic': measure the mode of the policy.", show_default="from the config"),
    ] = None,
    checkpoint: Checkpoint = "latest",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to write: a folder, or a .json beside which the picture goes.",
            show_default="the run directory, named after the settings",
        ),
    ] = None,
) -> None:
    """Measure the return on held-out tasks after 0..K steps of adaptation, beside a random initialisation."""
    from metarl_jax.runs.startup import set_up

    set_up(None)
    given = {
        "num_tasks": tasks,
        "num_inner_steps": steps,
        "episodes_per_task": episodes,
        "step_size_rule": step_size_rule,
        "distribution": distribution,
        "seed": seed,
        "test_policy": test_policy,
    }
    evaluate_run(run_dir, checkpoint, given, output)


def evaluate_run(run_dir: Path, checkpoint: str, given: dict[str, Any], output: Path | None = None) -> None:
    """Evaluate a run with the settings given, print the table, and write the numbers and a picture."""
    from metarl_jax.runs.evaluation import evaluate as measure
    from metarl_jax.runs.run import load

    if output is not None:
        (check_file if _is_json(output) else check_folder)("--output", output)
    run = load(run_dir, which(checkpoint), report=warn)
    _report(run, lambda run: measure(run, **given), run_dir, checkpoint, output)


def evaluate_lanes(program: "Program", lanes: "Sequence[Lane]") -> None:
    """Evaluate runs that a program has trained as their configs say, on its devices."""
    from metarl_jax.runs.build import with_config
    from metarl_jax.runs.evaluation import share_evaluations
    from metarl_jax.runs.run import restored_run

    evaluate = share_evaluations(program.devices)
    for lane in lanes:
        experiment = with_config(program.experiment, lane.config)
        run = restored_run(experiment, lane.directory, report=warn)
        name = lane.directory.name if len(lanes) > 1 else None
        _report(run, partial(evaluate, experiment), lane.directory, name=name)


def _report(
    run: "Run",
    measure: "Callable[[Run], dict[str, Any]]",
    run_dir: Path,
    checkpoint: str = "latest",
    output: Path | None = None,
    name: str | None = None,
) -> None:
    """Evaluate a run, print the table, below its name if it is one of several, and write the numbers and a picture."""
    from rich.markup import escape

    from metarl_jax.report.curves import plot_adaptation
    from metarl_jax.report.tables import adaptation_table, iteration_in_words, print_table
    from metarl_jax.runs.directory import is_read_only
    from metarl_jax.runs.run import stopped_early_at
    from metarl_jax.runs.tracked import send
    from metarl_jax.tracking.base import Artifact
    from metarl_jax.tracking.files import write_atomically
    from metarl_jax.tracking.jsonl import finite_or_null

    with busy("adapting to held-out tasks"):
        reached = {"checkpoint": run.iteration, "num_iterations": run.config.training.num_iterations}
        early = stopped_early_at(run_dir)
        result = {**reached, **({} if early is None else {"stopped_early_at": early}), **measure(run)}
    table = adaptation_table(result)
    if name is not None:
        table.title = f"{escape(name)}: {table.title}"
    print_table(table)
    where = iteration_in_words(result) or f", iteration {run.iteration}"
    title = f"{run.config.algorithm.name} on {run.config.tasks.name}{where}"
    settings = result["settings"]
    title += ", beyond training" * (settings["distribution"] == "beyond")
    title += ", by the policy's mode" * (settings["test_policy"] == "deterministic")
    files = _files(output or run_dir, run.config, settings, checkpoint)
    try:
        files.numbers.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(files.numbers, json.dumps(finite_or_null(result), indent=1, allow_nan=False) + "\n")
        plot_adaptation(result, files.picture, title)
    except OSError as error:
        if output is not None or not is_read_only(error):
            raise
        warn(f"{error.filename}: {error.strerror}, so nothing was written; name a place for the numbers with --output")
    else:
        print(f"numbers: {files.numbers}\npicture: {files.picture}")
        if output is None:
            send(run_dir, [Artifact("evaluation", files.numbers), Artifact("picture", files.picture)], warn)


def _files(place: Path, config: "Config", settings: dict[str, Any], checkpoint: str) -> "Evaluation":
    """Where the numbers and the picture go: as the user says, or named after the settings that are not the config's."""
    from metarl_jax.runs.directory import Evaluation, evaluation_files

    if _is_json(place):
        return Evaluation(place, place.with_suffix(".png"))
    usual = config.evaluation.measurement
    changed = {name: settings[name] for name in usual if settings[name] != usual[name]}
    if checkpoint != "latest":
        changed["checkpoint"] = "best" if checkpoint == "best" else f"checkpoint{checkpoint}"
    files = evaluation_files(place, changed)
    if _is_of_others(files.numbers, {name: settings[name] for name in usual}):  # the config's own have changed since
        files = evaluation_files(place, {name: settings[name] for name in usual} | changed)
    return files


def _is_json(place: Path) -> bool:
    """Whether the user named the file of the numbers, and not a folder."""
    return place.suffix == ".json" and not place.is_dir()


def _is_of_others(numbers: Path, settings: dict[str, Any]) -> bool:
    """Whether an evaluation with other settings lies there."""
    try:
        earlier = json.loads(numbers.read_text())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return any(earlier.get(name, value) != value for name, value in settings.items())
