"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def progress(num_iterations: int, console: Console) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A progress bar on a terminal, a line every half minute elsewhere.

    Args:
      num_iterations: when the run is finished.
      console: where to show it.

    Yields:
      What takes the row of every update, as in ``metrics.jsonl``.
    """
    if not console.is_terminal:
        yield _line_reporter(num_iterations)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=3600) as bar:
        task = bar.add_task("training", total=num_iterations, numbers="compiling")
        yield lambda row: bar.update(task, completed=row["iteration"], numbers=_numbers(row))


def _line_reporter(num_iterations: int) -> Callable[[dict[str, Any]], None]:
    last: float | None = None

    def report(row: dict[str, Any]) -> None:
        nonlocal last
        now, remaining = time.monotonic(), num_iterations - row["iteration"]
        if last is None or now - last >= _SECONDS_BETWEEN_LINES or remaining == 0:
            last = now
            left = timedelta(seconds=round(remaining * row["iteration_seconds"]))
            line = f"iteration {row['iteration']}/{num_iterations}  {_numbers(row)}"
            # The first call's time includes compilation and says nothing about the rest.
            print(
                line if row["iteration"] <= 1 or remaining == 0 else f"{line}  {left} left", file=sys.stderr, flush=True
            )

    return report


def _numbers(row: dict[str, Any]) -> str:
    def show(value: float | None) -> str:
        return "not finite" if value is None else f"{value:.2f}"

    return f"return {show(row['return_pre'])} -> {show(row['return_post'])}  {row['env_steps_per_second']:,.0f} steps/s"
