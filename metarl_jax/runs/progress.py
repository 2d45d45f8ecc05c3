"""How far a run is: a bar on a terminal, lines elsewhere."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from metarl_jax.tracking.glossary import read

_BAR = 12  # characters, so that the rest fits beside it in 80 columns


@contextmanager
def progress(
    iterations: Sequence[int], console: Console, print_every: int
) -> Iterator[Callable[[int, dict[str, Any]], None]]:
    """A progress bar on a terminal; elsewhere a line now and then, the first for the first update.

    Args:
      iterations: of each run, when it is finished.
      console: where to show it.
      print_every: updates from line to line; times the number of runs, whose updates are counted together.

    Yields:
      What takes the number of a run and the row of each of its updates, as in ``metrics.jsonl``.
    """
    if not console.is_terminal:
        yield _line_reporter(iterations, print_every * len(iterations))
        return
    columns = (
        BarColumn(_BAR),
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


def _line_reporter(iterations: Sequence[int], every: int) -> Callable[[int, dict[str, Any]], None]:
    reached = [0] * len(iterations)
    first_seconds: float | None = None

    def report(run: int, row: dict[str, Any]) -> None:
        nonlocal first_seconds
        reached[run] = row["iteration"]
        if read(row, "evaluation_seconds") is not None:
            print(f"{_place(iterations, run, row)}  {_evaluation(row)}", file=sys.stderr, flush=True)
        done, remaining = sum(reached), sum(iterations) - sum(reached)
        if first_seconds is None or done % every == 0 or remaining == 0:
            line = f"{_place(iterations, run, row)}  {_numbers(row)}"
            left = timedelta(seconds=round(remaining * row["iteration_seconds"]))
            # The first visit's time, which its updates share, includes compilation and says nothing about the rest.
            first_seconds = row["iteration_seconds"] if first_seconds is None else first_seconds
            is_plain = row["iteration_seconds"] == first_seconds or remaining == 0
            print(line if is_plain else f"{line}  {left} left", file=sys.stderr, flush=True)

    return report


def _place(iterations: Sequence[int], run: int, row: dict[str, Any]) -> str:
    name, of = "" if len(iterations) == 1 else f"run {run + 1}/{len(iterations)}, ", iterations[run]
    return f"{name}iteration {row['iteration']:>{len(str(of))}}/{of}"


def _numbers(row: dict[str, Any]) -> str:
    returns = f"return {_show(row['return_pre'])} -> {_show(row['return_post'])}"
    return f"{returns}  {row['env_steps_per_second']:,.0f} steps/s"


def _evaluation(row: dict[str, Any]) -> str:
    names = [name for name in ("evaluation", "validation") if f"{name}_return_post" in row]
    parts = [(name, row[f"{name}_return_per_stage"]) for name in names]
    return "  ".join(f"{name} {_show(returns[0])} -> {_show(returns[-1])}" for name, returns in parts)


def _show(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
