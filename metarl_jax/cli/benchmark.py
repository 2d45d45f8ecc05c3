"""``metarl benchmark``."""

import json
from typing import Annotated

import typer

from metarl_jax.cli.app import ConfigPath, Overrides, errors


def benchmark(
    config: ConfigPath,
    overrides: Overrides = None,
    iterations: Annotated[int, typer.Option(min=1, help="Meta-iterations to time.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time meta-iterations on one device: seconds and CPU seconds, split into rollout, inner and outer."""
    from metarl_jax.config import load_config
    from metarl_jax.runs.startup import set_up

    settings = load_config(config, overrides or [])
    set_up(1)
    import jax

    jax.config.update("jax_enable_compilation_cache", False)  # compile time is one of the numbers
    from metarl_jax.diagnostics.benchmark import benchmark as measure
    from metarl_jax.report.tables import benchmark_table, print_table
    from metarl_jax.runs.build import build

    with errors.status("compiling and timing"):
        result = measure(build(settings), config.stem, iterations)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        print_table(benchmark_table(result))
