"""All gradient-based methods on one task family at equal environment steps, with their cost: one table, one picture.

    python benchmarks/methods.py --seeds 1 2 3

Every method starts from configs/maml_navigation.yaml; METHODS lists what differs. Runs live in
runs/benchmarks/methods and continue where they stopped. Results go to benchmarks/results/methods_navigation.*
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from learning import RESULTS, metarl
from matplotlib.figure import Figure

CONFIG = Path("configs/maml_navigation.yaml")
RUNS = Path("runs/benchmarks/methods")
TRUST_REGION = [
    "algorithm.max_kl=0.02",
    "algorithm.constrain=all_stages",
    "algorithm.cg_damping=0.01",
    "optimizer=null",
]
# One stage of data per update instead of two: twice the updates for the same environment steps.
ONE_STAGE = ["training.num_iterations=200", "training.checkpoint_every=20"]

METHODS: dict[str, list[str]] = {
    "maml": [],
    "ppo_maml": ["algorithm.num_epochs=5", "algorithm.clip_eps=0.3", "optimizer.learning_rate=1e-3"],
    "trpo_maml": TRUST_REGION,
    "fomaml": [],
    "emaml": [],
    "promp": [],
    "meta_sgd": ["algorithm.step_size_per=layer", "optimizer.inner_rule_scale=10"],
    "anil": [],
    "cavia": ["policy.context_size=5", "algorithm.inner_lr=1.0"],
    # Three inner steps and four stages: half the episodes in each.
    "reptile": [
        "algorithm.num_inner_steps=3",
        "training.episodes_per_task=5",
        "optimizer.name=sgd",
        "optimizer.learning_rate=0.3",
    ],
    # Far from any goal's optimum, it gains from step sizes that stay long.
    "pretraining": [*ONE_STAGE, "evaluation.step_size_rule=constant"],
    "oracle": [*ONE_STAGE, "algorithm.name=pretraining", "tasks.oracle=true"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--tasks", type=int, default=100, help="held-out tasks")
    options = parser.parse_args()
    results = {
        method: {
            "overrides": METHODS[method],
            "cost": cost(method),
            "runs": [run(method, seed, options.tasks) for seed in options.seeds],
        }
        for method in options.methods
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "methods_navigation.json").write_text(json.dumps(results, indent=1) + "\n")
    text = table(results)
    (RESULTS / "methods_navigation.md").write_text(text)
    draw(results, RESULTS / "methods_navigation.png")
    print(text)


def overrides(method: str) -> list[str]:
    return [f"algorithm.name={method}", *METHODS[method]]


def run(method: str, seed: int, tasks: int) -> dict[str, Any]:
    run_dir = RUNS / f"{method}_seed{seed}"
    resume = ["--resume"] if (run_dir / "config.yaml").exists() else []
    metarl(
        "train", str(CONFIG), f"seed={seed}", *overrides(method), "--run-dir", str(run_dir), "--devices", "1", *resume
    )
    metarl("evaluate", str(run_dir), "--tasks", str(tasks), "--steps", "3")
    evaluation = json.loads((run_dir / "evaluation.json").read_text())
    return {"seed": seed} | {
        key: evaluation[key] for key in ("mean_return", "ci_low", "ci_high", "random_initialisation")
    }


def cost(method: str) -> dict[str, float]:
    """CPU seconds of an outer step and temporary memory of the compiled update, from ``metarl benchmark``."""
    file = RUNS / f"{method}_cost.json"
    if not file.exists():
        RUNS.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "metarl_jax", "benchmark", str(CONFIG), *overrides(method), "--json"]
        file.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    result = json.loads(file.read_text())
    per_step = result["per_iteration"]["total"]["cpu_seconds"] / result["env_steps_per_iteration"]
    return {"cpu_seconds_per_million_steps": 1e6 * per_step, "temporary_bytes": result["temporary_bytes"]}


def returns(result: dict[str, Any]) -> np.ndarray:
    """``[seeds, 4]``"""
    return np.array([run["mean_return"] for run in result["runs"]])


def table(results: dict[str, Any]) -> str:
    first = next(iter(results.values()))
    seeds = [run["seed"] for run in first["runs"]]
    lines = [
        "# methods_navigation",
        "",
        f"`{CONFIG}` with each method's name and what `benchmarks/methods.py` lists for it; equal environment steps; "
        f"seeds {', '.join(map(str, seeds))}. Return on held-out tasks after n gradient steps: mean over seeds "
        "(lowest, highest). Cost: CPU seconds per million environment steps and temporary memory of one update, on one "
        "CPU device.",
        "",
        "| method | 0 steps | 1 step | 2 steps | 3 steps | CPU s / 1M steps | MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, result in results.items():
        cells = [f"{x.mean():.1f} ({x.min():.1f}, {x.max():.1f})" for x in returns(result).T]
        price = result["cost"]
        lines.append(
            f"| {method} | {' | '.join(cells)} | {price['cpu_seconds_per_million_steps']:.1f} "
            f"| {price['temporary_bytes'] / 2**20:.1f} |"
        )
    random = np.array([run["random_initialisation"]["mean_return"] for run in first["runs"]])
    lines.append("| random initialisation | " + " | ".join(f"{x.mean():.1f}" for x in random.T) + " | | |")
    return "\n".join([*lines, ""])


def draw(results: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    styles = ["-", "--", ":"]
    for i, (method, result) in enumerate(results.items()):
        curve = returns(result).mean(axis=0)
        axes.plot(range(len(curve)), curve, styles[i // 10], marker="o", markersize=4, label=method)
    axes.set(xlabel="gradient steps on a held-out task", ylabel="return", title="navigation, equal environment steps")
    axes.set_xticks(range(len(curve)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
