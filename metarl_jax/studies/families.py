"""A short run of every task family from its config: what adaptation gains before training and after it."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from metarl_jax.studies import commands
from metarl_jax.studies.gains import paired_gain
from metarl_jax.studies.results import RESULTS, RUNS, markdown, one_by_one, table
from metarl_jax.tracking.jsonl import read_metrics

_SHORT = [
    "tasks.horizon=100",
    "training.meta_batch_size=20",
    "training.episodes_per_task=10",
    "training.num_iterations=60",
    "training.checkpoint_every=20",
]
_BODY = [*_SHORT, "optimizer.learning_rate=3e-3"]
FAMILIES: dict[str, list[str]] = {
    "navigation_finn": ["maml_navigation"],
    "navigation_corner": ["promp_navigation_corner", *_SHORT],
    "navigation_momentum": ["maml_navigation_momentum", *_SHORT],
    "navigation_walls": ["promp_navigation_walls", *_SHORT],
    "half_cheetah_direction": ["promp_half_cheetah_direction", "tasks.backend=mujoco", *_BODY],
    "half_cheetah_velocity": ["promp_half_cheetah_velocity", "tasks.backend=mujoco", *_BODY],
    "ant_direction": ["promp_ant_direction", *_BODY],
    "ant_direction_2d": ["promp_ant_direction_2d", *_BODY],
    "ant_goal": ["promp_ant_goal", *_BODY],
    "ant_velocity": ["promp_ant_velocity", *_BODY],
    "walker_direction": ["promp_walker_direction", *_BODY],
    "walker_velocity": ["promp_walker_velocity", *_BODY],
    "hopper_velocity": ["promp_hopper_velocity", *_BODY],
    "humanoid_direction": ["promp_humanoid_direction", *_BODY],
    "humanoid_direction_2d": ["promp_humanoid_direction_2d", *_BODY],
    "swimmer_velocity": ["promp_swimmer_velocity", *_BODY],
    "random_dynamics": ["promp_walker_dynamics", *_BODY],
    "crippled_joint": ["promp_ant_crippled", *_BODY],
    "sloped_ground": ["promp_half_cheetah_slope", *_BODY],
    "bandit_bernoulli": ["rl2_bandit", "training.num_iterations=200"],
    "bandit_gaussian": ["rl2_bandit_gaussian", "training.num_iterations=200"],
    "tabular_mdp": ["rl2_tabular_mdp", "training.num_iterations=200"],
    "grid_navi": ["rl2_grid_navi", "training.num_iterations=200"],
    "dark_room": ["rl2_dark_room", "training.num_iterations=100"],
    "dark_key_door": ["rl2_dark_key_door", "training.num_iterations=100"],
    "t_maze": ["rl2_t_maze"],
    "bus_city": ["rl2_bus_city", "training.num_iterations=100"],
    "any_mdp": ["rl2_any_mdp", "training.num_iterations=100"],
    "mountain_treasure": ["rl2_mountain_treasure", "training.num_iterations=100"],
    "navigation_half_circle": ["rl2_navigation_half_circle", "training.num_iterations=100"],
    "alchemy_symbolic": ["rl2_alchemy", "training.num_iterations=100"],
    "minatar_variants": [
        "ppo_maml_minatar_space_invaders",
        "tasks.horizon=60",
        "algorithm.inner_rule=sgd",
        "training.num_iterations=60",
    ],
    "minatar_games": ["ppo_maml_minatar_games", "training.num_iterations=60"],
}
"""A config, by its name, and what is changed in it, for each family."""


def study(
    families: Iterable[str] = tuple(FAMILIES),
    tasks: int = 100,
    file: Path = RESULTS / "families.json",
    runs: Path = RUNS / "families",
) -> dict[str, Any]:
    """Train and evaluate a short run of each family; write numbers and page.

    Args:
      families: of :data:`FAMILIES`; what was measured of others is kept.
      tasks: held-out tasks.
      file: of the numbers, a ``.json``; the page lies beside it.
      runs: folder of the run directories.

    Returns:
      By family: the command, its costs, and the ends of adaptation untrained and trained.
    """
    return one_by_one(file, families, FAMILIES, partial(measure, tasks=tasks, runs=runs), page)


def measure(family: str, *, tasks: int, runs: Path) -> dict[str, Any]:
    """A short run of one family, or what is missing of it.

    Args:
      family: of :data:`FAMILIES`.
      tasks: held-out tasks.
      runs: folder of the run directories.

    Returns:
      The command, what it took, and the ends of adaptation ``untrained`` and ``trained``.
    """
    name, *overrides = FAMILIES[family]
    config, run_dir = f"configs/{name}.yaml", runs / family
    commands.train(run_dir, config, *overrides)
    evaluation = commands.evaluate(run_dir, tasks=tasks)
    last = read_metrics(run_dir)[-1]
    return {
        "command": " ".join(["metarl train", config, *overrides]),
        "tasks": tasks,
        "updates": last["iteration"],
        "env_steps": last["env_steps"],
        "untrained": ends(evaluation["random_initialisation"]),
        "trained": ends(evaluation),
        "adaptation": evaluation["settings"]["adaptation"],
    }


def ends(evaluation: dict[str, Any]) -> dict[str, float]:
    """The return before adaptation and after its last step, and what a task gains, with half of its 95 % interval.

    Args:
      evaluation: of a run, or of its random initialisation.

    Returns:
      ``before``, ``after``, ``gain``, ``gain_half_interval``.

    Example:
      >>> ends({"mean_return": [1.0, 3.0], "per_task_return": [[0.0, 2.0], [2.0, 4.0]]})["gain"].item()
      2.0
    """
    means, (gains, halves) = evaluation["mean_return"], paired_gain(evaluation)
    return {"before": means[0], "after": means[-1], "gain": gains[-1], "gain_half_interval": halves[-1]}


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each family."""
    head = ["family", "tasks", "steps", "untrained: before", "after", "trained: before", "after", "gain"]
    return markdown(
        f"# {name}",
        "`python benchmarks/families.py`: one short run of each family from its config (the commands are in "
        "families.json), one seed. Mean return on held-out tasks (the training tasks, where these are two directions "
        "or four corners) before adaptation and after its last step, of a random initialisation and of what was "
        "trained (where a trial is one episode, within which the policy adapts, both are its return); gain: mean over "
        "tasks ± half of its 95 % interval.",
        table(head, [_row(family, result) for family, result in results.items()]),
    )


def _row(family: str, result: dict[str, Any]) -> list[str]:
    trained = result["trained"]
    returns = [f"{summary[end]:.2f}" for summary in (result["untrained"], trained) for end in ("before", "after")]
    gain = f"{trained['gain']:+.2f} ± {trained['gain_half_interval']:.2f}"
    return [family, str(result["tasks"]), f"{result['env_steps'] / 1e6:.1f}M", *returns, gain]
