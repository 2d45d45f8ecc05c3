"""``metarl benchmark``."""

import json
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from metarl_jax.cli.app import ConfigPath, Overrides, busy, check_file, check_folder, check_plot


def benchmark(
    config: ConfigPath,
    overrides: Overrides = None,
    iterations: Annotated[
        int, typer.Option(min=1, help="Meta-iterations to time; of slow ones, as few as three.")
    ] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Time larger and larger meta-batches too, until throughput is flat.")
    ] = False,
    steps: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Adaptation of a sweep, such as inner steps; once for each amount.",
            show_default="the config's, 1 and 5",
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0.0, help="So long after its start a sweep begins no further point.")
    ] = 30.0,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the numbers.")] = None,
    turns: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compile beside others that are given the same lock file; time in turns."),
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a trace of three meta-iterations for ui.perfetto.dev.")
    ] = None,
) -> None:
    """Time meta-iterations on one device, split into physics, policy, advantages, inner and outer."""
    from metarl_jax.config import ConfigError, load_config
    from metarl_jax.runs.startup import set_up

    started = time.monotonic()
    settings = load_config(config, overrides or [])
    if steps and not sweep:
        raise ConfigError(f"--steps {steps[0]}: is for --sweep; give both")
    if picture is not None:
        check_plot("--picture", picture)
    if profile is not None:
        check_folder("--profile", profile)
    lock = None if turns is None else _turn(turns)
    set_up(1)
    import jax

    jax.config.update("jax_enable_compilation_cache", False)  # compile time is one of the numbers
    from metarl_jax.diagnostics.benchmark import benchmark as measure
    from metarl_jax.diagnostics.throughput import sweep as measure_sweep
    from metarl_jax.diagnostics.timing import ALONE
    from metarl_jax.report.speed import benchmark_table, plot_benchmark, sweep_table
    from metarl_jax.report.tables import print_table
    from metarl_jax.runs.fit import settle
    from metarl_jax.runs.memory import usable_bytes

    turn = ALONE if lock is None else lock
    devices = jax.devices()[:1]
    platform, usable = devices[0].platform, usable_bytes(devices)
    settled = lambda config: settle(config, platform, usable, 1)[0]  # noqa: E731
    experiment = settled(settings)
    with busy("compiling and timing"):
        result = measure(experiment, config.stem, iterations, profile, turn)
        if sweep:
            is_over = lambda: time.monotonic() - started > 60 * minutes  # noqa: E731
            result["sweep"] = measure_sweep(experiment, steps or (), iterations, is_over, turn, result, settled)
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        plot_benchmark(result, picture)
    if as_json:
        print(json.dumps(result, indent=1))
        return
    print_table(benchmark_table(result))
    if sweep:
        print_table(sweep_table(result))
    if profile is not None:
        print(f"trace, for ui.perfetto.dev: {result['trace']}")


def _turn(file: Path) -> AbstractContextManager[object]:
    """A lock between processes, in a file that is nothing else."""
    from filelock import FileLock

    from metarl_jax.config import ConfigError

    check_file("--turns", file)
    if file.is_symlink() or (file.exists() and (file.stat().st_size or not os.access(file, os.W_OK))):
        raise ConfigError(f"--turns: {file} is no lock file; name one that is not there, or was made for this")
    return FileLock(file)
