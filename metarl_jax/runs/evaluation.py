"""Meta-testing: the return on held-out tasks after 0..K steps of adaptation, beside a random initialisation.

A step is what the method counts its adaptation in: a gradient step or, if it adapts by remembering (RL^2), one more
episode of experience.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from metarl_jax.checks import checked, require
from metarl_jax.collect.randomness import fold_in_each, stream
from metarl_jax.config import Values, static_part, traced_values
from metarl_jax.ops import trees
from metarl_jax.ops.returns import masked_mean_or_nan
from metarl_jax.ops.statistics import Interval, interval
from metarl_jax.runs.build import Experiment, declared_adaptation, meta_test_sampler, with_test_budget
from metarl_jax.runs.memory import fitting_evaluation
from metarl_jax.runs.run import Run
from metarl_jax.types import (
    Info,
    Key,
    MetaAlgorithm,
    NonNegativeInt,
    Params,
    PositiveInt,
    Seed,
    StepSizeRule,
    Success,
    Task,
    TaskFamily,
    TestPolicy,
)

Distribution = Literal["held_out", "beyond"]


@checked
def evaluate(
    run: Run,
    *,
    num_tasks: PositiveInt | None = None,
    num_inner_steps: NonNegativeInt | None = None,
    episodes_per_task: PositiveInt | None = None,
    step_size_rule: StepSizeRule | None = None,
    distribution: Distribution | None = None,
    seed: Seed | None = None,
    test_policy: TestPolicy | None = None,
) -> dict[str, Any]:
    """Adapt to held-out tasks and measure the return before and after every step of adaptation.

    The same tasks and random numbers serve the trained parameters and the random initialisation, of which every task
    gets its own draw. What is not given comes from ``run.config.evaluation``. The tasks are shared by all devices of
    this process, as far as they divide them.

    Args:
      run: what was trained.
      num_tasks: held-out tasks.
      num_inner_steps: K, gradient steps per task, or units that the method declares; trials have K + 1 episodes.
      episodes_per_task: episodes collected before and after each step, per task; for a method with trials, these.
      step_size_rule: ``constant``, or ``finn``: halved after the first step. Of no effect without gradient steps.
      distribution: ``held_out``, or ``beyond``: tasks out of the training distribution.
      seed: draws tasks and episodes.
      test_policy: ``stochastic``: what is measured are the episodes that adaptation explores in; ``deterministic``:
        others beside them, before each step, by the mode of the policy. See docs/evaluation.md.

    Returns:
      A JSON object: ``gradient_steps`` ``[0..K]`` (of RL^2: episodes seen), ``mean_return`` ``[K + 1]`` over tasks with
      ``ci_low`` and ``ci_high`` ``[K + 1]`` (95 % over tasks), ``per_task_return`` ``[K + 1][tasks]``,
      ``total`` (of a method with trials, unless by the mode: the same three numbers of the return of a whole trial),
      ``success_rate`` ``[K + 1]`` (share of the episodes that succeeded, if the family says what that is),
      ``episodes_dropped`` (in which the environment failed: they count in none of these), the settings,
      ``random_initialisation`` with the same fields, and ``optimum``, the mean of ``per_task_optimum``, the best
      return of an episode, if the family knows it; likewise, of a trial on tasks of the family's own distribution,
      ``bayes_optimum`` ``[K + 1]``: what is best on average for one who does not know the task.
      A task of which no episode is left has the return NaN and is left out of the means.

    Raises:
      ValueError: if a number is out of range, the family has no tasks of that ``distribution``, the method does not
        declare how it adapts, or the evaluation needs more memory than there is.

    Example:
      >>> import metarl_jax as mrl
      >>> run = mrl.build({"tasks": {"name": "navigation_finn", "horizon": 5}, "algorithm": {"name": "maml"}})
      >>> len(evaluate(run, num_tasks=2, num_inner_steps=1, episodes_per_task=3)["mean_return"])
      2
    """
    given = {
        "num_tasks": num_tasks,
        "num_inner_steps": num_inner_steps,
        "episodes_per_task": episodes_per_task,
        "step_size_rule": step_size_rule,
        "distribution": distribution,
        "seed": seed,
        "test_policy": test_policy,
    }
    alone = Experiment(*run[:4], remake=lambda values: run.algorithm)
    return make_evaluation(alone, None, **{key: value for key, value in given.items() if value is not None})(run)


def share_evaluations(devices: Sequence[jax.Device] | None = None) -> Callable[[Experiment, Run], dict[str, Any]]:
    """An :func:`evaluate`, as the configs say, that compiles once for all runs of a program.

    Args:
      devices: that share the tasks; all of this process if None, of a CPU the first.

    Returns:
      ``(experiment, run) -> evaluation``.
    """
    made: dict[str, Callable[[Run], dict[str, Any]]] = {}

    def of_run(experiment: Experiment, run: Run) -> dict[str, Any]:
        settings = run.config.evaluation.measurement
        kind = json.dumps([static_part(run.config), settings], sort_keys=True)
        if kind not in made:
            made[kind] = make_evaluation(experiment, devices)
        return made[kind](run)

    return of_run


def make_evaluation(
    experiment: Experiment, devices: Sequence[jax.Device] | None = None, **given: Any
) -> Callable[[Run], dict[str, Any]]:
    """An :func:`evaluate` that compiles once for all runs that differ in their seeds and traced numbers alone.

    Args:
      experiment: of one of the runs.
      devices: that share the tasks; all of this process if None, of a CPU the first. With several of a CPU, XLA waits
        for ever if the environment variable NPROC does not give it a thread more than these, as ``metarl`` does.
      **given: of :func:`evaluate`, in the place of the config's.

    Returns:
      ``(run) -> evaluation``.

    Example:
      >>> import metarl_jax as mrl
      >>> run = mrl.build({"tasks": {"name": "navigation_finn", "horizon": 5}, "algorithm": {"name": "maml"}})
      >>> from metarl_jax.runs.build import build
      >>> measure = make_evaluation(build(run.config), num_tasks=2, num_inner_steps=1, episodes_per_task=3)
      >>> len(measure(run)["mean_return"])
      2
    """
    settings = experiment.config.evaluation.measurement | given
    sample = meta_test_sampler(experiment.config, experiment.family, settings["distribution"])
    adaptation = declared_adaptation(experiment.config, experiment.algorithm)
    tasks, keys, initial_keys = _draw(sample, settings)
    bayes_optimum = _bayes_optimum(experiment.family, settings) if adaptation.is_trial else {}
    mesh = _sharing(settings["num_tasks"], _devices() if devices is None else devices)
    per_task = PartitionSpec(*mesh.axis_names)

    def tested(algorithm: MetaAlgorithm) -> MetaAlgorithm:
        return with_test_budget(experiment.config, algorithm, settings)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(PartitionSpec(), per_task), out_specs=per_task, check_vma=False)
    def measure(values: Values, data: tuple[Params, Task, Key]) -> Info:
        algorithm = tested(experiment.remake(values))
        return mean_over_episodes(algorithm, experiment.family.success, data, settings["test_policy"])

    fitting = fitting_evaluation(measure, experiment, settings, list(mesh.devices.flat), is_trained=True)

    @jax.jit
    def initialise(values: Values) -> Params:
        algorithm = tested(experiment.remake(values))
        # No batch: one of factors, of which an own network may make its weights, may wait for ever (see ops.factors).
        return jax.lax.map(lambda key: algorithm.init(key).params, initial_keys)

    def describe(values: Values, params: Params) -> dict[str, Any]:
        steps = list(range(settings["num_inner_steps"] + 1))
        data = jax.device_put((params, tasks, keys), NamedSharding(mesh, per_task))
        return {"gradient_steps": steps, **_summary(fitting(values, data), settings, adaptation.is_trial)}

    untrained: dict[tuple[bytes, ...], dict[str, Any]] = {}  # of the numbers that came last: seeds share it

    def of_run(run: Run) -> dict[str, Any]:
        values = traced_values(run.config)
        numbers = tuple(leaf.tobytes() for leaf in jax.tree.leaves(values))
        if numbers not in untrained:
            untrained.clear()
            untrained[numbers] = describe(values, initialise(values))
        trained = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(keys), *leaf.shape)), run.params)
        step_sizes = declared_adaptation(run.config, tested(run.algorithm)).step_sizes
        return {
            **describe(values, trained),
            "settings": {
                **settings,
                "num_different_tasks": experiment.family.num_tasks,
                "adaptation": "episodes seen" if adaptation.is_trial else f"{adaptation.unit}s",
                "step_sizes": [float(size) for size in step_sizes],
            },
            **_optimum(experiment.family, tasks),
            **bayes_optimum,
            "random_initialisation": untrained[numbers],
        }

    return of_run


def _devices() -> Sequence[jax.Device]:
    """All of this process, of a CPU the first: for several XLA may have no thread to spare (see ``runs.startup``)."""
    devices = jax.local_devices()
    return devices[:1] if devices[0].platform == "cpu" else devices


def _sharing(num_tasks: int, devices: Sequence[jax.Device]) -> Mesh:
    """The most of the devices that share the tasks evenly."""
    number = next(number for number in range(len(devices), 0, -1) if num_tasks % number == 0)
    return Mesh(np.asarray(devices[:number]), ("tasks",))


def _draw(sample: Callable[[Key], Task], settings: dict[str, Any]) -> tuple[Task, Key, Key]:
    """Tasks; for each a key for what happens in it, and one for a random initialisation."""
    seed, indices = settings["seed"], jnp.arange(settings["num_tasks"])
    tasks = jax.vmap(sample)(fold_in_each(stream(seed, "held_out_tasks"), indices))
    keys = fold_in_each(stream(seed, "held_out_episodes"), indices)
    return tasks, keys, fold_in_each(stream(seed, "random_initialisation"), indices)


def _optimum(family: TaskFamily, tasks: Task) -> dict[str, Any]:
    """The best return of an episode of each task and its mean over them, if the family knows it."""
    if family.optimum is None:
        return {}
    best = np.asarray(jax.jit(jax.vmap(family.optimum))(tasks))
    return {"optimum": float(np.mean(best, dtype=np.float64)), "per_task_optimum": best.tolist()}


def _bayes_optimum(family: TaskFamily, settings: dict[str, Any]) -> dict[str, Any]:
    """The best expected return of each episode of the trial that is measured, if it is one and the family knows it."""
    is_of_trial = settings["test_policy"] == "stochastic" and settings["distribution"] == "held_out"
    if family.bayes_optimum is None or not is_of_trial:
        return {}
    best = family.bayes_optimum(settings["num_inner_steps"] + 1)
    return {} if best is None else {"bayes_optimum": best.tolist()}


def _summary(measured: Info, settings: dict[str, Any], is_trial: bool) -> dict[str, Any]:
    """Statistics over tasks of what was measured, ``[tasks, K + 1]`` each."""
    found = {name: np.asarray(value).T for name, value in measured.items()}
    has_data = found["dropped"] < settings["episodes_per_task"]
    summary = summarize(found["return"], settings["seed"], has_data)
    if is_trial and settings["test_policy"] == "stochastic":  # else its episodes are of no one trial
        totals = found["return"].sum(axis=0, keepdims=True, dtype=np.float64)
        whole = summarize(totals, settings["seed"], has_data.all(axis=0, keepdims=True))
        summary["total"] = {name: whole[name][0] for name in ("mean_return", "ci_low", "ci_high")}
    if "success" in found:
        summary["success_rate"] = mean_over_tasks(found["success"], has_data)
    return {**summary, "episodes_dropped": int(found["dropped"].sum())}


def mean_over_episodes(
    algorithm: MetaAlgorithm,
    success: Success | None,
    data: tuple[Params, Task, Key],
    test_policy: TestPolicy = "stochastic",
) -> Info:
    """Adapt to every task.

    Args:
      algorithm: with the budget of the test.
      success: of the family.
      data: of each task ``[tasks, ...]``.
      test_policy: see :func:`evaluate`.

    Returns:
      ``[tasks, K + 1]`` each: the mean ``return`` and, if there is such a thing, share of ``success``, of the episodes
      that are not dropped (NaN if there are none); and how many are ``dropped``.

    Raises:
      Refusal: if the method does not report what the family measures, or cannot be tested so.
    """
    remedy = "this method offers no episodes beside those that it explores in; use 'stochastic'"
    require(test_policy == "stochastic" or algorithm.test is not None, "evaluation.test_policy", test_policy, remedy)
    measured = {"return": "return"}
    if success is not None:
        measured["success"] = "terminated" if success == "termination" else "success"

    def of_task(one: tuple[Params, Task, Key]) -> Info:
        if test_policy == "stochastic" or algorithm.test is None:
            _, info = algorithm.adapt(*one)
        else:
            info = algorithm.test(*one)
        for key in measured.values():
            require(key in info, "adapt", sorted(info), f"the method has to report {key!r}, which the family measures")
        dropped = info.get("dropped", jnp.zeros(info["return"].shape, bool))
        means = {name: jax.vmap(masked_mean_or_nan)(info[key], ~dropped) for name, key in measured.items()}
        return {**means, "dropped": jnp.sum(dropped, axis=1)}

    return trees.over_tasks(of_task, data, algorithm.tasks_at_once)


def summarize(returns: np.ndarray, seed: int, has_data: np.ndarray | None = None) -> dict[str, Any]:
    """Means and their 95 % intervals over tasks (:func:`metarl_jax.ops.statistics.interval`).

    Args:
      returns: ``[K + 1, tasks]``.
      seed: of the resampling.
      has_data: ``[K + 1, tasks]`` which returns count; all if None.

    Returns:
      ``mean_return``, ``ci_low``, ``ci_high`` ``[K + 1]`` and ``per_task_return`` ``[K + 1][tasks]``.

    Example:
      >>> summarize(np.ones((1, 4)), 0)["ci_low"]
      [1.0]
    """
    counts = np.ones(returns.shape, bool) if has_data is None else has_data
    rows = zip(returns.astype(np.float64), counts, strict=True)
    ends = [interval(row[valid], seed=seed) if valid.any() else Interval(*np.full(3, np.nan)) for row, valid in rows]
    return {
        "mean_return": mean_over_tasks(returns, counts),
        "ci_low": [float(row.low) for row in ends],
        "ci_high": [float(row.high) for row in ends],
        "per_task_return": returns.tolist(),
    }


def mean_over_tasks(x: np.ndarray, has_data: np.ndarray) -> list[float]:
    """The mean over the tasks that have data; NaN if there are none: ``[K + 1, tasks] -> [K + 1]``.

    Example:
      >>> mean_over_tasks(np.array([[1.0, 3.0, 8.0]]), np.array([[True, True, False]]))
      [2.0]
    """
    with np.errstate(invalid="ignore"):
        means: list[float] = (x.sum(axis=1, dtype=np.float64, where=has_data) / has_data.sum(axis=1)).tolist()
    return means
