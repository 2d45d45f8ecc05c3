"""``metarl publish``."""

from pathlib import Path
from typing import Annotated

import typer

from metarl_jax.cli.app import Checkpoint, RunDir, check_folder, warn, which
from metarl_jax.cli.evaluate import evaluate_run
from metarl_jax.cli.export import AdaptedTo, TaskNumbers, export_to


def publish(
    run_dir: RunDir,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new or empty folder.", show_default="RUN_DIR/card")
    ] = None,
    licence: Annotated[str, typer.Option("--license", help="Of the weights, as an SPDX identifier.")] = "apache-2.0",
    adapted: AdaptedTo = None,
    task: TaskNumbers = None,
    checkpoint: Checkpoint = "latest",
) -> None:
    """Write a folder for a model hub: what metarl export writes, the evaluation with its picture, and a model card.

    A checkpoint that has not been evaluated yet is evaluated first, as metarl evaluate does.
    """
    from metarl_jax.runs.startup import set_up

    set_up(None)
    from metarl_jax.export.card import evaluation_of, write_card
    from metarl_jax.runs.run import load

    run = load(run_dir, which(checkpoint), report=warn)
    folder = run_dir / "card" if output is None else output
    is_evaluated = evaluation_of(run_dir, run.iteration) is not None
    if not is_evaluated:  # its evaluation goes there
        check_folder("RUN_DIR", run_dir)
    export_to(folder, run, adapted, task)
    if not is_evaluated:
        evaluate_run(run_dir, checkpoint, {"distribution": "held_out"})
    write_card(run, run_dir, folder, licence)
    print(f"card: {folder / 'README.md'}\nto publish it, upload {folder} as a model, with the client of your hub")
