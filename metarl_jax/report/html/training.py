"""How training went: learning curves, what the optimiser did, its troubles, where the time went."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

import jax
import numpy as np

from metarl_jax.inner.rules import RULE
from metarl_jax.report.html.blocks import Bar, Block, Plots, Section, Table, Text
from metarl_jax.report.html.charts import GREY, Chart, Line, plot, short
from metarl_jax.report.html.material import FEWEST_SEEDS, Material, Subject, Written, curve, number, runs_of
from metarl_jax.report.html.words import duration, shown
from metarl_jax.report.text import amount
from metarl_jax.runs.health import HealthMonitor, bad_end
from metarl_jax.tracking.glossary import GLOSSARY, label, read

_INTERVAL = (
    "Curves are the interquartile mean over seeds, bands its 95 % interval; "
    f"of fewer than {FEWEST_SEEDS} seeds there is no band."
)
_WHILE_TRAINING = ("evaluation_return_post", "validation_return_post")
_ACRONYMS = ("kl", "snr", "cg")


def learning(material: Material) -> Section | None:
    """The return against environment steps, and what was evaluated while training."""
    lines = [line for i, subject in enumerate(material.subjects) for line in _learning_lines(material, i, subject)]
    tested = [line for i, subject in enumerate(material.subjects) for line in _tested_lines(i, subject)]
    whose = f": {tested[0].name}" if len(tested) == 1 else ""
    charts = [
        Chart("Training tasks", label("env_steps"), "return", lines),
        Chart(f"Evaluated while training{whose}", label("env_steps"), "return", tested),
    ]
    plots = [plot(chart) for chart in charts if chart.has_points]
    if not plots:
        return None
    several = any(len(subject.runs) > 1 for subject in material.subjects)
    return Section("learning", "Learning", [*([Text(_INTERVAL)] if several else []), Plots(plots)])


def _learning_lines(material: Material, i: int, subject: Subject) -> Iterator[Line]:
    """After adaptation; before it, too, of a single method."""
    alone = len(material.subjects) == 1
    after = curve(subject, label("return_post") if alone else subject.name, number("return_post"), i)
    before = curve(subject, label("return_pre"), number("return_pre"), GREY) if alone else None
    yield from (line for line in (after, before) if line is not None)


def _tested_lines(i: int, subject: Subject) -> Iterator[Line]:
    for name in _WHILE_TRAINING:
        style = "dots" if name == _WHILE_TRAINING[0] else "dashed"
        line = curve(subject, f"{subject.name}: {label(name)}", number(name), i, style)
        if line is not None:
            yield line


class _Panel(NamedTuple):
    """One chart of a metric, or of its last element."""

    metric: str
    place: int | None = None


_PANELS = (
    _Panel("outer_kl"),
    _Panel("kl"),
    _Panel("inner_kl", -1),
    _Panel("kl_coefficient", -1),
    _Panel("outer_step_scale"),
    _Panel("step_fraction"),
    _Panel("inner_distance"),
    _Panel("grad_norm"),
    _Panel("grad_snr"),
    _Panel("loss"),
    _Panel("policy_entropy"),
    _Panel("critic_explained_variance"),
    _Panel("value_loss"),
    _Panel("outer_ratio_error"),
    _Panel("cg_residual"),
)
"""In the order of their weight: how far steps go first."""


def optimisation(material: Material) -> Section | None:
    """Step sizes, and what the metrics tell of the steps that were taken."""
    charts = [_chart(material, panel) for panel in _PANELS]
    plots = [plot(chart) for chart in charts if chart.has_points]
    sizes = [row for subject in material.subjects for row in _step_sizes(subject, material.episodes)]
    table = Table("Step sizes", ["step", "size"], sizes)
    blocks: list[Block] = [*([table] if sizes else []), *([Plots(plots)] if plots else [])]
    return Section("optimisation", "Steps and divergences", blocks) if blocks else None


def _chart(material: Material, panel: _Panel) -> Chart:
    metric = GLOSSARY[panel.metric]
    lines = [
        line
        for i, subject in enumerate(material.subjects)
        if (line := curve(subject, subject.name, number(metric.name, panel.place), i)) is not None
    ]
    last = "" if panel.place is None else ", last stage"
    unit = "" if metric.unit == "1" else metric.unit
    words = [word.upper() if word in _ACRONYMS else word for word in label(metric.name).split()]
    title = " ".join([words[0][0].upper() + words[0][1:], *words[1:]])
    return Chart(f"{title}{last}", label("env_steps"), unit, lines, f"{metric.meaning[0].upper()}{metric.meaning[1:]}.")


def _step_sizes(subject: Subject, may_load: bool) -> Iterator[list[str]]:
    evaluations = [found for run in subject.runs.values() for found in run.evaluations]
    inner = evaluations[0]["settings"].get("step_sizes") if evaluations else None
    settings = subject.config.algorithm.model_dump()
    if inner is None and "inner_lr" in settings:
        inner = np.atleast_1d(settings["inner_lr"]).tolist()
    if inner:
        yield [f"{subject.name}: inner", ", ".join(map(shown, inner))]
    if inner and may_load and settings.get("inner_rule") != "learned" and (learned := _learned(subject)) is not None:
        yield [
            f"{subject.name}: inner, learned",
            f"{learned[1]:.3g} (median; from {learned[0]:.3g} to {learned[2]:.3g})",
        ]
    if (optimizer := subject.config.optimizer) is not None:
        rises = f"rises over {optimizer.warmup_steps} steps" if optimizer.warmup_steps else ""
        falls = f"falls over {optimizer.decay_steps} steps" if optimizer.decay_steps else ""
        schedule = ", ".join(part for part in (shown(optimizer.learning_rate), rises, falls) if part)
        yield [f"{subject.name}: outer ({optimizer.name})", schedule]


def _learned(subject: Subject) -> np.ndarray | None:
    """The least, the median and the greatest step size that the first run has learned; None if it learns none."""
    run, _ = next(iter(subject.runs.values())).loaded
    if run is None or RULE not in run.params:
        return None
    factors = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(run.params[RULE])])
    first = np.ravel(subject.config.algorithm.model_dump()["inner_lr"])[0]
    return np.quantile(first * factors, [0.0, 0.5, 1.0])


def health(material: Material) -> Section | None:
    """Each kind of trouble once for each run, with its remedy, as training told them."""
    if not any(run.rows for _, run in runs_of(material)):
        return None
    rows = [row for name, run in runs_of(material) for row in _troubles(material, name, run)]
    if not rows:
        return Section("health", "Health", [Text("No warning: every check of every update passed.", "good")])
    caption = f"{len(rows)} warning{'s' * (len(rows) != 1)}, each kind told once for each run"
    return Section("health", "Health", [Table(caption, ["run", "update", "what is wrong, and the remedy"], rows)])


def _troubles(material: Material, name: str, run: Written) -> Iterator[list[str]]:
    """How the run ended, if badly, and what the monitor of training says of the rows that were logged."""
    owner = next(subject for subject in material.subjects if run in subject.runs.values())
    if run.rows and (trouble := bad_end(run.rows)):
        yield [name, "at the end", trouble]
    training = owner.config.training
    adaptation = None if owner.experiment is None else owner.experiment.algorithm.adaptation
    episodes = training.meta_batch_size * training.episodes_per_task
    monitor = HealthMonitor(owner.config.tasks.name, episodes, adaptation)
    for text in (text for row in run.rows for text in monitor(row)):
        update, _, trouble = text.partition(": ")
        yield [name, update.removeprefix("iteration "), trouble]


def time_split(material: Material) -> Section | None:
    """Where the time of all runs of a method went, as their metrics tell."""
    blocks = [_bar(subject) for subject in material.subjects if any(run.rows for run in subject.runs.values())]
    return Section("time", "Time", blocks) if blocks else None


def _bar(subject: Subject) -> Bar:
    runs = [run for run in subject.runs.values() if run.rows]
    spent: dict[str, float] = {}
    for part, seconds in (pair for run in runs for pair in _parts(run)):
        spent[part] = spent.get(part, 0.0) + seconds
    total = sum(spent.values())
    shares = [(part, duration(seconds), round(100.0 * seconds / total, 2)) for part, seconds in spent.items()]
    pace = short(median(row["env_steps_per_second"] for run in runs for row in run.rows), digits=3)
    seeds = f", {amount(len(runs), 'run')}" if len(runs) > 1 else ""
    return Bar(f"{subject.name}{seeds}: {duration(total)}, {pace} environment steps per second", shares)


def _parts(run: Written) -> list[tuple[str, float]]:
    """Seconds of training by what they were spent on; what the first updates took beyond the usual is compilation."""
    updates = [read(row, "iteration_seconds") or 0.0 for row in run.rows]
    usual = median(updates)
    beyond = sum(max(0.0, seconds - usual) for seconds in _of_first_visits(run, updates))
    evaluations = sum(row.get("evaluation_seconds") or 0.0 for row in run.rows)
    named = [("updates", sum(updates) - beyond), ("compilation", beyond), ("evaluation", evaluations)]
    return [(name, seconds) for name, seconds in named if seconds > 0]


def _of_first_visits(run: Written, updates: Sequence[float]) -> list[float]:
    """The updates of the first visit to the device after each start: they share its time equally."""
    first = [start["iteration"] + 1 for start in run.starts] or [run.rows[0]["iteration"]]
    found: list[float] = []
    for at in first:
        begin = next((i for i, row in enumerate(run.rows) if row["iteration"] >= at), len(updates))
        same = [seconds for seconds in updates[begin:] if seconds == updates[begin]]
        found += same
    return found
