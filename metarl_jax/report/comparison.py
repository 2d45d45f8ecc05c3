"""A comparison of methods: tables on the terminal, CSV, LaTeX, a picture."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich import box
from rich.markup import escape
from rich.table import Table

from metarl_jax.report.curves import BAYES_OPTIMAL, OPTIMUM, RANDOM, tidy
from metarl_jax.report.tables import milestones, tasks_in_words
from metarl_jax.runs.memory import in_words

_LATEX = {"\\": r"\textbackslash{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"}, "~": r"\textasciitilde{}"}
_BILLION = 1e9
BAYES_OPTIMAL_MEAN = "Bayes-optimal, mean"
_MARGIN = 0.2  # around the lines of a picture, of their range

_Result = Mapping[str, Any]
"""Of :func:`metarl_jax.studies.compare.comparison.compare`."""


def tables(result: _Result) -> list[Table]:
    """All of a comparison as tables that fit 80 columns: effect, cost, stability, reach, pairs.

    Args:
      result: of :func:`metarl_jax.studies.compare.comparison.compare`.
    """
    return [
        *(_effect_table(result, distribution) for distribution in result["references"]),
        *([_cost_table(result)] if any(method["cost"] for method in result["methods"].values()) else []),
        _stability_table(result),
        *([_settings_table(result)] if any(_studied(result).values()) else []),
        _reach_table(result),
        *([_pairs_table(result)] if len(result["methods"]) > 1 else []),
    ]


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None) -> Table:
    table = Table(title=title, caption=caption, box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _where(result: _Result, distribution: str) -> str:
    return tasks_in_words({**result["settings"], "distribution": distribution})


def _effect_table(result: _Result, distribution: str) -> Table:
    reference = result["references"][distribution]
    known = {"random policy": reference["random"], f"{reference['oracle_is']}": reference["oracle"]}
    ends = [f"{name} {_fixed([value])[0]}" for name, value in known.items() if value is not None]
    scale = " (normalised: 0 and 1)" if len(ends) > 1 else ""
    return _table(
        f"Return on {_where(result, distribution)}",
        ["method", "units", "episodes", "IQM [95 %]", "normalised"],
        _effect_rows(result, distribution),
        f"interquartile mean over seeds and tasks at {result['env_steps']:,} environment steps\n"
        f"episodes: of the new task, before these\n{', '.join(ends)}{scale}",
    )


def _effect_rows(result: _Result, distribution: str) -> Iterator[list[str]]:
    for name, method in result["methods"].items():
        effect, scale = method["effect"][distribution], method["effect"][distribution]["normalised"]
        for i, unit in enumerate(milestones(effect["units"][-1])):
            ends = _bracketed(effect["iqm"][unit], effect["low"][unit], effect["high"][unit])
            share = "" if scale is None else f"{scale['iqm'][unit]:.3f}"
            yield [name if i == 0 else "", str(unit), str(effect["episodes"][unit]), ends, share]
    best = result["references"][distribution].get("bayes_optimum", [])
    for unit in milestones(len(best) - 1) if best else []:
        yield ["" if unit else BAYES_OPTIMAL_MEAN, str(unit), str(unit), _fixed([best[unit]])[0], ""]


def _cost_table(result: _Result) -> Table:
    costs = {name: method["cost"] for name, method in result["methods"].items() if method["cost"] is not None}
    device = next(iter(costs.values()))["device"]
    return _table(
        "Cost of a million environment steps",
        ["method", "seconds", "GFLOP", "memory"],
        ([name, *_cost_cells(cost)] for name, cost in costs.items()),
        f"on one device ({device}; of a CPU, its seconds in all threads); memory of an update",
    )


def _cost_cells(cost: _Result) -> list[str]:
    memory = "" if cost["memory_bytes"] is None else in_words(cost["memory_bytes"])
    return [f"{cost['seconds']:.3g}", f"{cost['flops'] / _BILLION:.3g}", memory]


def _reach_table(result: _Result) -> Table:
    return _table(
        "What a method was used for, and what it asks for",
        ["method", "adapts by", "actions", "observes", "memory", "2nd order"],
        ([name, *_reach_cells(method)] for name, method in result["methods"].items()),
        "2nd order: training differentiates through gradient steps",
    )


def _reach_cells(method: _Result) -> list[str]:
    reach = method["reach"]
    answers = ["yes" if reach[name] else "no" for name in ("memory", "second_derivatives")]
    unit = "sees its task" if reach["sees_task"] else method["adaptation"]["unit"]
    return [unit, reach["actions"], reach["observations"], *answers]


def _stability_table(result: _Result) -> Table:
    return _table(
        "Stability: mean return after all adaptation, and what went wrong in training",
        ["method", "seeds", "spread", "worst seed", "skipped", "dropped"],
        (_stability_row(name, method) for name, method in result["methods"].items()),
        "spread: standard deviation of the seeds' means; skipped updates, dropped episodes",
    )


def _stability_row(name: str, method: _Result) -> list[str]:
    found = method["stability"]
    (worst,) = _fixed([found["worst"]])
    spread = "" if found["spread"] is None else f"{found['spread']:.3g}"
    shares = [f"{found[share]:.1%}" for share in ("skipped", "dropped")]
    return [name, str(len(method["runs"])), spread, f"{worst} (seed {found['worst_seed']})", *shares]


def _studied(result: _Result) -> dict[str, Any]:
    """How sensitive each method is to its settings; None of one that is from no study."""
    return {name: method["stability"]["sensitivity"] for name, method in result["methods"].items()}


def _settings_table(result: _Result) -> Table:
    ends = ("highest", "median", "lowest")
    return _table(
        "Sensitivity: objective of the settings of a study",
        ["method", *ends, "failed"],
        (
            [name, *_fixed([study[end] for end in ends]), str(study["failed"])]
            for name, study in _studied(result).items()
            if study
        ),
    )


def _pairs_table(result: _Result) -> Table:
    names = list(result["methods"])
    chance = {(pair["of"], pair["over"]): pair["probability"] for pair in result["improvement"]["held_out"]}
    cells = {pair: f"{value:.2f}" for pair, value in chance.items()}
    rows = [[f"{i} {ours}", *(cells.get((ours, theirs), "") for theirs in names)] for i, ours in enumerate(names, 1)]
    return _table(
        "P(row better than column) on held-out tasks",
        ["", *(str(i) for i in range(1, len(names) + 1))],
        rows,
        "after all adaptation of each, over pairs of seeds",
    )


def _bracketed(value: float, low: float, high: float) -> str:
    middle, *ends = _fixed([value, low, high])
    return f"{middle} [{', '.join(ends)}]"


def _fixed(values: Sequence[float]) -> list[str]:
    """Numbers with as many digits as the largest of them needs to have four."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=1.0)
    digits = min(4, max(0, 3 - math.floor(math.log10(largest)))) if largest > 0 else 2
    return [f"{value:.{digits}f}" for value in values]


# Files.


def to_csv(result: _Result) -> str:
    """A row for each method, distribution and unit of adaptation, with what was measured of the method once."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("iqm", "low", "high")
    cost_keys, stability_keys = ("seconds", "flops", "memory_bytes"), ("spread", "worst", "skipped", "dropped")
    reach_keys = ("actions", "observations", "memory", "second_derivatives")
    head = ["method", "seeds", "distribution", "unit", "units", "episodes", *ends, *(f"normalised_{x}" for x in ends)]
    costs = ["seconds_per_million", "flops_per_million", "memory_bytes"]
    writer.writerow([*head, *costs, *stability_keys, *reach_keys])
    for name, method in result["methods"].items():
        once = [(method["cost"] or {}).get(key) for key in cost_keys]
        once += [
            method[part][key] for part, keys in (("stability", stability_keys), ("reach", reach_keys)) for key in keys
        ]
        for distribution, effect in method["effect"].items():
            scale = effect["normalised"] or {}
            for i, unit in enumerate(effect["units"]):
                place = [
                    name,
                    len(method["runs"]),
                    distribution,
                    method["adaptation"]["unit"],
                    unit,
                    effect["episodes"][i],
                ]
                normalised = [scale[end][i] if scale else None for end in ends]
                writer.writerow([*place, *(effect[end][i] for end in ends), *normalised, *once])
    return text.getvalue()


def pairs_csv(result: _Result) -> str:
    """A row for each pair of methods and each distribution: the probability of improvement and its interval."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["distribution", "of", "over", "probability", "low", "high"])
    for distribution, pairs in result["improvement"].items():
        writer.writerows([distribution, *pair.values()] for pair in pairs)
    return text.getvalue()


def to_latex(result: _Result) -> str:
    """A table for the package ``booktabs``: return before, after one unit and after all of it, and cost."""
    has_cost = any(method["cost"] for method in result["methods"].values())
    head = ["method", "episodes", "before", "after one", "after all", *(["s / M", "GFLOP / M"] if has_cost else [])]
    lines = [r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}", r"\toprule", " & ".join(head) + r" \\"]
    for distribution in result["references"]:
        lines += [r"\midrule", rf"\multicolumn{{{len(head)}}}{{l}}{{{_where(result, distribution)}}} \\"]
        for name, method in result["methods"].items():
            cells = [_latex(name), *_latex_cells(method["effect"][distribution])]
            cells += [f"${cell}$" for cell in _cost_cells(method["cost"])[:2]] if has_cost else []
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_cells(effect: _Result) -> list[str]:
    last = effect["units"][-1]
    shown = {0: 0, 1: min(1, last), 2: last}
    cells = [_bracketed(*(effect[end][unit] for end in ("iqm", "low", "high"))) for unit in shown.values()]
    return [str(effect["episodes"][-1]), *(f"${cell}$" if i <= last else "" for i, cell in enumerate(cells))]


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


def plot_comparison(result: _Result, path: Path) -> None:
    """Save a comparison as a picture: return against episodes of a new task, profiles, cost beside effect.

    Args:
      result: of :func:`metarl_jax.studies.compare.comparison.compare`.
      path: a ``.png``.
    """
    names = list(result["methods"])
    looks = dict(zip(names, _looks(), strict=False))
    costs = [name for name in names if result["methods"][name]["cost"] is not None]
    num_panels = len(result["references"]) + 1 + bool(costs)
    figure = Figure(figsize=(5.2 * min(2, num_panels), 3.7 * math.ceil(num_panels / 2) + 0.8), layout="constrained")
    panels = figure.subplots(math.ceil(num_panels / 2), min(2, num_panels), squeeze=False).ravel()
    following = iter(panels)
    for distribution in result["references"]:
        _draw_adaptation(next(following), result, distribution, looks)
    _draw_profile(next(following), result, looks)
    if costs:
        _draw_cost(next(following), result, costs, looks)
    for unused in following:
        unused.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False, fontsize=8)
    figure.suptitle(f"{result['tasks']}, {result['env_steps']:,} environment steps", fontsize=10)
    figure.savefig(path, dpi=130)


def _looks() -> Iterator[dict[str, Any]]:
    colours = cycle(colormaps["tab10"].colors)  # type: ignore[attr-defined]
    for style in cycle(("-", "--", ":")):
        for _ in range(10):
            yield {"color": next(colours), "linestyle": style}


def _draw_adaptation(axes: Axes, result: _Result, distribution: str, looks: Mapping[str, Any]) -> None:
    longest = 1
    for name, method in result["methods"].items():
        effect = method["effect"][distribution]
        if method["reach"]["sees_task"]:  # it has nothing to adapt to
            axes.axhline(effect["iqm"][0], label=name, **looks[name])
            continue
        longest = max(longest, effect["episodes"][-1])
        marks = milestones(effect["units"][-1])
        axes.plot(
            effect["episodes"], effect["iqm"], label=name, marker="o", markersize=4, markevery=marks, **looks[name]
        )
        axes.fill_between(
            effect["episodes"], effect["low"], effect["high"], color=looks[name]["color"], alpha=0.1, lw=0
        )
    reference = result["references"][distribution]
    axes.axhline(reference["random"], color=RANDOM, linewidth=1, linestyle="-.", label="random policy")
    if reference["oracle_is"] == "optimum":
        axes.axhline(reference["oracle"], color=OPTIMUM, linewidth=1, linestyle="--", label="optimum")
    if "bayes_optimum" in reference:
        axes.plot(reference["bayes_optimum"], label=BAYES_OPTIMAL_MEAN, **BAYES_OPTIMAL)
    axes.set_xscale("symlog", linthresh=1)
    ticks = [0, *(digit * 10**power for power in range(6) for digit in (1, 2, 5) if digit * 10**power <= longest)]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(-0.2, 1.2 * longest)
    axes.set_ylim(*_room([*axes.lines]))
    axes.set(title=_where(result, distribution), xlabel="episodes of the new task", ylabel="return, interquartile mean")
    tidy(axes)


def _room(lines: Sequence[Line2D]) -> tuple[float, float]:
    """Limits that show all lines; of intervals, which few seeds make as wide as they like, what is near these."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in lines])
    low, high = np.nanmin(values), np.nanmax(values)
    margin = _MARGIN * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _draw_profile(axes: Axes, result: _Result, looks: Mapping[str, Any]) -> None:
    profile = result["profiles"]["held_out"]
    for name, share in profile["share_above"].items():
        axes.step(profile["returns"], share, where="post", **looks[name])
    axes.set(title="after all adaptation", xlabel="return of a seed on a held-out task", ylabel="share above it")
    tidy(axes)


def _draw_cost(axes: Axes, result: _Result, names: Sequence[str], looks: Mapping[str, Any]) -> None:
    for name in names:
        method = result["methods"][name]
        effect, seconds = method["effect"]["held_out"], method["cost"]["seconds"]
        middle = effect["iqm"][-1]
        error = np.nan_to_num([[middle - effect["low"][-1]], [effect["high"][-1] - middle]])
        axes.errorbar(seconds, middle, error, marker="o", capsize=3, color=looks[name]["color"])
    axes.set(title="after all adaptation", xlabel="seconds per million environment steps", ylabel="return")
    axes.margins(x=0.2)
    tidy(axes)
