"""``metarl export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metarl_jax.cli.app import Checkpoint, RunDir, busy, check_folder, warn, which

if TYPE_CHECKING:
    from metarl_jax.export.folder import Adapted
    from metarl_jax.runs.run import Run

AdaptedTo = Annotated[
    int | None,
    typer.Option("--adapted", min=0, help="Adapt first, to this task of the evaluation, counted from 0."),
]
TaskNumbers = Annotated[
    str | None, typer.Option("--task", help="Adapt first, to the task with these numbers, as in 0.3,-0.2 (a goal).")
]


def export(
    run_dir: RunDir,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new or empty folder.", show_default="RUN_DIR/export")
    ] = None,
    adapted: AdaptedTo = None,
    task: TaskNumbers = None,
    checkpoint: Checkpoint = "latest",
) -> None:
    """Write a policy that acts without this package: in numpy alone, or through jax.export on CPU, CUDA and TPU."""
    from metarl_jax.runs.startup import set_up

    set_up(1)
    from metarl_jax.runs.run import load

    folder = run_dir / "export" if output is None else output
    about = export_to(folder, load(run_dir, which(checkpoint), report=warn), adapted, task)
    print(f"exported: {folder}\n{describe(about)}")


def export_to(folder: Path, run: "Run", adapted: int | None, task: str | None) -> dict[str, Any]:
    """Export a run, adapted if it was asked for; a folder that cannot be exported to is refused before."""
    from metarl_jax.export.folder import export_run, require_exportable

    check_folder("--output", folder)
    require_exportable(folder)
    with busy("exporting"):
        return export_run(run, folder, agent_to_export(run, adapted, task))


def agent_to_export(run: "Run", adapted: int | None, task: str | None) -> "Adapted | None":
    """Adapt the run if it was asked for."""
    from metarl_jax.config import ConfigError
    from metarl_jax.export.folder import adapt_to
    from metarl_jax.runs.one_task import numbers_of

    if adapted is not None and task is not None:
        raise ConfigError("--adapted is a task of the evaluation, --task any by its numbers: give one of them")
    if task is not None:
        return adapt_to(run, numbers_of(task))
    return None if adapted is None else adapt_to(run, adapted)


def describe(about: dict[str, Any]) -> str:
    """What the folder can do, in a few lines."""
    lines = []
    if adapted := about["adapted"]:
        before, after = adapted["mean_return"][0], adapted["mean_return"][-1]
        numbers = ", ".join(f"{number:.4g}" for number in adapted["task"])
        lines.append(f"adapted to the task {numbers}: return {before:.1f} before, {after:.1f} after")
    lines.append("act in numpy: policy.py" if about["refused"] is None else f"act in numpy: no. {about['refused']}")
    lines.append("act with JAX: act.jaxexport")
    adapts = about["no_adapt"] is None
    lines.append(f"adapt with JAX: {'adapt.jaxexport' if adapts else 'no. ' + about['no_adapt']}")
    return "\n".join(lines)
