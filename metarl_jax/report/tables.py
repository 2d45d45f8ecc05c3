"""Tables on the terminal: adaptation curves, estimators, plans."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from rich.box import Box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text, TextType

from metarl_jax.report.text import amount, columns, decimals, number, wrap
from metarl_jax.runs.memory import in_words

GRADIENT_STEPS = "gradient steps"
_RULES = Box("    \n    \n -- \n    \n -- \n -- \n    \n    \n", ascii=True)
_WIDE = 10_000
_MOST_IN_FULL = 12
_INTERVAL = ("mean_return", "ci_low", "ci_high")


def milestones(last: int) -> list[int]:
    """The amounts of adaptation that a table shows: all of a few, or 0, 1, 2, 5, 10, 20, 50, ... and the last of many.

    Args:
      last: gradient steps, or episodes seen.

    Returns:
      Increasing numbers from 0 to ``last``.

    Example:
      >>> milestones(3), milestones(60)
      ([0, 1, 2, 3], [0, 1, 2, 5, 10, 20, 50, 60])
    """
    if last <= _MOST_IN_FULL:
        return list(range(last + 1))
    series = (digit * 10**power for power in range(len(str(last))) for digit in (1, 2, 5))
    return [0, *(k for k in series if k < last), last]


def tasks_in_words(settings: Mapping[str, Any]) -> str:
    """How many tasks an evaluation adapted to, where they are from, and how it acted in them if not at random.

    Example:
      >>> tasks_in_words({"num_tasks": 40}), tasks_in_words({"num_tasks": 40, "num_different_tasks": 2})
      ('40 held-out tasks', '40 draws of the 2 training tasks')
      >>> tasks_in_words({"num_tasks": 40, "test_policy": "deterministic"})
      "40 held-out tasks by the policy's mode"
    """
    num_tasks, few = settings["num_tasks"], settings.get("num_different_tasks")
    words = f"{num_tasks} held-out tasks" if few is None else f"{num_tasks} draws of the {few} training tasks"
    if settings.get("distribution") == "beyond":
        words = f"{num_tasks} tasks beyond the training distribution"
    return f"{words} by the policy's mode" if settings.get("test_policy") == "deterministic" else words


def adaptation_unit(settings: Mapping[str, Any]) -> str:
    """What an evaluation counts adaptation in, many of it; results from before it said so are of gradient steps.

    Example:
      >>> adaptation_unit({"adaptation": "episodes seen"})
      'episodes seen'
    """
    unit: str = settings.get("adaptation", GRADIENT_STEPS)
    return unit


def adaptation_table(evaluation: dict[str, Any]) -> Table:
    """The adaptation curve as a table: a row per number of gradient steps, or for some if there are many.

    Below them are the optimum of an episode, where it is known, and the total of a trial, for a method that has trials.
    A column has what is best in each episode for one who does not know the task, where that is known.

    Args:
      evaluation: from :func:`metarl_jax.runs.evaluation.evaluate`; with ``checkpoint``, ``num_iterations`` and
        ``stopped_early_at``, the title says of which iteration it is, if that is not the last, and where it ended.
    """
    settings = evaluation["settings"]
    both = (evaluation, evaluation["random_initialisation"])
    dropped = sum(summary.get("episodes_dropped", 0) for summary in both)
    left_out = f"; {dropped} episodes in which the environment failed are left out" if dropped else ""
    episodes = amount(settings["episodes_per_task"], "episode")
    table = Table(
        title=f"Return on {tasks_in_words(settings)}, {episodes} each{iteration_in_words(evaluation)}",
        caption=f"mean [95 % bootstrap interval over tasks]{left_out}",
    )
    has_successes = "success_rate" in evaluation
    heads = [settings["adaptation"].replace(" ", "\n"), "meta-trained", "random\ninitialisation"]
    bayes = evaluation.get("bayes_optimum")
    heads += ["Bayes-\noptimal"] if bayes else []
    for head in [*heads, *(["success:\ntrained", "success:\nrandom"] if has_successes else [])]:
        table.add_column(head, justify="right")
    shown = milestones(evaluation["gradient_steps"][-1])
    rates = [[f"{summary['success_rate'][k]:.0%}" for k in shown] for summary in both] if has_successes else []
    below = [name for name in ("optimum", "total") if name in evaluation]
    means = [with_intervals(_rows(summary, shown, below)) for summary in both]
    best = [_bayes_column(bayes, shown, below)] if bayes else []
    for name, *cells in zip_longest([*map(str, shown), *below], *means, *best, *rates, fillvalue=""):
        if name in below:
            table.add_section()
        table.add_row(name, *cells)
    return table


def iteration_in_words(evaluation: dict[str, Any]) -> str:
    """Of which iteration an evaluation is, as the end of a title, if training goes farther or was to.

    Example:
      >>> iteration_in_words({"checkpoint": 6, "num_iterations": 100}), iteration_in_words({"checkpoint": 100})
      (', at iteration 6 of 100', '')
      >>> iteration_in_words({"checkpoint": 6, "num_iterations": 100, "stopped_early_at": 6})
      ', at iteration 6 of 100, where patience ended training'
    """
    reached = evaluation.get("checkpoint", 0)
    planned = evaluation.get("num_iterations", reached)
    if reached >= planned:
        return ""
    early = evaluation.get("stopped_early_at")
    where = "" if early is None else f", {'where' if early == reached else f'at {early}'} patience ended training"
    return f", at iteration {reached} of {planned}{where}"


def _rows(summary: dict[str, Any], shown: Sequence[int], below: Sequence[str]) -> list[list[float]]:
    """Means with the ends of their intervals, and what stands below them: no number where it has none."""
    rows = [[summary[name][k] for name in _INTERVAL] for k in shown]
    alone = {"optimum": [summary["optimum"]] if "optimum" in summary else []}
    return rows + [alone[name] if name in alone else [summary[name][part] for part in _INTERVAL] for name in below]


def _bayes_column(best: Sequence[float], shown: Sequence[int], below: Sequence[str]) -> list[str]:
    """What is best without knowing the task, of the episodes that are shown and of the whole trial."""
    return with_intervals([*([best[k]] for k in shown), *([sum(best)] if name == "total" else [] for name in below)])


def with_intervals(rows: Sequence[Sequence[float]]) -> list[str]:
    r"""Cells of a column of means with their intervals, each number below its like; escaped for rich.

    Args:
      rows: mean, low and high, or the mean alone, or nothing.

    Example:
      >>> with_intervals([[-40.5, -42.0, -38.0], [-5.25, -6.0, -4.5]])
      ['-40.50 \\[-42.00, -38.00]', ' -5.25 \\[ -6.00,  -4.50]']
    """
    places = decimals(*(value for row in rows for value in row))
    cells = [[number(value, places) for value in row] for row in rows]
    mean, low, high = ([max(map(len, part)) for part in zip_longest(*cells, fillvalue="")] + [0, 0])[:3]

    def text(middle: str = "", *ends: str) -> str:
        if ends:
            return f"{middle:>{mean}} \\[{ends[0]:>{low}}, {ends[1]:>{high}}]"
        return f"{middle:>{mean}}" + " " * (low + high + 5 if low else 0)

    return [text(*row) for row in cells]


def gradients_table(result: dict[str, Any]) -> Table:
    """Bias and spread of each estimator as a table.

    Args:
      result: from :func:`metarl_jax.diagnostics.gradient_check.check_gradients`.
    """
    process = result["process"]
    table = Table(
        title=f"Estimators on an enumerable process: {process['states']} states, {process['actions']} actions, "
        f"{process['horizon']} steps",
        caption="relative to the exact Hessian and meta-gradient; spread: standard deviation; "
        f"meta-gradients from {result['repeats']} repeats, alpha {result['inner_lr']:g}",
    )
    table.add_column("estimator")
    for head in ("episodes", "Hessian:\nbias", "\nspread", "meta-gradient:\nbias", "\nspread"):
        table.add_column(head, justify="right")
    for name, row in result["estimators"].items():
        bias = f"{row['hessian_bias']:.1e}" if 0 < row["hessian_bias"] < 1e-3 else f"{row['hessian_bias']:.3f}"
        spreads = row["hessian_spread"], row["meta_gradient_bias"], row["meta_gradient_spread"]
        for i, (size, hessian, meta, spread) in enumerate(zip(result["sample_sizes"], *spreads, strict=True)):
            first = ("", "") if i else (name, bias)
            table.add_row(first[0], str(size), first[1], f"{hessian:.2f}", f"{meta:.3f}", f"{spread:.2f}")
        table.add_section()
    return table


def plan_table(result: dict[str, Any], name: str) -> Table:
    """A plan as a table: what an update needs and costs on each device.

    Args:
      result: from :func:`metarl_jax.plan.estimate.plan`.
      name: of the config.

    Returns:
      A rich table.
    """
    devices, tasks = amount(result["devices"], "device"), amount(result["meta_batch_size"], "task")
    title = escape(f"{name} on {result['target']}: {tasks} on {devices}")
    if not result["compiles"]:
        return Table(title=title, caption=escape(f"does not compile: {result['why']}"))
    estimate = "estimate: the longest of products, other operations and kernels; --json names its assumptions"
    table = Table(title=title, caption=escape("\n".join([*_verdicts(result), estimate])))
    table.add_column("on each device")
    table.add_column("", justify="right")
    for rows in (_memory_rows(result), _work_rows(result), _time_rows(result)):
        for row in rows:
            table.add_row(*row)
        table.add_section()
    return table


def _verdicts(result: dict[str, Any]) -> Iterator[str]:
    memory, evaluation = result["memory"], result.get("evaluation")
    what = "it" if evaluation is None else "an update"
    yield f"{what} fits" if memory["fits"] else f"{what} does not fit: {memory['remedy']}"
    if evaluation is None:
        return
    if not evaluation["compiles"]:
        yield f"an evaluation does not compile: {evaluation['why']}"
    elif "fits" in evaluation:
        yield "an evaluation fits" if evaluation["fits"] else f"an evaluation does not fit: {evaluation['remedy']}"


def _memory_rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in result["settings"].items():
        yield f"algorithm.{key}, as chosen", str(value)
    for part, words in _MEMORY.items():
        if result["memory"].get(part) is not None:
            yield words, in_words(result["memory"][part])
    if "memory" in result.get("evaluation", {}):
        yield "memory of an evaluation, with the training state", in_words(result["evaluation"]["memory"]["total"])
    yield "largest meta-batch that fits, about", f"{result['largest_meta_batch']:,}"
    if result["compiled_meta_batch"] is not None:
        yield "meta-batch that was compiled, too, and fits", f"{result['compiled_meta_batch']:,}"


def _work_rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    kernels, operations = result["kernels"], result["operations"]
    if kernels["per_environment_step"] is not None:
        yield "kernels per environment step, of all episodes", f"{kernels['per_environment_step']:,.0f}"
    yield "kernels per update", f"{kernels['per_update']:,.0f}"
    yield "GFLOP per update: products", _shown(operations["products"] / 1e9)
    yield "GFLOP per update: other operations", _shown(operations["others"] / 1e9)
    yield "GB moved per update", _shown(result["bytes"] / 1e9)


def _time_rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for part, words in _SECONDS.items():
        yield words, _shown(1e3 * result["seconds"][part])
    yield "s that compilation took here", f"{result['compile_seconds']:.0f}"


def _shown(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.2g}"


_MEMORY = {
    "arguments": "memory: training state",
    "kept": "memory: replay, in the training state",
    "results": "memory: the next state, metrics",
    "temporary": "memory: temporary",
    "trajectories": "memory: trajectories, in the temporary",
    "code": "memory: program",
    "total": "memory of an update",
    "process": "memory of the process besides",
    "usable": "memory that can be used",
}
_SECONDS = {
    "products": "ms for products",
    "other_operations": "ms for other operations",
    "memory": "ms for what is moved",
    "launches": "ms for launches",
    "kernels": "ms for kernels, each what it moves or its launch",
    "per_update": "ms per update, estimated",
}


def print_table(table: Table) -> None:
    """Print a table no wider than the terminal, in ASCII: no cell is broken, but the last columns may be left out.

    Columns therefore stand in the order of their importance. In a file there is room for all.

    Args:
      table: its title goes above it, after an empty line, and its caption below it, as text.
    """
    width = columns(sys.stdout)
    body, left_out = _fitted(table, width)
    print()
    _print_text(table.title, width, "bold")
    if body.columns:
        Console(width=_WIDE, highlight=False).print(body)
    _print_text(table.caption, width)
    if left_out:
        _print_text(escape(f"not shown, for want of room in {width} columns: {', '.join(left_out)}"), width)


def _fitted(table: Table, width: int | None) -> tuple[Table, list[str]]:
    """The body of a table, of rules and whole cells, and the names of the columns that do not fit."""
    body, left_out = copy(table), list[str]()
    body.columns = [replace(column, no_wrap=True) for column in table.columns]
    body.title = body.caption = body.width = None
    body.box, body.show_edge, body.pad_edge, body.collapse_padding = _RULES, False, False, True
    while width is not None and len(body.columns) > 2 and Console(width=_WIDE).measure(body).maximum > width:
        left_out.insert(0, " ".join(str(body.columns.pop().header).split()))
    return body, left_out


def _print_text(marked: TextType | None, width: int | None, style: str = "") -> None:
    """Print what stands above or below a table, as rich marks it."""
    if marked is not None:
        plain = marked.plain if isinstance(marked, Text) else Text.from_markup(marked).plain
        Console(highlight=False).print(wrap(plain, width), style=style, markup=False, soft_wrap=True)
