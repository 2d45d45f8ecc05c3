"""RL^2 beside the classical algorithms: total reward of a trial on fresh tasks, as a table.

    python benchmarks/trials.py configs/rl2_bandit.yaml --seeds 1

The run lives in runs/benchmarks/NAME_seedS and continues where it stopped; the result goes to
benchmarks/results/NAME.{json,md}. ``--overrides KEY=VALUE ...`` change config keys, and are recorded; they need a
``--name``.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from learning import RESULTS, metarl

from metarl_jax.collect.randomness import fold_in_each, stream
from metarl_jax.config import Config, hyperparameters, load_config
from metarl_jax.runs.build import build
from metarl_jax.studies.references.classical import epsilon_greedy, greedy, play_bandit, psrl, thompson, ucb1
from metarl_jax.studies.references.posterior import bernoulli_posterior, gaussian_posterior
from metarl_jax.tracking.jsonl import read_metrics
from metarl_jax.types import Array, Key, Task

PUBLISHED = {
    "rl2_bandit": {"random": 5.0, "Thompson sampling": 5.7, "UCB1": 6.7, "Gittins": 6.6, "RL^2": 6.7},
    "rl2_bandit_100": {"random": 49.9, "Thompson sampling": 74.7, "UCB1": 78.0, "Gittins": 78.3, "RL^2": 78.7},
    "rl2_tabular_mdp": {"random": 100.1, "PSRL": 138.1, "OPSRL": 144.1, "RL^2": 156.2},
}
Play = Callable[[Task, Key], Array]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--name", help="of the results; the config's by default")
    parser.add_argument("--tasks", type=int, default=2000, help="fresh test trials")
    parser.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    if options.overrides and not options.name:
        parser.error("--overrides: give the results a --name of their own")
    name = options.name or options.config.stem
    rows: dict[str, tuple[float, float]] = {}
    for seed in options.seeds:
        evaluation, steps, minutes = run(options, name, seed)
        label = f"RL^2, seed {seed}, {evaluation['checkpoint']} updates, {steps / 1e6:.0f}M steps in {minutes:.0f} min"
        rows[label] = total(np.array(evaluation["per_task_return"]).sum(axis=0))
    rows["random initialisation"] = total(np.array(evaluation["random_initialisation"]["per_task_return"]).sum(axis=0))
    rows |= classical(load_config(options.config, options.overrides), options.tasks)
    result = {"config": str(options.config), "overrides": options.overrides, "trials": options.tasks, "total": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    text = table(name, result)
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


def run(options: argparse.Namespace, name: str, seed: int) -> tuple[dict[str, Any], int, float]:
    """The evaluation, and what training took: steps, and minutes on one device without compilation."""
    run_dir = Path("runs/benchmarks") / f"{name}_seed{seed}"
    command = ["train", str(options.config), f"seed={seed}", *options.overrides, "--run-dir", str(run_dir)]
    metarl(*command, "--devices", "1", "--resume-if-exists")
    numbers = run_dir / "evaluation.json"
    metarl("evaluate", str(run_dir), "--tasks", str(options.tasks), "--output", str(numbers))
    rows = read_metrics(run_dir)
    minutes = sum(row["iteration_seconds"] for row in rows) / 60
    return json.loads(numbers.read_text()), rows[-1]["env_steps"], minutes


def total(rewards: np.ndarray) -> tuple[float, float]:
    """Mean over trials, and half of its 95 % interval."""
    return float(rewards.mean()), float(1.96 * rewards.std() / np.sqrt(len(rewards)))


def classical(config: Config, tasks: int) -> dict[str, tuple[float, float]]:
    """The total rewards of the algorithms that know what kind of tasks to expect, on the same tasks."""
    family, n = build(config).family, config.evaluation.num_inner_steps + 1
    indices = jnp.arange(tasks)
    held_out = jax.vmap(family.sample_held_out)(fold_in_each(stream(config.evaluation.seed, "held_out_tasks"), indices))
    keys = fold_in_each(stream(config.evaluation.seed, "held_out_episodes"), indices)
    if config.tasks.name == "tabular_mdp":
        plays: dict[str, Play] = {"PSRL": lambda task, key: psrl(task, key, n, family.horizon)}
    else:
        is_gaussian = config.tasks.name == "bandit_gaussian"
        spread = {key: value for key, value in hyperparameters(config.tasks).items() if key.endswith("_std")}
        posterior = gaussian_posterior(**spread) if is_gaussian else bernoulli_posterior()
        rules = {
            "Thompson sampling": thompson(posterior),
            "UCB1": ucb1(0.4 if is_gaussian else 0.1, posterior),
            "greedy": greedy(posterior),
            "random": epsilon_greedy(1.0, posterior),
        }
        plays = {
            label: lambda task, key, rule=rule: play_bandit(rule, task, key, n, family)  # type: ignore[misc]
            for label, rule in rules.items()
        }
    return {
        label: total(np.asarray(jax.jit(jax.vmap(play))(held_out, keys)).sum(axis=1)) for label, play in plays.items()
    }


def table(name: str, result: dict[str, Any]) -> str:
    published = PUBLISHED.get(Path(result["config"]).stem, {})
    overrides = f" with `{' '.join(result['overrides'])}`" if result["overrides"] else ""
    lines = [
        f"# {name}",
        "",
        f"`{result['config']}`{overrides}; total reward of a trial, mean over {result['trials']} held-out tasks ± half "
        "of the 95 % interval. Training time is that of one core, beside other work, without compilation.",
        "",
        "| | here | published |",
        "|---|---|---|",
    ]
    for label, (mean, half) in result["total"].items():
        known = published.get("random" if label == "random initialisation" else label.split(",")[0])
        lines.append(f"| {label} | {mean:.2f} ± {half:.2f} | {'' if known is None else known} |")
    lines += [f"| {label} | | {value} |" for label, value in published.items() if label in ("Gittins", "OPSRL")]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
