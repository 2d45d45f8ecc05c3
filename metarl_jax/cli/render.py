"""``metarl render``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metarl_jax.cli.app import LARGEST_SEED, Checkpoint, RunDir, busy, check_file, check_folder, warn, which

if TYPE_CHECKING:
    from metarl_jax.runs.run import Run


def render(
    run_dir: RunDir,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The picture: PNG, GIF, or HTML of a body.",
            show_default="render.png or .gif in RUN_DIR",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Its numbers, as in 0.3,-0.2 (a goal) or -1 (a direction).", show_default="drawn"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of the task and its episodes.")] = 0,
    checkpoint: Checkpoint = "latest",
) -> None:
    """Draw a run on one task, before and after adaptation: paths, an animated body or game, or pulls of a bandit."""
    from metarl_jax.runs.startup import set_up

    set_up(1)
    from metarl_jax.runs.one_task import numbers_of
    from metarl_jax.runs.run import load

    numbers = None if task is None else numbers_of(task)
    draw_run(load(run_dir, which(checkpoint), report=warn), run_dir, output, numbers, seed)


def draw_run(run: "Run", run_dir: Path, output: Path | None, task: list[float] | None, seed: int) -> None:
    """Draw a run into its directory, or as the user says, and print where the picture is."""
    from metarl_jax.report.pictures.render import render as draw
    from metarl_jax.runs.directory import gone_if_refused, make

    place = output or run_dir
    (check_folder if place.is_dir() else check_file)("--output", place)
    with gone_if_refused(make(place.parent)), busy("adapting and drawing"):
        picture, summary = draw(run, place, task, seed)
    print(f"picture: {picture}\n{summary}")
