"""``metarl check-gradients``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from metarl_jax.cli.app import LARGEST_SEED, busy, check_plot


def check_gradients(
    estimator: Annotated[
        list[str] | None, typer.Option(help="One of them; may be given several times.", show_default="all")
    ] = None,
    samples: Annotated[
        list[int] | None, typer.Option(min=1, help="Episodes per estimate; several.", show_default="10, 100, 1000")
    ] = None,
    repeats: Annotated[int, typer.Option(min=2, help="Simulated meta-gradients per sample size.")] = 500,
    inner_lr: Annotated[float, typer.Option(min=0.0, help="Inner step size alpha.")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of the process, the policy and the samples.")] = 0,
    picture: Annotated[Path, typer.Option(help="Where the plot over sample sizes goes.")] = Path("gradients.png"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compare the inner-loss estimators with exact Hessians and meta-gradients on a small enumerable process."""
    from metarl_jax.runs.startup import set_up

    set_up(1)
    import jax

    from metarl_jax.diagnostics.gradient_check import ESTIMATORS
    from metarl_jax.diagnostics.gradient_check import check_gradients as measure
    from metarl_jax.report.curves import plot_gradients
    from metarl_jax.report.tables import gradients_table, print_table

    check_plot("--picture", picture)
    settings = {"repeats": repeats, "inner_lr": inner_lr, "seed": seed}
    with busy("enumerating and sampling"), jax.enable_x64(True):
        result = measure(estimator or ESTIMATORS, sample_sizes=samples or (10, 100, 1000), **settings)  # type: ignore[arg-type]
    picture.parent.mkdir(parents=True, exist_ok=True)
    plot_gradients(result, picture)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        print_table(gradients_table(result))
        print(f"picture: {picture}")
