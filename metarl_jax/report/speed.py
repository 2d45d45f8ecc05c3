"""How fast a config trains here, as tables and as a picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table

from metarl_jax.report.curves import tidy
from metarl_jax.report.text import amount
from metarl_jax.runs.memory import in_words

_INDENTED = ("physics", "policy")  # of the rollout
_NOISE = "~"
_SHORT = 0.1  # seconds
_PARTS = {
    "physics": "#0b6e99",
    "policy": "#5fb0d3",
    "advantages": "#9bc53d",
    "inner": "#f2a541",
    "outer": "#d1495b",
}
_OF_PEAK = {
    "products": "GFLOP / s: products",
    "other_operations": "GFLOP / s: other operations",
    "bytes": "GB / s moved",
}


def benchmark_table(result: dict[str, Any]) -> Table:
    """The numbers of a benchmark as a table.

    Args:
      result: from :func:`metarl_jax.diagnostics.benchmark.benchmark`.

    Returns:
      A table; what a part takes has a ``~`` where it is within noise.
    """
    adaptation = result["adaptation"]
    what = f"{amount(result['meta_batch_size'], 'task')}, {amount(adaptation['trained'], adaptation['unit'])}"
    timed = amount(result["iterations"], "iteration")
    table = Table(
        title=escape(f"{result['config']} on {result['hardware']['device']}: {what} ({timed})"),
        caption=f"{_NOISE} within noise; adaptations: without outer steps",
    )
    table.add_column("per meta-iteration")
    table.add_column("seconds", justify="right")
    table.add_column("CPU seconds", justify="right")
    places = 4 if result["per_iteration"]["total"]["seconds"] >= _SHORT else 6
    for name, part in result["per_iteration"].items():
        mark = _NOISE if part.get("within_noise") else ""
        row = f"{mark}{part['seconds']:.{places}f}", f"{part['cpu_seconds']:.{places}f}"
        table.add_row(f"  {name}" if name in _INDENTED else name, *row)
    for rows in (_rates(result), _derivatives(result), _achieved(result), _cost(result)):
        table.add_section()
        for name, value in rows:
            table.add_row(name, value, "")
    return table


def _rates(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "meta-iterations per second", _number(result["meta_iterations_per_second"])
    if result["adaptations_per_second"] is not None:
        yield "adaptations per second", _number(result["adaptations_per_second"])
    yield "env steps per second", f"{result['env_steps_per_second']:,.0f}"
    yield "computed env steps per second", f"{result['computed_env_steps_per_second']:,.0f}"
    yield "efficiency: physics / total", f"{result['efficiency']:.0%}"


def _derivatives(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    taken = result["derivatives"] or {}
    if taken:
        yield "Hessian-vector product / gradient", f"{taken['hvp_over_gradient']:.2f}"
    if "second_over_first_order" in taken:
        yield "second- / first-order meta-gradient", f"{taken['second_over_first_order']:.2f}"


def _achieved(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    achieved = result["achieved"]
    for part, words in _OF_PEAK.items():
        share = f" ({achieved['of_peak'][part]:.1%} of peak)" if "of_peak" in achieved else ""
        yield words, _number(achieved["per_second"][part] / 1e9) + share


def _cost(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "tracing and lowering, seconds", f"{result['lower_seconds']:.1f}"
    yield "compilation, seconds", f"{result['compile_seconds']:.1f}"
    yield "temporary memory", in_words(result["temporary_bytes"])
    yield "peak memory", in_words(result["peak_bytes"])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def sweep_table(result: dict[str, Any]) -> Table:
    """Throughput by the amount of adaptation and the size of the meta-batch as a table.

    Args:
      result: of a benchmark with its ``sweep``.

    Returns:
      A table, in which the highest throughput of each amount has a star.
    """
    sweep = result["sweep"]
    ended = "until throughput is flat" if sweep["is_complete"] else "cut short: time was up, or others held the memory"
    refusals = dict.fromkeys(f"refused: {point['refused']}" for point in sweep["points"] if "refused" in point)
    caption = "\n".join(["* most env steps per second; efficiency: physics / total", ended, *map(escape, refusals)])
    table = Table(title=escape(f"{result['config']}: larger meta-batches"), caption=caption)
    if not sweep["points"]:
        return table
    unit = sweep["unit"].replace(" ", "\n")
    for name in (
        f"{unit}s",
        "tasks",
        "updates\n/ s",
        "adaptations\n/ s",
        "env steps\n/ s",
        "efficiency",
        "memory",
    ):
        table.add_column(name, justify="right")
    for units, points in by_units(sweep).items():
        best = max((point.get("env_steps_per_second", 0.0) for point in points), default=0.0)
        for point in points:
            table.add_row(str(units), str(point["meta_batch_size"]), *_cells(point, best))
        table.add_section()
    return table


def by_units(sweep: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """The points of a sweep by their amount of adaptation.

    Example:
      >>> by_units({"points": [{"units": 1}, {"units": 5}]})
      {1: [{'units': 1}], 5: [{'units': 5}]}
    """
    points = sweep["points"]
    amounts = dict.fromkeys(point["units"] for point in points)
    return {units: [point for point in points if point["units"] == units] for units in amounts}


def _cells(point: dict[str, Any], best: float) -> list[str]:
    if "refused" in point:
        return ["refused"]
    steps = point["env_steps_per_second"]
    return [
        _number(point["meta_iterations_per_second"]),
        _number(point["adaptations_per_second"]),
        f"{'*' if steps == best else ''}{steps:,.0f}",
        f"{point['efficiency']:.0%}",
        "" if point["memory_bytes"] is None else in_words(point["memory_bytes"]),
    ]


def plot_benchmark(result: dict[str, Any], path: Path) -> None:
    """Save a picture: what a meta-iteration is spent on and, of a sweep, throughput against tasks.

    Args:
      result: of a benchmark, with or without its ``sweep``.
      path: a ``.png``.
    """
    sweep = result.get("sweep")
    figure = Figure(figsize=(10.0 if sweep else 5.0, 3.75), layout="constrained")
    axes = figure.subplots(1, 2 if sweep else 1, squeeze=False).ravel()
    _draw_parts(axes[0], result)
    if sweep:
        _draw_sweep(axes[1], sweep)
    figure.suptitle(f"{result['config']} on {result['hardware']['device']}", fontsize=10)
    figure.savefig(path, dpi=150)


def _draw_parts(axes: Axes, result: dict[str, Any]) -> None:
    parts = {name: result["per_iteration"][name] for name in _PARTS if name in result["per_iteration"]}
    seconds, noise = ([part[key] for part in parts.values()] for key in ("seconds", "noise_seconds"))
    axes.barh(list(parts), seconds, xerr=noise, color=[_PARTS[name] for name in parts])
    axes.invert_yaxis()
    axes.set(title=f"one meta-iteration of {result['meta_batch_size']} tasks", xlabel="seconds")
    tidy(axes)


def _draw_sweep(axes: Axes, sweep: dict[str, Any]) -> None:
    for units, points in by_units(sweep).items():
        timed = [point for point in points if "refused" not in point]
        sizes, rates = ([point[key] for point in timed] for key in ("meta_batch_size", "env_steps_per_second"))
        axes.loglog(sizes, rates, marker="o", label=amount(units, sweep["unit"]))
    axes.set(title="throughput", xlabel="tasks per meta-batch", ylabel="environment steps per second")
    tidy(axes)
    if sweep["points"]:
        axes.legend(frameon=False, fontsize=8)
