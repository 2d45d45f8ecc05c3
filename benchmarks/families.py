"""A short run of every task family from its config: what adaptation gains before training and after it.

    python benchmarks/families.py
    python benchmarks/families.py --families ant_goal walker_velocity

Each run lives in runs/benchmarks/families and continues where it stopped. Results go to
benchmarks/results/families.{json,md}; families run before are kept unless they are run again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from learning import RESULTS, metarl, paired_gain

from metarl_jax.tracking.jsonl import read_metrics

RUNS = Path("runs/benchmarks/families")
SHORT = [
    "tasks.horizon=100",
    "training.meta_batch_size=20",
    "training.episodes_per_task=10",
    "training.num_iterations=60",
    "training.checkpoint_every=20",
]
BODY = [*SHORT, "optimizer.learning_rate=3e-3"]
FAMILIES: dict[str, list[str]] = {
    "navigation_finn": ["maml_navigation"],
    "navigation_corner": ["promp_navigation_corner", *SHORT],
    "navigation_momentum": ["maml_navigation_momentum", *SHORT],
    "navigation_walls": ["promp_navigation_walls", *SHORT],
    "half_cheetah_direction": ["promp_half_cheetah_direction", "tasks.backend=mujoco", *BODY],
    "half_cheetah_velocity": ["promp_half_cheetah_velocity", "tasks.backend=mujoco", *BODY],
    "ant_direction": ["promp_ant_direction", *BODY],
    "ant_direction_2d": ["promp_ant_direction_2d", *BODY],
    "ant_goal": ["promp_ant_goal", *BODY],
    "ant_velocity": ["promp_ant_velocity", *BODY],
    "walker_direction": ["promp_walker_direction", *BODY],
    "walker_velocity": ["promp_walker_velocity", *BODY],
    "hopper_velocity": ["promp_hopper_velocity", *BODY],
    "humanoid_direction": ["promp_humanoid_direction", *BODY],
    "humanoid_direction_2d": ["promp_humanoid_direction_2d", *BODY],
    "swimmer_velocity": ["promp_swimmer_velocity", *BODY],
    "random_dynamics": ["promp_walker_dynamics", *BODY],
    "crippled_joint": ["promp_ant_crippled", *BODY],
    "sloped_ground": ["promp_half_cheetah_slope", *BODY],
    "bandit_bernoulli": ["rl2_bandit", "training.num_iterations=200"],
    "bandit_gaussian": ["rl2_bandit_gaussian", "training.num_iterations=200"],
    "tabular_mdp": ["rl2_tabular_mdp", "training.num_iterations=200"],
    "minatar_variants": [
        "ppo_maml_minatar_space_invaders",
        "tasks.horizon=60",
        "algorithm.inner_rule=sgd",
        "training.num_iterations=60",
    ],
    "minatar_games": ["ppo_maml_minatar_games", "training.num_iterations=60"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--tasks", type=int, default=100, help="held-out tasks")
    options = parser.parse_args()
    file = RESULTS / "families.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for family in options.families:
        results[family] = run(family, options.tasks)
        results = {name: results[name] for name in FAMILIES if name in results}
        file.write_text(json.dumps(results, indent=1) + "\n")
        file.with_suffix(".md").write_text(table(results))
    print(table(results))


def run(family: str, tasks: int) -> dict[str, Any]:
    config, *overrides = FAMILIES[family]
    run_dir = RUNS / family
    metarl(
        "train", f"configs/{config}.yaml", *overrides, "--run-dir", str(run_dir), "--devices", "1", "--resume-if-exists"
    )
    numbers = run_dir / "evaluation.json"
    metarl("evaluate", str(run_dir), "--tasks", str(tasks), "--output", str(numbers))
    evaluation = json.loads(numbers.read_text())
    untrained, trained = evaluation["random_initialisation"], evaluation
    last = read_metrics(run_dir)[-1]
    return {
        "command": " ".join([f"metarl train configs/{config}.yaml", *overrides]),
        "tasks": tasks,
        "updates": last["iteration"],
        "env_steps": last["env_steps"],
        "untrained": ends(untrained),
        "trained": ends(trained),
        "adaptation": evaluation["settings"]["adaptation"],
    }


def ends(evaluation: dict[str, Any]) -> dict[str, float]:
    """Mean return before adaptation and after its last step, and what a task gains, with half its 95 % interval."""
    means, (gains, halves) = evaluation["mean_return"], paired_gain(evaluation)
    return {"before": means[0], "after": means[-1], "gain": gains[-1], "gain_half_interval": halves[-1]}


def table(results: dict[str, Any]) -> str:
    lines = [
        "# families",
        "",
        "`python benchmarks/families.py`: one short run of each family from its config (the commands are in "
        "families.json), one seed. Mean return on held-out tasks (the training tasks, where these are two directions "
        "or four corners) before adaptation and after its last step, of a random initialisation and of what was "
        "trained; gain: mean over tasks ± half of its 95 % interval.",
        "",
        "| family | tasks | steps | untrained: before | after | trained: before | after | gain |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for family, result in results.items():
        untrained, trained = result["untrained"], result["trained"]
        cells = [untrained["before"], untrained["after"], trained["before"], trained["after"]]
        lines.append(
            f"| {family} | {result['tasks']} | {result['env_steps'] / 1e6:.1f}M "
            f"| {' | '.join(f'{cell:.2f}' for cell in cells)} "
            f"| {trained['gain']:+.2f} ± {trained['gain_half_interval']:.2f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
