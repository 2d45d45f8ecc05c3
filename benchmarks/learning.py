"""Train a config on several seeds, evaluate on held-out tasks, and write the table, curves and numbers.

    python benchmarks/learning.py configs/maml_navigation_finn.yaml --seeds 1 2 3 --checkpoint best

Runs live in runs/benchmarks/NAME_seedS and continue where they stopped. Results go to
benchmarks/results/NAME.{json,md,png}.
``--overrides KEY=VALUE ...`` change config keys, and are recorded. ``--oracle CONFIG`` also trains a policy that sees
its task, on the first seed (of the overrides, those of ``tasks``), and gives the share of its improvement on a random
policy that adaptation reaches. ``--keep`` leaves the other seeds and the oracle in the results as they are, so that
seeds can come from several machines; the results know the config by its path, so it must not have changed since.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from metarl_jax.report.tables import milestones, tasks_in_words
from metarl_jax.tracking.jsonl import read_metrics

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--checkpoint", default="latest", help="which checkpoint is evaluated: latest or best")
    parser.add_argument("--name", help="of the results; the config's by default")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3, help="gradient steps at evaluation")
    parser.add_argument("--tasks", type=int, default=40, help="held-out tasks")
    parser.add_argument("--episodes", type=int, help="episodes per task and gradient step at evaluation")
    parser.add_argument("--oracle", type=Path, metavar="CONFIG", help="of a policy that sees its task")
    parser.add_argument("--keep", action="store_true", help="other seeds, and the oracle, that the results hold")
    parser.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    name = options.name or options.config.stem
    kept_runs, oracle = kept(options, RESULTS / f"{name}.json") if options.keep else ([], None)
    runs = [run_seed(options, name, options.config, seed, options.steps, options.overrides) for seed in options.seeds]
    runs = sorted(kept_runs + runs, key=lambda run: run["seed"])
    if options.oracle:
        same_tasks = [override for override in options.overrides if override.startswith("tasks.")]
        run = run_seed(options, options.oracle.stem, options.oracle, options.seeds[0], 0, same_tasks)
        oracle = {"config": str(options.oracle), **run}
    result = {
        "config": str(options.config),
        "overrides": options.overrides,
        "checkpoint": options.checkpoint,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in ("jax", "flax", "optax", "brax")},
        "machine": {"num_devices": options.devices, "processor": platform.machine()},
        "seeds": runs,
        "oracle": oracle,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    table = make_table(result, name)
    (RESULTS / f"{name}.md").write_text(table)
    draw(runs, oracle, RESULTS / f"{name}.png", name)
    print(table)


def kept(options: argparse.Namespace, results: Path) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The runs of other seeds in the results, and the oracle, if they are of what is now to be run."""
    if not results.exists():
        sys.exit(f"--keep: {results} does not exist; run without --keep first")
    before = json.loads(results.read_text())
    settings = before["seeds"][0]["evaluation"]["settings"]
    asked = {
        "config": (before["config"], str(options.config)),
        "overrides": (before["overrides"], options.overrides),
        "checkpoint": (before["checkpoint"], options.checkpoint),
        "tasks": (settings["num_tasks"], options.tasks),
        "steps": (settings["num_inner_steps"], options.steps),
        "episodes": (settings["episodes_per_task"], options.episodes or settings["episodes_per_task"]),
    }
    for key, (held, now) in asked.items():
        if held != now:
            sys.exit(f"--keep: {results} is of {key} {held}, not {now}; run without --keep, or with another --name")
    return [run for run in before["seeds"] if run["seed"] not in options.seeds], before.get("oracle")


def run_seed(
    options: argparse.Namespace, name: str, config: Path, seed: int, steps: int, overrides: list[str]
) -> dict[str, Any]:
    run_dir = Path("runs/benchmarks") / f"{name}_seed{seed}"
    started = time.perf_counter()
    metarl(
        *("train", str(config), f"seed={seed}", *overrides),
        *("--run-dir", str(run_dir), "--devices", str(options.devices), "--resume-if-exists"),
    )
    seconds = time.perf_counter() - started
    episodes = ["--episodes", str(options.episodes)] if options.episodes else []
    numbers = run_dir / "evaluation.json"
    metarl(
        *("evaluate", str(run_dir), "--checkpoint", options.checkpoint, "--output", str(numbers)),
        *("--steps", str(steps), "--tasks", str(options.tasks), *episodes),
    )
    evaluation = json.loads(numbers.read_text())
    keys = ("iteration", "env_steps", "return_pre", "return_post", "iteration_seconds")
    curve = [{key: float("nan") if row[key] is None else row[key] for key in keys} for row in read_metrics(run_dir)]
    return {"seed": seed, "evaluation": evaluation, "curve": thin(curve, 200), "last_session_seconds": seconds}


def metarl(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "metarl_jax", *arguments], check=True)


def thin(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most ``most`` rows, means over equal stretches, so that committed files stay small."""
    stride = -(-len(rows) // most)
    groups = [rows[i : i + stride] for i in range(0, len(rows), stride)]
    return [{key: sum(row[key] for row in group) / len(group) for key in group[0]} for group in groups]


def make_table(result: dict[str, Any], name: str) -> str:
    runs = result["seeds"]
    steps = milestones(runs[0]["evaluation"]["gradient_steps"][-1])
    overrides = f" with `{' '.join(result['overrides'])}`" if result["overrides"] else ""
    lines = [
        f"# {name}",
        "",
        f"`{result['config']}`{overrides}; {result['checkpoint']} checkpoint, "
        f"{tasks_in_words(runs[0]['evaluation']['settings'])}, "
        f"{runs[0]['evaluation']['settings']['episodes_per_task']} episodes per task and step, step sizes "
        f"{in_words(runs[0]['evaluation']['settings']['step_sizes'])}.",
        "",
        "Mean return after n gradient steps [95 % bootstrap interval over tasks]:",
        "",
        *head("seed | iteration", steps),
    ]
    for run in runs:
        evaluation = run["evaluation"]
        lines.append(f"| {run['seed']} | {evaluation['checkpoint']} | " + " | ".join(cells(evaluation, steps)) + " |")
    random = runs[0]["evaluation"]["random_initialisation"]
    lines += ["| random initialisation | | " + " | ".join(cells(random, steps)) + " |"]
    oracle = result["oracle"]["evaluation"] if result.get("oracle") else None
    if oracle:
        lines += [f"| oracle | {oracle['checkpoint']} | {cells(oracle, [0])[0]}" + " |" * len(steps)]
    if len(steps) > 1:
        lines += ["", "Gain over the return before adaptation, mean over tasks ± half of its 95 % interval:", ""]
        lines += head("seed", steps[1:])
        lines += [f"| {run['seed']} | " + " | ".join(gain_cells(run["evaluation"], steps[1:])) + " |" for run in runs]
    if oracle:
        lines += [
            "",
            f"The oracle is `{result['oracle']['config']}`. Normalised gain, "
            "(return - random before) / (oracle - random before):",
            "",
            *head("seed", steps),
        ]
        for run in runs:
            gains = normalised_gain(run["evaluation"], oracle)
            lines.append(f"| {run['seed']} | " + " | ".join(f"{gains[k]:.3f}" for k in steps) + " |")
    lines.append("")
    final = [sum(row["return_post"] for row in run["curve"][-5:]) / len(run["curve"][-5:]) for run in runs]
    lines += ["Training return after adaptation, end of the curve: " + ", ".join(f"{x:.2f}" for x in final), ""]
    return "\n".join(lines)


def head(first: str, steps: list[int]) -> list[str]:
    """The two lines on top of a table with a column for each number of gradient steps."""
    titles = f"| {first} | " + " | ".join(f"{k} steps" for k in steps) + " |"
    return [titles, "|---" * (titles.count("|") - 1) + "|"]


def normalised_gain(evaluation: dict[str, Any], oracle: dict[str, Any]) -> list[float]:
    """0 for a random policy, 1 for one that sees its task; after each number of gradient steps."""
    start = evaluation["random_initialisation"]["mean_return"][0]
    return [(mean - start) / (oracle["mean_return"][0] - start) for mean in evaluation["mean_return"]]


def paired_gain(evaluation: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """What a task gains over its return before adaptation, ``[K + 1]``, and half of the mean's 95 % interval."""
    returns = np.array(evaluation["per_task_return"], float)  # null, of a task that lost all its episodes, is NaN
    gain = returns - returns[:1]
    count = np.isfinite(gain).sum(axis=1)
    return np.nanmean(gain, axis=1), 1.96 * np.nanstd(gain, axis=1, ddof=1) / np.sqrt(count)


def gain_cells(evaluation: dict[str, Any], steps: list[int]) -> list[str]:
    means, halves = paired_gain(evaluation)
    return [f"{means[k]:+.2f} ± {halves[k]:.2f}" for k in steps]


def cells(summary: dict[str, Any], steps: list[int]) -> list[str]:
    means, low, high = summary["mean_return"], summary["ci_low"], summary["ci_high"]
    return [f"{means[k]:.2f} [{low[k]:.2f}, {high[k]:.2f}]" for k in steps]


def in_words(step_sizes: list[float]) -> str:
    """The step sizes of all gradient steps; a long row of equal ones by its length."""
    if len(step_sizes) > 3 and len(set(step_sizes)) == 1:
        return f"{step_sizes[0]:g}, {len(step_sizes)} times"
    return str(step_sizes)


def draw(runs: list[dict[str, Any]], oracle: dict[str, Any] | None, path: Path, title: str) -> None:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    marked = {"marker": "o", "markevery": milestones(runs[0]["evaluation"]["gradient_steps"][-1])}
    for run in runs:
        steps = [row["env_steps"] for row in run["curve"]]
        (line,) = left.plot(steps, [row["return_post"] for row in run["curve"]], label=f"seed {run['seed']}, after")
        left.plot(steps, [row["return_pre"] for row in run["curve"]], color=line.get_color(), alpha=0.35, linewidth=1)
        evaluation = run["evaluation"]
        right.plot(evaluation["mean_return"], color=line.get_color(), **marked)
    random = runs[0]["evaluation"]["random_initialisation"]["mean_return"]
    right.plot(random, color="0.6", label="random initialisation", **marked)
    if oracle:
        right.axhline(oracle["evaluation"]["mean_return"][0], color="black", linestyle=":", label="oracle")
    left.set(xlabel="environment steps", ylabel="return, training tasks (faint: before)", title=title)
    right.set(xlabel="gradient steps at meta-test time", ylabel="return")
    right.locator_params(axis="x", integer=True)
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
