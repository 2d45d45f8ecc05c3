"""Methods that adapt within a trial beside each other: what each of its episodes earns on held-out tasks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarl_jax.checks import require
from metarl_jax.ops.statistics import half_interval
from metarl_jax.studies import commands
from metarl_jax.studies.results import RUNS, markdown, one_by_one, read, table


def study(
    file: Path, configs: Sequence[str], *, episodes: int = 4, tasks: int = 1000, runs: Path = RUNS
) -> dict[str, Any]:
    """Train each config, or go on where that stopped, and test it; write it all down after each.

    Args:
      file: of the numbers, a ``.json``, beside which the page lies.
      configs: names of configs, of one family of tasks; of others what was measured before is kept.
      episodes: of a trial.
      tasks: held-out, a trial each.
      runs: folder of the run directories.

    Returns:
      By config, :func:`measure`.
    """
    before: dict[str, Any] = read(file) if file.exists() else {}
    same = {"tasks": tasks, "episodes": episodes}
    for config, measured in before.items():
        given = {name: measured[name] for name in same}
        require(given == same, "options", same, f"{file} has {config} with {given}: measure all alike, or delete it")

    def measure_one(config: str) -> dict[str, Any]:
        return measure(config, runs / f"{file.stem}_{config}", episodes=episodes, tasks=tasks)

    return one_by_one(file, configs, dict.fromkeys([*before, *configs]), measure_one, page)


def measure(config: str, run_dir: Path, *, episodes: int, tasks: int) -> dict[str, Any]:
    """Train one config, and test it.

    Args:
      config: its name.
      run_dir: of the run.
      episodes: of a trial.
      tasks: held-out.

    Returns:
      Mean ``return`` of each episode, ``half`` of its 95 % interval, environment steps and seconds of training, and
      what the family can tell: the share of ``success`` in each episode, and what the best would earn:
      ``bayes_optimum`` of each episode, and ``told`` the task.
    """
    commands.train(run_dir, config)
    evaluation = commands.evaluate(run_dir, tasks=tasks, steps=episodes - 1)
    returns = np.array(evaluation["per_task_return"])
    known = {"success": "success_rate", "bayes_optimum": "bayes_optimum", "told": "optimum"}
    return {
        "tasks": tasks,
        "episodes": episodes,
        "return": returns.mean(axis=1).tolist(),
        "half": [float(half_interval(of_one)) for of_one in returns],
        **commands.training_cost(run_dir),
        **{name: evaluation[of] for name, of in known.items() if of in evaluation},
    }


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each config and a column for each episode."""
    first = next(iter(results.values()))
    episodes, tasks = first["episodes"], first["tasks"]
    return markdown(
        f"# {name}",
        f"`python benchmarks/episodes.py {' '.join(results)} --name {name} --episodes {episodes} --tasks {tasks}`: "
        "return of each episode of a trial ± half of the 95 % interval"
        + (", and in brackets the share of trials in which it succeeds" if "success" in first else "")
        + f", on held-out tasks; one seed each. {commands.TRAINING_TIME}; "
        "steps count all that was played, by a learner that is imitated, too.",
        overview(results),
    )


def overview(results: dict[str, Any]) -> str:
    """The table of a page: a row for each config, a column for each episode.

    Args:
      results: of :func:`study`.

    Returns:
      Markdown.
    """
    first = next(iter(results.values()))
    rows: list[list[str | None]] = [
        [f"`{config}`", *_cells(result), _training(result)] for config, result in results.items()
    ]
    if "bayes_optimum" in first:
        rows.append(["Bayes-optimal, of all tasks", *(f"{value:.2f}" for value in first["bayes_optimum"]), None])
    if "told" in first:
        rows.append(["told the task, of those tested", *[f"{first['told']:.2f}"] * first["episodes"], None])
    return table([None, *(f"episode {i + 1}" for i in range(first["episodes"])), "training"], rows)


def _cells(result: dict[str, Any]) -> list[str]:
    returns = [f"{mean:.1f} ± {half:.1f}" for mean, half in zip(result["return"], result["half"], strict=True)]
    shares = [f" ({share:.0%})" for share in result["success"]] if "success" in result else [""] * len(returns)
    return [earned + share for earned, share in zip(returns, shares, strict=True)]


def _training(result: dict[str, Any]) -> str:
    return f"{result['env_steps'] / 1e6:.0f}M steps, {result['seconds'] / 60:.0f} min{commands.training_place(result)}"
