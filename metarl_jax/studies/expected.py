"""What the configs that come with the package came to, boiled down for the package itself: ``report/expected.json``."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarl_jax.config import load_config
from metarl_jax.config.source import SHIPPED
from metarl_jax.report.expected import Expected, Row
from metarl_jax.report.tables import adaptation_unit, milestones, tasks_in_words
from metarl_jax.studies.results import RESULTS, read

_RUN = re.compile(r"RL\^2, seed \d+, (\d+) updates")
_DIGITS = 3
_WITHIN = 0.1
Named = tuple[str, Expected]


def expected(folder: Path = RESULTS) -> dict[str, Expected]:
    """What each shipped config came to, of those that were trained about to their end with nothing changed.

    Args:
      folder: of the results of ``benchmarks/``.

    Returns:
      By name of the config, in alphabetical order.
    """
    found = [named for file in sorted(folder.glob("*.json")) for named in _of_file(read(file))]
    return dict(sorted((name, told) for name, told in found if _about(told.iterations, _planned(name))))


def _of_file(result: dict[str, Any]) -> Iterator[Named]:
    """Of a study of learning, one of trials, or a comparison; there is nothing in any other."""
    if result.get("overrides") == []:
        yield (_of_trials if "trials" in result else _of_learning)(result)
    for method in result.get("methods", {}).values():
        if (SHIPPED / f"{_recipe(method)}.yaml").is_file():
            yield _of_method(method, result["settings"])


def _recipe(method: dict[str, Any]) -> str:
    """The name that a comparison gives to the folder of a config's runs: the config's, if nothing is changed in it."""
    return Path(next(iter(method["runs"].values()))["directory"]).parent.name


def _about(iterations: int, planned: int) -> bool:
    """A comparison trains until as many steps are taken as it wants, which may be an update more or less."""
    return abs(iterations - planned) <= _WITHIN * planned


def _planned(name: str) -> int:
    return load_config(name).training.num_iterations


def _of_learning(result: dict[str, Any]) -> Named:
    runs, curve = [run["evaluation"] for run in result["seeds"]], result["seeds"][0]["curve"]
    trained = round(curve[-1]["iteration"] + curve[0]["iteration"] - 1)  # each is the middle of as many, about
    iterations = runs[0]["checkpoint"] if result["checkpoint"] == "latest" else trained
    return Path(result["config"]).stem, Expected(
        seeds=len(runs),
        iterations=iterations,
        env_steps=round(iterations * curve[0]["env_steps"] / curve[0]["iteration"]),
        checkpoint=result["checkpoint"],
        tasks=tasks_in_words(runs[0]["settings"]),
        unit=adaptation_unit(runs[0]["settings"]),
        rows=_rows(runs, runs[0]["random_initialisation"]["mean_return"]),
    )


def _of_method(method: dict[str, Any], settings: dict[str, Any]) -> Named:
    runs, means = list(method["runs"].values()), method["effect"]["held_out"]["means"]
    return _recipe(method), Expected(
        seeds=len(runs),
        iterations=max(run["iteration"] for run in runs),
        env_steps=max(run["env_steps"] for run in runs),
        checkpoint="latest",
        tasks=f"{settings['num_tasks']} held-out tasks",
        unit=f"{method['adaptation']['unit']}s" + ("" if method["adaptation"]["updates_per_unit"] else " seen"),
        rows=_rows([{"mean_return": of_seed} for of_seed in means["seeds"]], means["random_initialisation"]),
    )


def _rows(runs: Sequence[dict[str, Any]], random: Sequence[float]) -> list[Row]:
    return [_rounded([str(k), *_spread(runs, k), random[k]]) for k in milestones(len(random) - 1)]


def _spread(runs: Sequence[dict[str, Any]], k: int) -> list[float]:
    """The mean over seeds with the lowest and the highest; of one seed, with its interval over tasks."""
    means = [run["mean_return"][k] for run in runs]
    if len(means) == 1:
        return [means[0], runs[0]["ci_low"][k], runs[0]["ci_high"][k]]
    return [float(np.mean(means)), min(means), max(means)]


def _of_trials(result: dict[str, Any]) -> Named:
    runs = {label: score for label, score in result["total"].items() if _RUN.match(label)}
    ends = {int(found[1]) for label in runs if (found := _RUN.match(label))}
    means = [mean for mean, _ in runs.values()]
    half = next(iter(runs.values()))[1] if len(runs) == 1 else 0.0
    spread = [float(np.mean(means)), min(means) - half, max(means) + half]
    return Path(result["config"]).stem, Expected(
        seeds=len(runs),
        iterations=min(ends),
        env_steps=None,
        checkpoint="latest",
        tasks=f"{result['trials']} held-out tasks",
        unit="",
        rows=[_rounded(["total of a trial", *spread, result["total"]["random initialisation"][0]])],
    )


def _rounded(row: Sequence[Any]) -> Row:
    name, *numbers = row
    mean, low, high, random = (round(value, _DIGITS) for value in numbers)
    return name, mean, low, high, random
