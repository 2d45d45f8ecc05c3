"""Methods with trials beside the classical algorithms and the optimum: the total reward of a trial on fresh tasks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import arguments
from metarl_jax.collect.randomness import fold_in_each, stream
from metarl_jax.config import Config, hyperparameters, load_config
from metarl_jax.ops.statistics import half_interval
from metarl_jax.runs.build import build
from metarl_jax.studies import commands
from metarl_jax.studies.references.classical import (
    BanditRule,
    epsilon_greedy,
    greedy,
    opsrl,
    play_bandit,
    psrl,
    thompson,
    ucb1,
)
from metarl_jax.studies.references.posterior import Posterior, bernoulli_posterior, gaussian_posterior
from metarl_jax.studies.results import RUNS, configured, markdown, table, write
from metarl_jax.tasks.discrete.bandit import bandit_bernoulli, bandit_gaussian
from metarl_jax.tasks.discrete.tabular import tabular_mdp
from metarl_jax.types import Array, Key, Task, TaskFamily

PUBLISHED = {
    "rl2_bandit": {"random": 5.0, "Thompson sampling": 5.7, "UCB1": 6.7, "Gittins": 6.6, "RL^2": 6.7},
    "rl2_bandit_100": {"random": 49.9, "Thompson sampling": 74.7, "UCB1": 78.0, "Gittins": 78.3, "RL^2": 78.7},
    "rl2_tabular_mdp": {"random": 100.1, "PSRL": 138.1, "OPSRL": 144.1, "RL^2": 156.2},
    "rl2_tabular_mdp_50": {"random": 499.7, "PSRL": 904.4, "OPSRL": 930.7, "RL^2": 936.1},
    "rl2_bandit_500": {"random": 249.8, "Thompson sampling": 402.0, "UCB1": 405.8, "Gittins": 405.8, "RL^2": 401.6},
}
"""Totals of Duan et al. (2016), by config, or by name of the results where tasks or trials are not the config's."""
_OF_THE_SETTING = ("tasks.", "algorithm.episodes_per_trial", "evaluation.num_inner_steps")

_BANDITS: dict[Callable[..., TaskFamily], tuple[Callable[..., Posterior], float]] = {
    bandit_bernoulli: (bernoulli_posterior, 0.1),
    bandit_gaussian: (gaussian_posterior, 0.4),
}
"""What pulls say about the arms, and the bonus of UCB1, by kind of bandit."""
_NOT_PLAYED = ("Gittins", "OPSRL")
"""Published players for which there are no numbers here, or were none when a result was written."""
_METHODS = {"varibad": "VariBAD", "dpt": "DPT", "ad": "AD"}
"""What rows call an algorithm that is not RL^2, by name."""
_TOLD, _BAYES = "told the task", "Bayes-optimal"
_UNTRAINED = "random initialisation"
Play = Callable[[Task, Key], Array]
"""``(task, key) -> rewards of a trial [n]``."""


def study(
    file: Path,
    config: Path,
    seeds: Sequence[int] = (1,),
    *,
    overrides: Sequence[str] = (),
    tasks: int = 2000,
    goal: float | None = None,
    runs: Path = RUNS,
) -> dict[str, Any]:
    """Train a config on several seeds, or go on where that stopped, and play the classical algorithms; write it down.

    Args:
      file: of the numbers, a ``.json``; the page lies beside it.
      config: of a method with trials.
      seeds: of the runs.
      overrides: ``KEY=VALUE`` that change the config.
      tasks: fresh test trials.
      goal: the total that seeds are counted by.
      runs: folder of the run directories.

    Returns:
      Settings, and ``total``: mean total reward and half of its 95 % interval, by player.
    """
    settings, totals = load_config(config, overrides), dict[str, tuple[float, float]]()
    for seed in seeds:
        run_dir = runs / f"{file.stem}_seed{seed}"
        commands.train(run_dir, config, f"seed={seed}", *overrides)
        evaluation = commands.evaluate(run_dir, tasks=tasks)
        totals[_label(settings, seed, evaluation["checkpoint"], run_dir)] = _total(evaluation)
    goals = {} if goal is None else {"goal": goal, "reached": sum(mean >= goal for mean, _ in totals.values())}
    totals[_UNTRAINED] = _total(evaluation["random_initialisation"])
    totals |= classical(settings, tasks) | _optima(evaluation)
    result = {"config": str(config), "overrides": list(overrides), "trials": tasks, "total": totals, **goals}
    write(file, result, page)
    return result


def _label(config: Config, seed: int, updates: int, run_dir: Path) -> str:
    """Which run it was, and what training took."""
    method, cost = _METHODS.get(config.algorithm.name, "RL^2"), commands.training_cost(run_dir)
    steps, minutes = cost["env_steps"] / 1e6, cost["seconds"] / 60
    took = f"{steps:.0f}M steps in {minutes:.0f} min{commands.training_place(cost)}"
    return f"{method}, seed {seed}, {updates} updates, {took}"


def _optima(evaluation: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """What the best can earn who know the task, and who have to find it out; exact, the former for these tasks."""
    optima = {}
    if "bayes_optimum" in evaluation:
        optima[_BAYES] = (float(np.sum(evaluation["bayes_optimum"])), 0.0)
    if "per_task_optimum" in evaluation:
        episodes = len(evaluation["per_task_return"])
        optima[_TOLD] = _mean_and_half(episodes * np.array(evaluation["per_task_optimum"]))
    return optima


def _total(evaluation: dict[str, Any]) -> tuple[float, float]:
    return _mean_and_half(np.array(evaluation["per_task_return"]).sum(axis=0))


def _mean_and_half(values: np.ndarray) -> tuple[float, float]:
    """The mean over trials, and half of its 95 % interval."""
    return float(values.mean()), float(half_interval(values))


def classical(config: Config, tasks: int) -> dict[str, tuple[float, float]]:
    """The total rewards of the algorithms that know what kind of tasks to expect, on the tasks of the evaluation.

    Args:
      config: of the run.
      tasks: trials.

    Returns:
      Mean total reward and half of its 95 % interval, by algorithm.
    """
    family, seed, indices = build(config).family, config.evaluation.seed, jnp.arange(tasks)
    held_out = jax.vmap(family.sample_held_out)(fold_in_each(stream(seed, "held_out_tasks"), indices))
    keys = fold_in_each(stream(seed, "held_out_episodes"), indices)
    rewards = {label: jax.jit(jax.vmap(play))(held_out, keys) for label, play in _players(config, family).items()}
    return {label: _mean_and_half(np.asarray(reward).sum(axis=1)) for label, reward in rewards.items()}


def _players(config: Config, family: TaskFamily) -> dict[str, Play]:
    episodes = config.evaluation.num_inner_steps + 1
    kind = config.tasks.factory
    if kind is tabular_mdp:
        return {
            "PSRL": lambda task, key: psrl(task, key, episodes, family.horizon),
            "OPSRL": lambda task, key: opsrl(task, key, episodes, family.horizon),
        }
    if kind not in _BANDITS:
        return {}
    make_posterior, bonus = _BANDITS[kind]
    shared = {key: value for key, value in hyperparameters(config.tasks).items() if key in arguments(make_posterior)}
    posterior = make_posterior(**shared)
    rules = {
        "Thompson sampling": thompson(posterior),
        "UCB1": ucb1(bonus, posterior),
        "greedy": greedy(posterior),
        "random": epsilon_greedy(1.0, posterior),
    }
    return {label: _bandit_player(rule, episodes, family) for label, rule in rules.items()}


def _bandit_player(rule: BanditRule, episodes: int, family: TaskFamily) -> Play:
    return lambda task, key: play_bandit(rule, task, key, episodes, family)


def page(name: str, result: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each player, beside what was published."""
    totals = result["total"]
    is_another = any(change.startswith(_OF_THE_SETTING) for change in result["overrides"])
    published = PUBLISHED.get(name if is_another else Path(result["config"]).stem, {})
    rows: list[list[str | None]] = [
        [label, _total_text(*total), str(published.get(_published_as(label, totals), ""))]
        for label, total in totals.items()
    ]
    others = [label for label in _NOT_PLAYED if label in published and label not in totals]
    rows += [[label, None, str(published[label])] for label in others]
    is_timed = any(" min" in label for label in totals)  # older results are not
    return markdown(
        f"# {name}",
        f"{configured(result['config'], result['overrides'])}; total reward of a trial, mean over {result['trials']} "
        "held-out tasks ± half of the 95 % interval."
        + (f" {commands.TRAINING_TIME}." if is_timed else "")
        + (f" {result['reached']} seeds reach {result['goal']:g}." if "goal" in result else ""),
        table([None, "here", "published"], rows),
    )


def _total_text(mean: float, half: float) -> str:
    """Of what is exact without its interval."""
    return f"{mean:.2f} ± {half:.2f}" if half else f"{mean:.3f}"


def _published_as(label: str, totals: dict[str, Any]) -> str:
    """The published player of a row; a random initialisation stands for the random one where that is not played."""
    if label == _UNTRAINED and "random" not in totals:
        return "random"
    return label.split(",")[0]
