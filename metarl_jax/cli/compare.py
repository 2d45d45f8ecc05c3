"""``metarl compare``."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metarl_jax.cli.app import LARGEST_SEED, Devices, busy, check_folder, warn

if TYPE_CHECKING:
    from metarl_jax.studies.compare.sources import Method, Recipe

_COSTS = "costs.json"
_ROUNDS = 5  # of training, until as many steps are taken as are wanted: episodes may end early


def compare(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_DIR... | STUDY... | CONFIG [KEY=VALUE]...",
            help="Runs, folders of several seeds, studies that have ended; or configs, to be trained first: keys "
            "before the first are set in all of them, others in the one before them.",
        ),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Of configs: runs of each, as lanes of one program.")] = 3,
    env_steps: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Environment steps at which to compare; of configs: to train.",
            show_default="as many as all have; of configs: as each says",
        ),
    ] = None,
    tasks: Annotated[
        int | None, typer.Option(min=1, help="New tasks to adapt to.", show_default="as the first config says")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=0, help="Units of adaptation, of all methods.", show_default="as each config says")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=LARGEST_SEED, help="Of new tasks.", show_default="as the first config says"),
    ] = None,
    directory: Annotated[Path, typer.Option("--dir", help="Of configs: where the runs are to live.")] = Path(
        "runs/comparison"
    ),
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder for comparison.json, .csv, .tex, .png and improvement.csv.",
            show_default=False,
        ),
    ] = None,
    cost: Annotated[bool, typer.Option(help="Compile each method and measure what an update costs here.")] = True,
    devices: Devices = None,
) -> None:
    """Compare methods at equal environment steps: effect on new tasks, cost, stability; configs are trained first."""
    from metarl_jax.runs.startup import set_up
    from metarl_jax.studies.compare.comparison import Settings
    from metarl_jax.studies.compare.comparison import compare as measure
    from metarl_jax.studies.compare.sources import methods_in

    if output is not None:
        check_folder("--output", output)
    paths = _paths(what, seeds, env_steps, directory, devices)
    set_up(None)
    methods = methods_in(paths)
    costs_file = (output or directory) / _COSTS
    costs = json.loads(costs_file.read_text()) if costs_file.is_file() else {}
    with busy("comparing"):
        result = measure(methods, Settings(tasks, seed, steps, env_steps, cost), costs, warn)
    _show(result, methods)
    if output is not None:
        _write(output, result, costs)


def _paths(
    what: Sequence[str], seeds: int, env_steps: float | None, directory: Path, devices: int | None
) -> list[Path]:
    """What was given, if it is trained; else it is trained first."""
    from metarl_jax.checks import Refusal
    from metarl_jax.studies.compare.sources import check, is_trained, recipes

    trained = [word for word in what if is_trained(word)]
    if len(trained) == len(what):
        return [Path(word) for word in what]
    if trained:
        raise Refusal("", None, f"{trained[0]} is trained and {_other(what, trained)} is not: compare either kind")
    check_folder("--dir", directory)
    given = recipes(what)
    check(given)
    return [path for one in given for path in _trained(one, directory / one.name, seeds, env_steps, devices)]


def _other(what: Sequence[str], trained: Sequence[str]) -> str:
    return next(word for word in what if word not in trained)


def _trained(recipe: "Recipe", folder: Path, seeds: int, env_steps: float | None, devices: int | None) -> list[Path]:
    """The runs of a config, after training what is missing of them."""
    from metarl_jax.config import load_config
    from metarl_jax.runs.signals import end_at_once, stop_on_signals
    from metarl_jax.studies.compare.training import command, is_done, to_compute, train

    first = load_config(recipe.config, list(recipe.overrides)).seed
    runs = [folder / f"seed-{number}" for number in range(first, first + seeds)]
    for _ in range(_ROUNDS):
        if is_done(runs, env_steps):
            break
        warn(f"{recipe.words}: training {seeds} run{'s' * (seeds > 1)}")
        computed = None if env_steps is None else to_compute(runs, env_steps)
        with stop_on_signals(lambda text: None, end_at_once) as stop_requested:
            try:
                stopped_by = train(command(recipe, folder, seeds, computed, devices), stop_requested)
            except subprocess.CalledProcessError as error:
                raise typer.Exit(error.returncode) from error
        if stopped_by is not None:
            print("stopped and saved; the same command continues the comparison")
            raise typer.Exit(128 + stopped_by)
    return runs


def _show(result: dict[str, Any], methods: "Sequence[Method]") -> None:
    from metarl_jax.report.comparison import tables
    from metarl_jax.report.tables import print_table
    from metarl_jax.studies.compare.comparison import notes, unlike

    for table in tables(result):
        print_table(table)
    for note in [*notes(result), *unlike(methods)]:
        print(note)


def _write(folder: Path, result: dict[str, Any], costs: dict[str, Any]) -> None:
    from metarl_jax.report.comparison import pairs_csv, plot_comparison, to_csv, to_latex
    from metarl_jax.tracking.files import write_atomically
    from metarl_jax.tracking.jsonl import finite_or_null

    os.makedirs(folder, exist_ok=True)
    texts = {
        "comparison.json": json.dumps(finite_or_null(result), indent=1, allow_nan=False) + "\n",
        "comparison.csv": to_csv(result),
        "improvement.csv": pairs_csv(result),
        "comparison.tex": to_latex(result),
        _COSTS: json.dumps(costs, indent=1) + "\n",
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    plot_comparison(result, folder / "comparison.png")
    print(f"written: {folder}/comparison.json, .csv, .tex and .png, {folder}/improvement.csv")
