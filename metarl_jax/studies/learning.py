"""Learning: a config trained on several seeds and evaluated on held-out tasks, beside an oracle if wanted."""

import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metarl_jax.checks import require
from metarl_jax.ops.statistics import interval
from metarl_jax.report.curves import tidy
from metarl_jax.report.tables import GRADIENT_STEPS, adaptation_unit, milestones, tasks_in_words
from metarl_jax.report.text import amount
from metarl_jax.studies import commands
from metarl_jax.studies.gains import normalised_gain, paired_gain, per_task_return
from metarl_jax.studies.results import RUNS, configured, markdown, read, table, write
from metarl_jax.tracking.jsonl import read_metrics

_CURVE = ("iteration", "env_steps", "return_pre", "return_post", "iteration_seconds")
_MOST_ROWS = 200
_LAST = 5  # rows whose mean is the end of the curve


def study(
    file: Path,
    config: Path,
    seeds: Sequence[int] = (1, 2, 3),
    *,
    overrides: Sequence[str] = (),
    checkpoint: str = "latest",
    steps: int = 3,
    tasks: int = 40,
    episodes: int | None = None,
    oracle: Path | None = None,
    keep: bool = False,
    devices: int = 1,
    runs: Path = RUNS,
) -> dict[str, Any]:
    """Train a config on several seeds, or go on where that stopped; evaluate; write numbers, page and picture.

    Args:
      file: of the numbers, a ``.json``; the page and the picture lie beside it.
      config: to train.
      seeds: of the runs.
      overrides: ``KEY=VALUE`` that change the config.
      checkpoint: which one is evaluated, ``latest`` or ``best``.
      steps: gradient steps at evaluation.
      tasks: held-out tasks.
      episodes: per task and gradient step at evaluation; the config's if None.
      oracle: config of a policy that sees its task, trained on the first seed; of the overrides it gets those of
        ``tasks``.
      keep: leave the other seeds and the oracle in the results as they are.
      devices: that a run is spread over.
      runs: folder of the run directories.

    Returns:
      Settings, ``seeds`` (evaluation and learning curve of each run) and ``oracle`` (the same of one run, or None).

    Raises:
      Refusal: if what is to be kept is not of the same settings.
    """
    options = {"checkpoint": checkpoint, "steps": steps, "tasks": tasks, "episodes": episodes}
    asked = {"config": str(config), "overrides": list(overrides), **options}
    kept_runs, oracle_run = kept(file, asked, seeds) if keep else ([], None)
    new_runs = [
        run(runs / f"{file.stem}_seed{seed}", config, seed, overrides, options=options, devices=devices)
        for seed in seeds
    ]
    if oracle:
        run_dir, of_tasks = runs / f"{oracle.stem}_seed{seeds[0]}", [x for x in overrides if x.startswith("tasks.")]
        without_steps = {**options, "steps": 0}
        found = run(run_dir, oracle, seeds[0], of_tasks, options=without_steps, devices=devices)
        oracle_run = {"config": str(oracle), **found}
    result = {
        "config": str(config),
        "overrides": list(overrides),
        "checkpoint": checkpoint,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in ("jax", "flax", "optax", "brax")},
        "machine": {"num_devices": devices, "processor": platform.machine()},
        "seeds": sorted([*kept_runs, *new_runs], key=lambda run: run["seed"]),
        "oracle": oracle_run,
    }
    publish(file, result)
    return result


def kept(
    file: Path, asked: Mapping[str, object], seeds: Sequence[int]
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The runs of other seeds in the results, and the oracle, if they are of what is now to be run.

    Args:
      file: of the results.
      asked: settings of what is to be run; None: as in the results.
      seeds: that are run now.

    Returns:
      The runs of the other seeds, and the oracle's if there is one.

    Raises:
      Refusal: if there are no results, or of something else.
    """
    before = read(file)
    settings = before["seeds"][0]["evaluation"]["settings"]
    held = {
        **{key: before[key] for key in ("config", "overrides", "checkpoint")},
        "tasks": settings["num_tasks"],
        "steps": settings["num_inner_steps"],
        "episodes": settings["episodes_per_task"],
    }
    for key, now in asked.items():
        remedy = f"{file} is of {key} {held[key]}, not {now}; leave it out, or give the results another name"
        require(now is None or held[key] == now, "keep", True, remedy)
    return [run for run in before["seeds"] if run["seed"] not in seeds], before.get("oracle")


def run(
    run_dir: Path, config: Path, seed: int, overrides: Sequence[str], *, options: Mapping[str, object], devices: int
) -> dict[str, Any]:
    """Train one seed, or go on where that stopped, and evaluate it.

    Args:
      run_dir: of the run.
      config: to train.
      seed: of the run.
      overrides: ``KEY=VALUE`` that change the config.
      options: of ``metarl evaluate``.
      devices: that the run is spread over.

    Returns:
      ``seed``, ``evaluation``, ``curve`` and ``last_session_seconds``.
    """
    started = time.perf_counter()
    commands.train(run_dir, config, f"seed={seed}", *overrides, devices=devices)
    seconds = time.perf_counter() - started
    evaluation = commands.evaluate(run_dir, **options)
    rows = read_metrics(run_dir)
    curve = [{key: float("nan") if row[key] is None else row[key] for key in _CURVE} for row in rows]
    return {"seed": seed, "evaluation": evaluation, "curve": thin(curve), "last_session_seconds": seconds}


def thin(rows: Sequence[Mapping[str, float]], most: int = _MOST_ROWS) -> list[dict[str, float]]:
    """Means over equal stretches of a curve, so that committed files stay small.

    Args:
      rows: of the curve.
      most: as many are left.

    Returns:
      The rows, or fewer.

    Example:
      >>> thin([{"x": 1.0}, {"x": 3.0}, {"x": 5.0}], most=2)
      [{'x': 2.0}, {'x': 5.0}]
    """
    stride = -(-len(rows) // most)
    groups = [rows[i : i + stride] for i in range(0, len(rows), stride)]
    return [{key: sum(row[key] for row in group) / len(group) for key in group[0]} for group in groups]


def publish(file: Path, result: dict[str, Any]) -> None:
    """Write the numbers, and their page and picture beside them.

    Args:
      file: a ``.json``.
      result: of :func:`study`.
    """
    write(file, result, page)
    draw(result, file.with_suffix(".png"))


def redraw(file: Path) -> dict[str, Any]:
    """Make the page and the picture again from the numbers; nothing is run.

    Args:
      file: of the numbers, a ``.json``.

    Returns:
      What the file holds.

    Raises:
      Refusal: if there is no such file.
    """
    result = read(file)
    publish(file, result)
    return result


def page(name: str, result: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` of returns, gains over those before, and normalised gains."""
    runs, oracle = result["seeds"], result.get("oracle")
    steps, titles = _shown_steps(runs), _titles(runs)
    blocks = [
        f"# {name}",
        _settings_in_words(result),
        f"Mean return after n {_unit(runs)} [95 % bootstrap interval over tasks]:",
        _return_table(runs, oracle, steps),
    ]
    if len(steps) > 1:
        blocks += [
            "Gain over the return before adaptation, mean over tasks ± half of its 95 % interval:",
            table(["seed", *titles[1:]], [_gain_row(run, steps[1:]) for run in runs]),
        ]
    if oracle:
        blocks += [
            f"The oracle is `{oracle['config']}`. Normalised gain, (return - random before) / (oracle - random before) "
            "[95 % bootstrap interval over tasks]:",
            table(["seed", *titles], [_normalised_row(run, oracle, steps) for run in runs]),
        ]
    ends = [run["curve"][-_LAST:] for run in runs]
    final = [sum(row["return_post"] for row in rows) / len(rows) for rows in ends]
    return markdown(
        *blocks, "Training return after adaptation, end of the curve: " + ", ".join(f"{x:.2f}" for x in final)
    )


def _shown_steps(runs: Sequence[dict[str, Any]]) -> list[int]:
    return milestones(runs[0]["evaluation"]["gradient_steps"][-1])


def _unit(runs: Sequence[dict[str, Any]]) -> str:
    return adaptation_unit(runs[0]["evaluation"]["settings"])


def _titles(runs: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{k} {_unit(runs).removeprefix('gradient ')}" for k in _shown_steps(runs)]


def _settings_in_words(result: dict[str, Any]) -> str:
    settings = result["seeds"][0]["evaluation"]["settings"]
    how_many = f"{amount(settings['episodes_per_task'], 'trial')} per task"
    if _unit(result["seeds"]) == GRADIENT_STEPS:
        sizes = _step_sizes_in_words(settings["step_sizes"])
        how_many = f"{settings['episodes_per_task']} episodes per task and step, step sizes {sizes}"
    return (
        f"{configured(result['config'], result['overrides'])}; {result['checkpoint']} checkpoint, "
        f"{tasks_in_words(settings)}, {how_many}."
    )


def _step_sizes_in_words(step_sizes: Sequence[float]) -> str:
    """The step sizes of all gradient steps; a long row of equal ones by its length."""
    if len(step_sizes) > 3 and len(set(step_sizes)) == 1:
        return f"{step_sizes[0]:g}, {len(step_sizes)} times"
    return str(step_sizes)


def _return_table(runs: Sequence[dict[str, Any]], oracle: dict[str, Any] | None, steps: Sequence[int]) -> str:
    rows: list[list[str | None]] = []
    for run in runs:
        evaluation = run["evaluation"]
        rows.append([str(run["seed"]), str(evaluation["checkpoint"]), *_means(evaluation, steps)])
    rows.append(["random initialisation", None, *_means(runs[0]["evaluation"]["random_initialisation"], steps)])
    if oracle:
        evaluation = oracle["evaluation"]
        beyond = [None] * (len(steps) - 1)  # it has nothing to adapt to
        rows.append(["oracle", str(evaluation["checkpoint"]), *_means(evaluation, [0]), *beyond])
    return table(["seed", "iteration", *_titles(runs)], rows)


def _means(summary: dict[str, Any], steps: Sequence[int]) -> list[str]:
    returns = per_task_return(summary)[list(steps)]
    return ["{:.2f} [{:.2f}, {:.2f}]".format(*interval(row[np.isfinite(row)])) for row in returns]


def _gain_row(run: dict[str, Any], steps: Sequence[int]) -> list[str]:
    means, halves = paired_gain(run["evaluation"])
    return [str(run["seed"]), *(f"{means[k]:+.2f} ± {halves[k]:.2f}" for k in steps)]


def _normalised_row(run: dict[str, Any], oracle: dict[str, Any], steps: Sequence[int]) -> list[str]:
    gains, low, high = normalised_gain(run["evaluation"], oracle["evaluation"])
    return [str(run["seed"]), *(f"{gains[k]:.3f} [{low[k]:z.2f}, {high[k]:z.2f}]" for k in steps)]


def draw(result: dict[str, Any], path: Path) -> None:
    """Save learning curves and adaptation curves as a picture, entitled as its file.

    Args:
      result: of :func:`study`.
      path: a ``.png``.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    runs, oracle = result["seeds"], result.get("oracle")
    marked: dict[str, Any] = {"marker": "o", "markevery": _shown_steps(runs)}
    for run in runs:
        color = _draw_learning(left, run)
        right.plot(run["evaluation"]["mean_return"], color=color, **marked)
    random = runs[0]["evaluation"]["random_initialisation"]["mean_return"]
    right.plot(random, color="0.6", label="random initialisation", **marked)
    if oracle:
        right.axhline(oracle["evaluation"]["mean_return"][0], color="black", linestyle=":", label="oracle")
    left.set(xlabel="environment steps", ylabel="return, training tasks (faint: before)", title=path.stem)
    right.set(xlabel=f"{_unit(runs)} at meta-test time", ylabel="return")
    right.locator_params(axis="x", integer=True)
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
        tidy(axes)
    figure.savefig(path, dpi=130)


def _draw_learning(axes: Axes, run: dict[str, Any]) -> Any:
    """The return after adaptation and, fainter, before it; returns their colour."""
    steps, before, after = ([row[key] for row in run["curve"]] for key in ("env_steps", "return_pre", "return_post"))
    (line,) = axes.plot(steps, after, label=f"seed {run['seed']}, after")
    axes.plot(steps, before, color=line.get_color(), alpha=0.35, linewidth=1)
    return line.get_color()
