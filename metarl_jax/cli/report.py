"""``metarl report``."""

from pathlib import Path
from typing import Annotated

import typer

from metarl_jax.cli.app import busy, check_file


def report(
    what: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_DIR... | STUDY...",
            help="Runs, folders of several seeds, studies that have ended: all on the same tasks.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    title: Annotated[
        str | None, typer.Option(help="What is above it.", show_default="the methods and their tasks")
    ] = None,
    episodes: Annotated[bool, typer.Option(help="Play episodes of the first run of each method.")] = True,
) -> None:
    """Write all about some runs or a study into one page of HTML, which needs no network."""
    from metarl_jax.runs.startup import set_up

    check_file("--output", output)
    set_up(1)
    from metarl_jax.report.html.material import Material, subject
    from metarl_jax.report.html.page import page
    from metarl_jax.studies.compare.sources import methods_in, studies_in
    from metarl_jax.tracking.files import write_atomically

    with busy("reading runs and playing episodes"):
        subjects = [subject(one.name, one.config, one.runs) for one in methods_in(what)]
        material = Material(subjects, studies_in(what), episodes)
        methods = ", ".join(one.name for one in subjects)
        text = page(material, title or f"{methods} on {subjects[0].config.tasks.name}")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, text)
    print(f"report: {output}")
