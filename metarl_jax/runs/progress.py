"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from metarl_jax.tracking.glossary import read

_SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def progress(iterations: Sequence[int], console: Console) -> Iterator[Callable[[int, dict[str, Any]], None]]:
    """A progress bar on a terminal, a line every half minute elsewhere.

    Args:
      iterations: of each run, when it is finished.
      console: where to show it.

    Yields:
      What takes the number of a run and the row of each of its updates, as in ``metrics.jsonl``.
    """
    if not console.is_terminal:
        yield _line_reporter(iterations)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    reached = [0] * len(iterations)
    with Progress(*columns, console=console, speed_estimate_period=3600) as bar:
        task = bar.add_task("training", total=sum(iterations), numbers="compiling")

        def report(run: int, row: dict[str, Any]) -> None:
            reached[run] = row["iteration"]
            if read(row, "evaluation_seconds") is not None:
                bar.console.print(f"{_place(iterations, run, row)}  {_evaluation(row)}", highlight=False)
            bar.update(task, completed=sum(reached), numbers=_numbers(row))

        yield report


def _line_reporter(iterations: Sequence[int]) -> Callable[[int, dict[str, Any]], None]:
    last: float | None = None
    reached = [0] * len(iterations)

    def report(run: int, row: dict[str, Any]) -> None:
        nonlocal last
        reached[run] = row["iteration"]
        if read(row, "evaluation_seconds") is not None:
            print(f"{_place(iterations, run, row)}  {_evaluation(row)}", file=sys.stderr, flush=True)
        now, remaining = time.monotonic(), sum(iterations) - sum(reached)
        if last is None or now - last >= _SECONDS_BETWEEN_LINES or remaining == 0:
            last = now
            line = f"{_place(iterations, run, row)}  {_numbers(row)}"
            left = timedelta(seconds=round(remaining * row["iteration_seconds"]))
            # The first call's time includes compilation and says nothing about the rest.
            is_plain = row["iteration"] <= 1 or remaining == 0
            print(line if is_plain else f"{line}  {left} left", file=sys.stderr, flush=True)

    return report


def _place(iterations: Sequence[int], run: int, row: dict[str, Any]) -> str:
    name = "" if len(iterations) == 1 else f"run {run + 1}/{len(iterations)}, "
    return f"{name}iteration {row['iteration']}/{iterations[run]}"


def _numbers(row: dict[str, Any]) -> str:
    returns = f"return {_show(row['return_pre'])} -> {_show(row['return_post'])}"
    return f"{returns}  {row['env_steps_per_second']:,.0f} steps/s"


def _evaluation(row: dict[str, Any]) -> str:
    names = [name for name in ("evaluation", "validation") if f"{name}_return_post" in row]
    parts = [(name, row[f"{name}_return_per_stage"]) for name in names]
    return "  ".join(f"{name} {_show(returns[0])} -> {_show(returns[-1])}" for name, returns in parts)


def _show(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2f}"
