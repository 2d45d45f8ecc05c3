"""The memory of ever more inner steps, stored and recomputed, planned for hardware that is not here."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from metarl_jax.config import load_config
from metarl_jax.runs.memory import in_words
from metarl_jax.studies.plan import compiled_by, planned
from metarl_jax.studies.results import RESULTS, markdown, one_by_one, table, to_measure

CASES: dict[str, tuple[int, bool]] = {
    f"{steps} inner, {'recomputed' if remat else 'stored'}": (steps, remat)
    for remat in (False, True)
    for steps in (1, 2, 5, 10)
}
"""The number of inner steps and whether they are recomputed, by the name of the row."""
_CONFIG, _TASKS, _TARGET = "promp_navigation_corner", 400, "h100"


def overrides(steps: int | str, remat: bool) -> list[str]:
    """What a case changes in the config.

    Example:
      >>> overrides(2, True)[1:]
      ['algorithm.num_inner_steps=2', 'algorithm.remat=true']
    """
    settings = f"algorithm.num_inner_steps={steps}", f"algorithm.remat={str(remat).lower()}"
    return [f"training.meta_batch_size={_TASKS}", *settings]


def study(
    cases: Iterable[str] = tuple(CASES), file: Path = RESULTS / "plan_remat.json", again: bool = False
) -> dict[str, Any]:
    """Plan each case; write numbers and page.

    Args:
      cases: of :data:`CASES`; what was planned of others is kept.
      file: of the numbers, a ``.json``; the page lies beside it.
      again: plan also what the results have.

    Returns:
      By case, what :func:`metarl_jax.studies.plan.planned` says.
    """
    return one_by_one(file, to_measure(file, cases, again), CASES, measure, page)


def measure(case: str) -> dict[str, Any]:
    """Plan one case, all tasks at once.

    Args:
      case: of :data:`CASES`.

    Returns:
      The plan.
    """
    return planned(load_config(_CONFIG, overrides(*CASES[case])), _TARGET)


def beyond(result: dict[str, Any]) -> int:
    """Bytes that an update needs for a time besides the stored trajectories.

    Example:
      >>> beyond({"memory": {"temporary": 5, "trajectories": 2}})
      3
    """
    memory: dict[str, int] = result["memory"]
    return memory["temporary"] - memory["trajectories"]


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each case."""
    command = " ".join(["metarl plan", _CONFIG, *overrides("K", True), f"--target {_TARGET}"])
    return markdown(
        f"# {name}",
        "Memory of an update with K inner steps, whose intermediate results are stored or, with `algorithm.remat`, "
        f"recomputed when differentiating; all tasks at once. Planned by `benchmarks/plan.py --remat`, as `{command}` "
        "does. Growth is that of the temporary memory less the stored trajectories since K = 1; the time is estimated.",
        compiled_by(results.values()),
        table(
            ["inner steps", "K", "total", "trajectories", "temporary less trajectories", "growth", "ms per update"],
            [_row(case, results) for case in results],
        ),
    )


def _row(case: str, results: dict[str, Any]) -> list[str | None]:
    (steps, remat), result = CASES[case], results[case]
    memory, first = result["memory"], results.get(_first(remat))
    return [
        "recomputed" if remat else "stored",
        str(steps),
        in_words(memory["total"]),
        in_words(memory["trajectories"]),
        in_words(beyond(result)),
        None if first is None else f"{beyond(result) / beyond(first) - 1:+.0%}",
        f"{1e3 * result['seconds']['per_update']:,.1f}",
    ]


def _first(remat: bool) -> str:
    return next(case for case, settings in CASES.items() if settings == (1, remat))
