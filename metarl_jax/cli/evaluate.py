"""``metarl evaluate``."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from metarl_jax.cli.app import LARGEST_SEED, Checkpoint, RunDir, errors, warn, which


def evaluate(
    run_dir: RunDir,
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
        typer.Option(min=0, max=LARGEST_SEED, help="Of tasks and episodes.", show_default="from the config"),
    ] = None,
    checkpoint: Checkpoint = "latest",
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
    evaluate_run(run_dir, checkpoint, given)


def evaluate_run(run_dir: Path, checkpoint: str, given: dict[str, Any]) -> None:
    """Evaluate a run with the settings given, write the numbers and a picture beside it, and print the table."""
    from metarl_jax.evaluation import evaluate as measure
    from metarl_jax.metrics import finite_or_null
    from metarl_jax.report import adaptation_table, plot_adaptation, print_table
    from metarl_jax.runs import load

    run = load(run_dir, which(checkpoint), report=warn)
    with errors.status("adapting to held-out tasks"):
        result = {"checkpoint": run.iteration, **measure(run, **given)}
    is_beyond = result["settings"]["distribution"] == "beyond"
    title = f"{run.config.algorithm.name} on {run.config.tasks.name}, iteration {run.iteration}"
    numbers = run_dir / ("evaluation_beyond.json" if is_beyond else "evaluation.json")
    picture = run_dir / ("adaptation_beyond.png" if is_beyond else "adaptation.png")
    numbers.write_text(json.dumps(finite_or_null(result), indent=1, allow_nan=False) + "\n")
    plot_adaptation(result, picture, f"{title}, beyond training" if is_beyond else title)
    print_table(adaptation_table(result))
    print(f"numbers: {numbers}\npicture: {picture}")
