"""How runs adapt to new tasks: curves beside a random initialisation, an oracle and the optimum."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metarl_jax.ops.statistics import Interval, interquartile_mean, interval, mean
from metarl_jax.report.expected import find_expected
from metarl_jax.report.html.blocks import Block, Plots, Section, Table, Text
from metarl_jax.report.html.charts import GREY, Chart, Line, plot
from metarl_jax.report.html.material import Material, Subject
from metarl_jax.report.html.words import BLANK, column, shown
from metarl_jax.report.tables import milestones, tasks_in_words
from metarl_jax.report.text import amount

_SAME = ("num_tasks", "num_inner_steps", "episodes_per_task", "step_size_rule", "seed", "adaptation", "test_policy")
_DISTRIBUTIONS = ("held_out", "beyond")
_TRIALS = "episodes seen"
_MOST_COLUMNS = 5  # of a table; more lines are its rows

Evaluation = Mapping[str, Any]


class _Tested(NamedTuple):
    """Evaluations of one method, with the same settings, one of each seed."""

    number: int
    subject: Subject
    found: Sequence[Evaluation]

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.found[0]["settings"]  # type: ignore[no-any-return]


def adaptation(material: Material) -> Section:
    """The return on new tasks against the amount of adaptation, of each distribution that was evaluated."""
    blocks = [block for name in _DISTRIBUTIONS for block in _blocks(list(_tested(material, name)))]
    if not blocks:
        first = next(iter(material.subjects[0].runs.values()))
        blocks = [Text(f"Not evaluated yet. Run: metarl evaluate {first.directory}")]
    blocks += [table for subject in material.subjects if (table := _expected(subject)) is not None]
    return Section("adaptation", "Adaptation to new tasks", blocks)


def _expected(subject: Subject) -> Table | None:
    """What is known to be a good result, of a config that comes with the package."""
    if (known := find_expected(subject.config)) is None:
        return None
    name, told = known
    spread = "lowest and highest seed" if told.seeds > 1 else "95 % interval over tasks"
    caption = f"A good result: what {name} came to ({amount(told.seeds, 'seed')}, {told.tasks}; {spread})"
    units, *numbers = zip(*told.rows, strict=True)
    ends, random = column(list(zip(*numbers[:3], strict=True))), column([[value] for value in numbers[3]])
    rows = list(zip(units, ends, random, strict=True))
    return Table(caption, [told.unit, "meta-trained", "random initialisation"], rows)


def _tested(material: Material, distribution: str) -> Iterator[_Tested]:
    for number, subject in enumerate(material.subjects):
        of_runs = [
            [found for found in run.evaluations if found["settings"].get("distribution", "held_out") == distribution]
            for run in subject.runs.values()
        ]
        if not (first := next((found[0] for found in of_runs if found), None)):
            continue
        wanted = _identity(first)
        alike = (next((one for one in found if _identity(one) == wanted), None) for found in of_runs)
        yield _Tested(number, subject, [one for one in alike if one is not None])


def _identity(evaluation: Evaluation) -> list[Any]:
    return [evaluation["settings"].get(name) for name in _SAME]


def _blocks(tested: Sequence[_Tested]) -> list[Block]:
    if not tested:
        return []
    by_episodes = len({one.settings["adaptation"] for one in tested}) > 1
    is_of_seeds = any(len(one.found) > 1 for one in tested)
    lines = [*(_line(one, by_episodes, is_of_seeds) for one in tested), _random(tested[0], by_episodes, is_of_seeds)]
    label = "episodes of the new task" if by_episodes else tested[0].settings["adaptation"]
    last = max(float(line.x[-1]) for line in lines)
    lines = [_extended(line, last) for line in lines]
    if (optimum := tested[0].found[0].get("optimum")) is not None:
        x = np.unique(np.concatenate([line.x for line in lines]))
        lines.append(Line("optimum", x, np.full(len(x), optimum), colour=GREY, style="dashed"))
    lines += _bayes_optimal(tested, is_of_seeds)
    on = [tasks_in_words(one.settings) for one in tested]
    is_alike = len(set(on)) == 1
    title = f"Return on {on[0] if is_alike else 'new tasks'}"
    rates = [_rates(one, by_episodes) for one in tested if one.found[0].get("success_rate") is not None]
    charts = [Chart(title, label, "return", lines), *([Chart("Success", label, "share", rates)] if rates else [])]
    what = "interquartile mean over seeds and tasks" if is_of_seeds else "mean over tasks"
    whose = "; ".join(_whose(one, "" if is_alike else f", on {words}") for one, words in zip(tested, on, strict=True))
    note = f"Curves are the {what}, bands the 95 % interval. {whose}."
    return [Text(note), Plots([plot(chart) for chart in charts]), _table(title, label, lines)]


def _whose(one: _Tested, on: str) -> str:
    updates = sorted({found["checkpoint"] for found in one.found if "checkpoint" in found}) or [BLANK]
    span = " to ".join(map(str, dict.fromkeys([updates[0], updates[-1]])))
    return f"{one.subject.name}: {amount(len(one.found), 'seed')}, after {span} updates{on}"


def _line(one: _Tested, by_episodes: bool, is_of_seeds: bool) -> Line:
    x = _amounts(one, by_episodes)
    return Line(one.subject.name, x, *_ends(one.found, is_of_seeds), colour=one.number, style="dots")


def _random(one: _Tested, by_episodes: bool, is_of_seeds: bool) -> Line:
    found = [evaluation["random_initialisation"] for evaluation in one.found]
    ends = _ends(found, is_of_seeds)
    return Line("random initialisation", _amounts(one, by_episodes), *ends, colour=GREY, style="dots")


def _bayes_optimal(tested: Sequence[_Tested], is_of_seeds: bool) -> list[Line]:
    """What is best without knowing the task, of the longest trial; always a mean, so it says so beside other curves."""
    known = [one.found[0]["bayes_optimum"] for one in tested if "bayes_optimum" in one.found[0]]
    if not known:
        return []
    best = max(known, key=len)
    return [Line(f"Bayes-optimal{' (mean)' if is_of_seeds else ''}", np.arange(len(best)), best, colour=GREY)]


def _rates(one: _Tested, by_episodes: bool) -> Line:
    values = np.array([found["success_rate"] for found in one.found], float).mean(axis=0)
    return Line(one.subject.name, _amounts(one, by_episodes), values, colour=one.number, style="dots")


def _amounts(one: _Tested, by_episodes: bool) -> np.ndarray:
    is_trial = one.settings["adaptation"] == _TRIALS
    each = one.settings["episodes_per_task"] if by_episodes and not is_trial else 1
    return np.arange(len(one.found[0]["mean_return"])) * float(each)


def _ends(found: Sequence[Evaluation], is_of_seeds: bool) -> Interval:
    """The statistic and its interval, ``[K + 1]`` each, over the tasks of which no seed lost all episodes."""
    returns = np.array([one["per_task_return"] for one in found], float).swapaxes(0, 1)
    returns = returns[..., np.isfinite(returns).all(axis=(0, 1))]
    if not returns.size:
        return Interval(*np.full((3, len(returns)), np.nan))
    rows = [interval(row, interquartile_mean if is_of_seeds else mean, drawn=2) for row in returns]
    return Interval(*np.array(rows).T)


def _extended(line: Line, last: float) -> Line:
    """What cannot adapt, such as an oracle that was evaluated as it is, as a level."""
    if len(line.x) > 1 or last == 0:
        return line
    low, high = (None if end is None else np.repeat(end, 2) for end in (line.low, line.high))
    return line._replace(x=[0.0, last], y=np.repeat(line.y, 2), low=low, high=high, style="dashed")


def _table(title: str, label: str, lines: Sequence[Line]) -> Table:
    places = sorted({float(x) for line in lines for x in line.x})
    kept = [places[i] for i in milestones(len(places) - 1)]
    amounts = [shown(int(x) if x.is_integer() else x) for x in kept]
    columns = [column([_at(line, x) for x in kept]) for line in lines]
    if len(lines) > _MOST_COLUMNS:
        rows = [(line.name, *cells) for line, cells in zip(lines, columns, strict=True)]
        return Table(title, [f"after {label}", *amounts], rows)
    return Table(title, [label, *(line.name for line in lines)], list(zip(amounts, *columns, strict=True)))


def _at(line: Line, x: float) -> list[float]:
    """What a line says of an amount of adaptation: its value and the ends of its interval; NaN if nothing."""
    found = np.flatnonzero(np.asarray(line.x, float) == x)
    ends = [end for end in (line.y, line.low, line.high) if end is not None]
    return [float(end[found[0]]) for end in ends] if found.size else [float("nan")]
