"""All gradient-based methods on one task family at equal environment steps, with their cost: one table, one picture.

    python benchmarks/methods.py --seeds 1 2 3

Each method has its config, configs/METHOD_navigation.yaml. Runs live in runs/benchmarks/methods and continue where they
stopped. The held-out tasks are not those that the configs were chosen on. Results go to
benchmarks/results/methods_navigation.*; methods measured before are kept unless they are measured again.
"""

import argparse
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from learning import RESULTS, metarl
from matplotlib.figure import Figure

from metarl_jax.config import dump, load_config

RUNS = Path("runs/benchmarks/methods")
GRADIENT_BASED = ("maml", "ppo_maml", "trpo_maml", "fomaml", "emaml", "promp", "meta_sgd", "anil", "cavia", "reptile")
METHODS = {method: [f"configs/{method}_navigation.yaml"] for method in (*GRADIENT_BASED, "pretraining")}
METHODS["oracle"] = [*METHODS["pretraining"], "tasks.oracle=true", "evaluation.step_size_rule=finn"]
FRESH = 2026  # evaluation.seed of the configs is 0: those tasks helped to choose the settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--tasks", type=int, default=100, help="held-out tasks")
    options = parser.parse_args()
    file = RESULTS / "methods_navigation.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for method in options.methods:
        results[method] = {
            "config": METHODS[method],
            "cost": cost(method),
            "runs": [run(method, seed, options.tasks) for seed in options.seeds],
        }
    results = {method: results[method] for method in METHODS if method in results}
    file.write_text(json.dumps(results, indent=1) + "\n")
    text = table(results)
    file.with_suffix(".md").write_text(text)
    draw(results, file.with_suffix(".png"))
    print(text)


def run(method: str, seed: int, tasks: int) -> dict[str, Any]:
    run_dir = RUNS / f"{method}_seed{seed}"
    metarl("train", *METHODS[method], f"seed={seed}", "--run-dir", str(run_dir), "--devices", "1", "--resume-if-exists")
    numbers, fresh = run_dir / "evaluation.json", ("--steps", "3", "--seed", str(FRESH))
    metarl("evaluate", str(run_dir), "--tasks", str(tasks), *fresh, "--output", str(numbers))
    evaluation = json.loads(numbers.read_text())
    means = {key: evaluation[key] for key in ("mean_return", "ci_low", "ci_high")}
    return {"seed": seed, **means, "random_initialisation": evaluation["random_initialisation"]["mean_return"]}


def cost(method: str) -> dict[str, float]:
    """CPU seconds per million computed steps, temporary memory of the compiled update; from ``metarl benchmark``."""
    path, *overrides = METHODS[method]
    resolved = dump(load_config(Path(path), overrides))
    file = RUNS / f"{method}_cost_{zlib.crc32(resolved.encode()):08x}.json"
    if not file.exists():
        RUNS.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "metarl_jax", "benchmark", *METHODS[method], "--json"]
        file.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    result = json.loads(file.read_text())
    computed = "computed_env_steps_per_iteration"  # of all steps, also those after an episode's early end
    million = 1e6 / result.get(computed, result["env_steps_per_iteration"])  # older files count these under that name
    seconds = {part: million * result["per_iteration"][part]["cpu_seconds"] for part in ("total", "outer")}
    return {**seconds, "temporary_bytes": result["temporary_bytes"]}


def returns(result: dict[str, Any]) -> np.ndarray:
    """``[seeds, 4]``"""
    return np.array([run["mean_return"] for run in result["runs"]])


def table(results: dict[str, Any]) -> str:
    first = next(iter(results.values()))
    seeds = [run["seed"] for run in first["runs"]]
    lines = [
        "# methods_navigation",
        "",
        f"Each method by its `configs/METHOD_navigation.yaml` at equal environment steps; seeds "
        f"{', '.join(map(str, seeds))}. Return on held-out tasks after n gradient steps: mean over seeds (lowest, "
        "highest). Cost: CPU seconds per million environment steps (all that are computed), how many "
        "of them the outer step takes beyond rollouts and inner steps, and temporary memory of one update, on one CPU "
        "device. The oracle sees the goal.",
        "",
        "| method | 0 steps | 1 step | 2 steps | 3 steps | CPU s / 1M steps | outer | MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, result in results.items():
        cells = [f"{x.mean():.1f} ({x.min():.1f}, {x.max():.1f})" for x in returns(result).T]
        price = result["cost"]
        lines.append(
            f"| {method} | {' | '.join(cells)} | {price['total']:.2f} | {price['outer']:.2f} "
            f"| {price['temporary_bytes'] / 2**20:.1f} |"
        )
    random = np.array([run["random_initialisation"] for run in first["runs"]])
    lines.append("| random initialisation | " + " | ".join(f"{x.mean():.1f}" for x in random.T) + " | | | |")
    return "\n".join([*lines, ""])


def draw(results: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    styles = ["-", "--", ":"]
    for i, (method, result) in enumerate(results.items()):
        curve = returns(result).mean(axis=0)
        if method == "oracle":  # it has nothing to adapt to
            axes.axhline(curve[0], color="black", linestyle=":", label=method)
        else:
            axes.plot(range(len(curve)), curve, styles[i // 10], marker="o", markersize=4, label=method)
    axes.set(xlabel="gradient steps on a held-out task", ylabel="return", title="navigation, equal environment steps")
    axes.set_xticks(range(4))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
