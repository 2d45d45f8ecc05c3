"""All gradient-based methods on one task family at equal environment steps, with their cost."""

import json
import zlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from metarl_jax.config import dump, load_config
from metarl_jax.report.curves import tidy
from metarl_jax.studies import commands
from metarl_jax.studies.results import RESULTS, RUNS, markdown, one_by_one, table

GRADIENT_BASED = ("maml", "ppo_maml", "trpo_maml", "fomaml", "emaml", "promp", "meta_sgd", "anil", "cavia", "reptile")
METHODS = {method: [f"configs/{method}_navigation.yaml"] for method in (*GRADIENT_BASED, "pretraining")}
METHODS["oracle"] = [*METHODS["pretraining"], "tasks.oracle=true", "evaluation.step_size_rule=finn"]
"""A config and what is changed in it, for each row of the table."""

_FRESH = 2026  # evaluation.seed of the configs is 0: those tasks helped to choose the settings
_STEPS = 3
_MEASURED = ("mean_return", "ci_low", "ci_high")


def study(
    methods: Iterable[str] = tuple(METHODS),
    seeds: Sequence[int] = (1, 2, 3),
    tasks: int = 100,
    file: Path = RESULTS / "methods_navigation.json",
    runs: Path = RUNS / "methods",
) -> dict[str, Any]:
    """Train and evaluate methods and measure their cost; write numbers, page and picture.

    Args:
      methods: of :data:`METHODS`; what was measured of others is kept.
      seeds: of the runs of each.
      tasks: held-out tasks.
      file: of the numbers, a ``.json``; the page and the picture lie beside it.
      runs: folder of the run directories.

    Returns:
      By method: its config, ``cost`` and ``runs``.
    """
    results = one_by_one(file, methods, METHODS, partial(measure, seeds=seeds, tasks=tasks, runs=runs), page)
    draw(results, file.with_suffix(".png"))
    return results


def measure(method: str, *, seeds: Sequence[int], tasks: int, runs: Path) -> dict[str, Any]:
    """The cost of one method, and its returns on every seed.

    Args:
      method: of :data:`METHODS`.
      seeds: of the runs.
      tasks: held-out tasks.
      runs: folder of the run directories.

    Returns:
      Its config, ``cost`` and ``runs``.
    """
    return {
        "config": METHODS[method],
        "cost": cost(method, runs),
        "runs": [_run(method, seed, tasks, runs / f"{method}_seed{seed}") for seed in seeds],
    }


def _run(method: str, seed: int, tasks: int, run_dir: Path) -> dict[str, Any]:
    commands.train(run_dir, *METHODS[method], f"seed={seed}")
    evaluation = commands.evaluate(run_dir, tasks=tasks, steps=_STEPS, seed=_FRESH)
    means = {key: evaluation[key] for key in _MEASURED}
    return {"seed": seed, **means, "random_initialisation": evaluation["random_initialisation"]["mean_return"]}


def cost(method: str, runs: Path) -> dict[str, float]:
    """What ``metarl benchmark`` measures of a method, once for each config that it has had.

    Args:
      method: of :data:`METHODS`.
      runs: folder of the run directories, where the benchmark's numbers are kept.

    Returns:
      CPU seconds per million computed steps, ``total`` and ``outer``; ``temporary_bytes`` of the compiled update.
    """
    path, *overrides = METHODS[method]
    resolved = dump(load_config(Path(path), overrides))
    file = runs / f"{method}_cost_{zlib.crc32(resolved.encode()):08x}.json"
    if not file.exists():
        runs.mkdir(parents=True, exist_ok=True)
        file.write_text(commands.metarl("benchmark", *METHODS[method], "--json", capture=True))
    result = json.loads(file.read_text())
    computed = "computed_env_steps_per_iteration"  # of all steps, also those after an episode's early end
    million = 1e6 / result.get(computed, result["env_steps_per_iteration"])  # older files count these under that name
    seconds = {part: million * result["per_iteration"][part]["cpu_seconds"] for part in ("total", "outer")}
    return {**seconds, "temporary_bytes": result["temporary_bytes"]}


def _returns(result: dict[str, Any]) -> np.ndarray:
    """Means over tasks, ``[seeds, K + 1]``."""
    return np.array([run["mean_return"] for run in result["runs"]])


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each method."""
    runs = next(iter(results.values()))["runs"]
    random = np.array([run["random_initialisation"] for run in runs]).mean(axis=0)
    rows: list[list[str | None]] = [_row(method, result) for method, result in results.items()]
    rows.append(["random initialisation", *(f"{x:.1f}" for x in random), None, None, None])
    head = ["method", "0 steps", "1 step", "2 steps", "3 steps", "CPU s / 1M steps", "outer", "MiB"]
    return markdown(
        f"# {name}",
        f"Each method by its `configs/METHOD_navigation.yaml` at equal environment steps; seeds "
        f"{', '.join(str(run['seed']) for run in runs)}. Return on held-out tasks after n gradient steps: mean over "
        "seeds (lowest, highest). Cost: CPU seconds per million environment steps (all that are computed), how many "
        "of them the outer step takes beyond rollouts and inner steps, and temporary memory of one update, on one CPU "
        "device. The oracle sees the goal.",
        table(head, rows),
    )


def _row(method: str, result: dict[str, Any]) -> list[str | None]:
    returns = [f"{x.mean():.1f} ({x.min():.1f}, {x.max():.1f})" for x in _returns(result).T]
    price = result["cost"]
    mebibytes = price["temporary_bytes"] / 2**20
    return [method, *returns, f"{price['total']:.2f}", f"{price['outer']:.2f}", f"{mebibytes:.1f}"]


def draw(results: dict[str, Any], path: Path) -> None:
    """Save the adaptation curves of all methods as a picture.

    Args:
      results: of :func:`study`.
      path: a ``.png``.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    styles = ["-", "--", ":"]
    for i, (method, result) in enumerate(results.items()):
        curve = _returns(result).mean(axis=0)
        if method == "oracle":  # it has nothing to adapt to
            axes.axhline(curve[0], color="black", linestyle=":", label=method)
        else:
            axes.plot(range(len(curve)), curve, styles[i // 10], marker="o", markersize=4, label=method)
    axes.set(xlabel="gradient steps on a held-out task", ylabel="return", title="navigation, equal environment steps")
    axes.set_xticks(range(_STEPS + 1))
    tidy(axes)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=130)
