"""The comparison: everything that was measured, beside each other, as one JSON object."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from metarl_jax.checks import Refusal
from metarl_jax.ops.statistics import improvements, interquartile_mean, interval, iqm, performance_profile
from metarl_jax.runs.build import Experiment, build, declared_adaptation
from metarl_jax.studies.compare import measures
from metarl_jax.studies.compare.sources import Method, sees_task
from metarl_jax.studies.compare.stages import Cut, Stage, cut

_THRESHOLDS = 101
Scores = dict[str, np.ndarray]
"""Returns ``[K + 1, seeds, tasks]`` by name of the method."""


class Settings(NamedTuple):
    """How methods are compared.

    Attributes:
      tasks: to which they adapt; None as the first config says.
      seed: of these; None as the first config says.
      steps: units of adaptation; None as each config says.
      env_steps: at which they are compared; None for as many as all have.
      with_cost: whether costs are measured, for which each method is compiled.
    """

    tasks: int | None = None
    seed: int | None = None
    steps: int | None = None
    env_steps: float | None = None
    with_cost: bool = True


class _Measured(NamedTuple):
    """A method with what it is made of, and its evaluations by distribution."""

    method: Method
    experiment: Experiment
    stages: Mapping[int, Stage]
    evaluations: Mapping[str, Sequence[dict[str, Any]]]


def compare(
    methods: Sequence[Method],
    settings: Settings,
    costs: MutableMapping[str, Any],
    say: Callable[[str], object] = lambda text: None,
) -> dict[str, Any]:
    """Measure methods at equal environment steps and put the results beside each other.

    Args:
      methods: what is compared; all on the same tasks.
      settings: how.
      costs: what has been measured on this machine before, to which this is added.
      say: called with a sentence before each method.

    Returns:
      A JSON object: ``tasks``, ``env_steps``, ``cut`` (whose runs went on), ``settings``; by name ``methods``, each
      with its ``runs``, ``adaptation``, ``effect`` by distribution, ``cost``, ``stability`` and ``reach``; by
      distribution ``references`` (``random``, ``oracle``, ``bayes_optimum``), ``improvement`` of each pair and the
      ``profiles`` after all adaptation.

    Raises:
      Refusal: if runs have no checkpoints at equal steps, or a method does not declare how it adapts.
    """
    at, evaluation = cut(methods, settings.env_steps), methods[0].config.evaluation
    seed = evaluation.seed if settings.seed is None else settings.seed
    given = {"num_tasks": settings.tasks or evaluation.num_tasks, "seed": seed}
    measured = [_measure(method, at, given, settings.steps, say) for method in methods]
    distributions = [name for name in ("held_out", "beyond") if all(name in one.evaluations for one in measured)]
    whole = {name: _whole(measured, name) for name in distributions}
    scores = {name: _scores(measured, name, whole[name]) for name in distributions}
    references = {name: _references(measured, name, scores[name]) for name in distributions}
    return {
        "tasks": methods[0].config.tasks.name,
        "env_steps": at.env_steps,
        "cut": list(at.longer),
        "settings": {**given, **_few(measured[0].evaluations["held_out"][0])},
        "references": references,
        "methods": {
            one.method.name: {
                **_description(one),
                "effect": {
                    name: {
                        **_effect(scores[name][one.method.name], references[name], _episodes(one)),
                        **_means(one.evaluations[name], scores[name][one.method.name], whole[name]),
                    }
                    for name in distributions
                },
                "cost": measures.cost(one.experiment, costs) if settings.with_cost else None,
                "stability": measures.stability(
                    one.experiment, one.stages, scores["held_out"][one.method.name][-1], one.method.settings
                ),
                "reach": measures.reach(one.experiment),
            }
            for one in measured
        },
        "improvement": {name: list(_improvements(scores[name])) for name in distributions},
        "profiles": {name: _profiles(scores[name]) for name in distributions},
    }


def _measure(
    method: Method, at: Cut, given: Mapping[str, Any], steps: int | None, say: Callable[[str], object]
) -> _Measured:
    say(f"{method.name}: adapting to new tasks")
    experiment = build(method.config)
    units = {"num_inner_steps": 0} if sees_task(method.config) else {} if steps is None else {"num_inner_steps": steps}
    stages = at.stages[method.name]
    distributions = ["held_out", *(["beyond"] if experiment.family.sample_beyond is not None else [])]
    found = {
        name: measures.evaluations(experiment, list(stages.values()), {**given, **units, "distribution": name}, say)
        for name in distributions
    }
    return _Measured(method, experiment, stages, found)


def _few(evaluation: Mapping[str, Any]) -> dict[str, int]:
    """How many different tasks there are, of a family that has a few only."""
    number = evaluation["settings"].get("num_different_tasks")
    return {} if number is None else {"num_different_tasks": number}


def _whole(measured: Sequence[_Measured], distribution: str) -> np.ndarray:
    """The tasks of which nobody lost all episodes, ``[tasks]``."""
    every = [measures.scores_of(one.evaluations[distribution]) for one in measured]
    whole: np.ndarray = np.all([np.isfinite(of_one).all(axis=(0, 1)) for of_one in every], axis=0)
    if not whole.any():
        why = "in each of them the environment failed in all episodes of some run"
        raise Refusal("tasks", len(whole), f"no new task is left to compare on: {why}; give more --tasks")
    return whole


def _scores(measured: Sequence[_Measured], distribution: str, whole: np.ndarray) -> Scores:
    """Returns on tasks that are whole: ``[K + 1, seeds, tasks]`` by method."""
    return {one.method.name: measures.scores_of(one.evaluations[distribution])[..., whole] for one in measured}


def _references(measured: Sequence[_Measured], distribution: str, scores: Scores) -> dict[str, Any]:
    """What a random policy earns before adaptation, and the best that there is: both as interquartile means.

    Beside them, where it is known, the best without knowing the task in each episode of the longest trial, as a mean.
    """
    sees = {one.method.name: sees_task(one.method.config) for one in measured}
    adapting = [one for one in measured if not sees[one.method.name]] or measured
    first = [one.evaluations[distribution][0] for one in adapting]
    random = np.array([one["random_initialisation"]["per_task_return"][0] for one in first], float)
    oracles = [of_one[0] for name, of_one in scores.items() if sees[name]]
    best, source = None, None
    if "per_task_optimum" in first[0]:
        best, source = float(iqm(first[0]["per_task_optimum"])), "optimum"
    elif oracles:
        best, source = max(float(iqm(of_one.ravel())) for of_one in oracles), "oracle"
    trials = [one["bayes_optimum"] for one in first if "bayes_optimum" in one]
    bayes = {"bayes_optimum": max(trials, key=len)} if trials else {}
    return {"random": float(iqm(random[np.isfinite(random)])), "oracle": best, "oracle_is": source, **bayes}


def _episodes(one: _Measured) -> int:
    """Episodes of the new task that a unit of adaptation needs."""
    adaptation = declared_adaptation(one.experiment.config, one.experiment.algorithm)
    return 1 if adaptation.is_trial else one.experiment.config.evaluation.episodes_per_task


def _description(one: _Measured) -> dict[str, Any]:
    adaptation = declared_adaptation(one.experiment.config, one.experiment.algorithm)
    return {
        "algorithm": one.method.config.algorithm.name,
        "runs": {
            str(seed): {"directory": str(stage.directory), "iteration": stage.iteration, "env_steps": stage.env_steps}
            for seed, stage in one.stages.items()
        },
        "adaptation": {
            "unit": adaptation.unit,
            "trained": adaptation.trained,
            "episodes_per_unit": _episodes(one),
            "updates_per_unit": 0 if adaptation.is_trial else 1,
        },
    }


def _effect(scores: np.ndarray, references: Mapping[str, Any], episodes_per_unit: int) -> dict[str, Any]:
    """Interquartile means over seeds and tasks after each unit, with their intervals, as they are and normalised."""
    units = list(range(len(scores)))
    rows = [interval(of_unit, interquartile_mean, drawn=2) for of_unit in scores]
    ends = {"iqm": [row.value for row in rows], "low": [row.low for row in rows], "high": [row.high for row in rows]}
    plain = {name: np.array(values, float) for name, values in ends.items()}
    random, best = references["random"], references["oracle"]
    has_scale = best is not None and best != random
    return {
        "units": units,
        "episodes": [episodes_per_unit * unit for unit in units],
        **{name: values.tolist() for name, values in plain.items()},
        "normalised": {name: ((values - random) / (best - random)).tolist() for name, values in plain.items()}
        if has_scale
        else None,
        "per_seed": iqm(scores[-1]).tolist(),
    }


def _means(found: Sequence[Mapping[str, Any]], scores: np.ndarray, whole: np.ndarray) -> dict[str, Any]:
    """What a random initialisation earns that adapts in the same way, as an interquartile mean; and mean returns over
    tasks of it and of each seed. None after a unit after which its environment failed on all tasks.
    """
    random = np.array(found[0]["random_initialisation"]["per_task_return"], float)[:, whole]
    left = [row[np.isfinite(row)] for row in random]
    return {
        "from_scratch": [float(iqm(row)) if len(row) else None for row in left],
        "means": {
            "seeds": scores.mean(axis=2).T.tolist(),
            "random_initialisation": [float(row.mean()) if len(row) else None for row in left],
        },
    }


def _improvements(scores: Scores) -> Iterator[dict[str, Any]]:
    """How likely the one is better than the other on the same task, after all adaptation."""
    for ours, theirs in combinations(scores, 2):
        found = interval(improvements(scores[ours][-1], scores[theirs][-1]), drawn=3)
        value, low, high = (float(end) for end in np.clip(found, 0.0, 1.0))
        yield {"of": ours, "over": theirs, "probability": value, "low": low, "high": high}
        yield {"of": theirs, "over": ours, "probability": 1.0 - value, "low": 1.0 - high, "high": 1.0 - low}


def _profiles(scores: Scores) -> dict[str, Any]:
    final = {name: of_one[-1] for name, of_one in scores.items()}
    every = np.concatenate([of_one.ravel() for of_one in final.values()])
    thresholds = np.linspace(every.min(), every.max(), _THRESHOLDS)
    shares = {name: performance_profile(of_one, thresholds).tolist() for name, of_one in final.items()}
    return {"returns": thresholds.tolist(), "share_above": shares}


def unlike(methods: Sequence[Method]) -> list[str]:
    """What configs make unequal beyond the methods themselves: a head start, another way to measure.

    Args:
      methods: what is compared.
    """
    starts = {one.name: one.config.training.initial_run for one in methods}
    told = [
        f"{name} began with the parameters of {start}, whose environment steps are not counted"
        for name, start in starts.items()
        if start is not None
    ]
    acted = {one.name: one.config.evaluation.test_policy for one in methods if not sees_task(one.config)}
    if len(set(acted.values())) > 1:
        told.append("test policies differ: " + ", ".join(f"{name} {policy}" for name, policy in acted.items()))
    return told


def notes(result: Mapping[str, Any]) -> list[str]:
    """What a reader has to know: what was left out, and what is not the same for all.

    Args:
      result: of :func:`compare`.
    """
    told = []
    if result["cut"]:
        whose = ", ".join(result["cut"])
        told.append(f"at {result['env_steps']:,} environment steps, which all have; the rest of {whose} is left out")
    for name, method in result["methods"].items():
        taken = max(run["env_steps"] for run in method["runs"].values())
        if abs(taken - result["env_steps"]) > 0.1 * result["env_steps"]:
            told.append(f"{name} took {taken:,} environment steps")
    seeds = {name: len(method["runs"]) for name, method in result["methods"].items()}
    if len(set(seeds.values())) > 1:
        told.append("numbers of seeds differ: " + ", ".join(f"{name} {number}" for name, number in seeds.items()))
    alone = [name for name, number in seeds.items() if number == 1]
    if alone:
        told.append(f"of one seed, an interval is over tasks alone: {', '.join(alone)}")
    return told
