"""A study's results: the numbers as JSON, and beside them a page made of these numbers alone."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from metarl_jax.checks import require

RUNS = Path("runs/benchmarks")
RESULTS = Path("benchmarks/results")
Page = Callable[[str, dict[str, Any]], str]
"""``(name, result) -> Markdown``: from the name of the results and what the study returned, the text."""


def read(file: Path) -> dict[str, Any]:
    """The numbers of a study that has been run.

    Args:
      file: a ``.json``.

    Returns:
      What the study returned.

    Raises:
      Refusal: if there is no such file.
    """
    require(file.exists(), "results", str(file), "does not exist; run the study first")
    result: dict[str, Any] = json.loads(file.read_text())
    return result


def write(file: Path, result: dict[str, Any], page: Page) -> None:
    """Write the numbers and, beside them as ``.md``, their page.

    Args:
      file: a ``.json``; its stem is the name of the results.
      result: a JSON object.
      page: makes the text.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    file.with_suffix(".md").write_text(page(file.stem, result))


def to_measure(file: Path, names: Iterable[str], again: bool) -> list[str]:
    """What of some names a study that may have been interrupted is to measure.

    Args:
      file: of its results, a ``.json``.
      names: what was asked for.
      again: also what the results have.
    """
    known = read(file) if file.exists() and not again else {}
    return [name for name in names if name not in known]


def one_by_one(
    file: Path,
    names: Iterable[str],
    order: Iterable[str],
    measure: Callable[[str], dict[str, Any]],
    page: Page,
    report: Callable[[str, dict[str, Any]], object] = lambda name, measured: None,
) -> dict[str, Any]:
    """Measure one thing after another and write after each; what was measured before and is not named is kept.

    Args:
      file: a ``.json``.
      names: what to measure now.
      order: everything that the results may hold, as the page lists it.
      measure: one of them.
      page: makes the text.
      report: told about each.

    Returns:
      All that the results hold now, by name.
    """
    order = list(order)
    results = read(file) if file.exists() else {}
    for name in names:
        results[name] = measure(name)
        results = {key: results[key] for key in order if key in results}
        write(file, results, page)
        report(name, results[name])
    return results


def from_command_line(
    description: str | None,
    name: str,
    cases: Iterable[str],
    measure: Callable[..., dict[str, Any]],
    page: Page,
    option: str,
    default: int,
    meaning: str = "of which the median is taken",
) -> None:
    """The front of a study that measures cases: ``--cases``, and an option that is a number.

    Args:
      description: of the script.
      name: of the results.
      cases: all that there are.
      measure: one of them, the option by keyword.
      page: makes the text.
      option: its name.
      default: of it.
      meaning: of it.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(cases), choices=list(cases), metavar="CASE")
    parser.add_argument(f"--{option}", type=int, default=default, help=meaning)
    given = vars(parser.parse_args())
    chosen = given.pop("cases")
    report = partial(print, flush=True)
    one_by_one(RESULTS / f"{name}.json", chosen, cases, partial(measure, **given), page, report)


def markdown(*blocks: str) -> str:
    """A page of blocks: a title, paragraphs, tables.

    Example:
      >>> print(markdown("# title", "text"), end="")
      # title
      <BLANKLINE>
      text
    """
    return "\n\n".join(blocks) + "\n"


def table(head: Sequence[str | None], rows: Iterable[Sequence[str | None]]) -> str:
    """A Markdown table.

    Args:
      head: of each column.
      rows: their cells; None where a column does not concern the row.

    Returns:
      Its lines.

    Example:
      >>> print(table([None, "steps"], [["random", "5"], ["oracle", None]]))
      | | steps |
      |---|---|
      | random | 5 |
      | oracle | |
    """
    return "\n".join([_row(head), "|---" * len(head) + "|", *map(_row, rows)])


def _row(cells: Sequence[str | None]) -> str:
    return "|" + "|".join(" " if cell is None else f" {cell} " for cell in cells) + "|"


def configured(config: str, overrides: Sequence[str]) -> str:
    """The config and what was changed in it, for a page.

    Example:
      >>> configured("a.yaml", ["seed=2"])
      '`a.yaml` with `seed=2`'
    """
    return f"`{config}`" + (f" with `{' '.join(overrides)}`" if overrides else "")
