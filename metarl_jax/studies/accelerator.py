"""How fast adaptation is on an accelerator: a suite of methods and families, beside what was planned for an H100."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from metarl_jax.studies import commands, plan
from metarl_jax.studies.results import RESULTS, markdown, one_by_one, read, table

CASES = (
    "promp, navigation_corner",
    "promp, half_cheetah_direction",
    "promp, half_cheetah_direction, mjx",
    "promp, ant_direction, spring",
    "promp, ant_direction",
    "rl2, tabular_mdp",
    "promp, minatar_games",
)
"""Of :data:`metarl_jax.studies.plan.CASES`; where no engine is named, half-cheetah moves by spring and ant by mjx."""
PLANNED_FOR = "h100"


def study(
    cases: Iterable[str] = CASES,
    minutes: float = 25.0,
    measures: bool = True,
    file: Path = RESULTS / "accelerator.json",
    plans: Path = RESULTS / "plan.json",
    report: Callable[[str, dict[str, Any]], object] = lambda case, measured: None,
) -> dict[str, Any]:
    """Benchmark each case, with a sweep over meta-batch sizes and amounts of adaptation; write numbers and page.

    Args:
      cases: of :data:`CASES`; what was measured of others is kept.
      minutes: for all of them: each gets an equal share of what is left, after which its sweep begins no further point.
      measures: False for the plans alone; what was measured is kept.
      file: of the numbers, a ``.json``; the page lies beside it.
      plans: what :mod:`metarl_jax.studies.plan` wrote.
      report: told about each case.

    Returns:
      By case: ``planned``, from ``plans``, and ``measured``, what ``metarl benchmark --sweep --json`` prints; each None
      if there is none.
    """
    cases, planned = list(cases), read(plans)
    known = read(file) if file.exists() else {}
    end = time.monotonic() + 60 * minutes

    def one(case: str) -> dict[str, Any]:
        share = max(0.0, end - time.monotonic()) / (len(cases) - cases.index(case))
        measured = measure(case, share / 60) if measures else known.get(case, {}).get("measured")
        return {"planned": planned.get(f"{case}: {PLANNED_FOR}"), "measured": measured}

    return one_by_one(file, cases, CASES, one, page, report)


def measure(case: str, minutes: float) -> dict[str, Any]:
    """Benchmark one case on the first device, in a process of its own.

    Args:
      case: of :data:`CASES`.
      minutes: after which the sweep begins no further point.

    Returns:
      What ``metarl benchmark --sweep --json`` prints.
    """
    with TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(tree_of(case)))
        printed = commands.metarl("benchmark", config, "--sweep", "--minutes", minutes, "--json", capture=True)
    result: dict[str, Any] = json.loads(printed)
    return result | {"config": case}


def tree_of(case: str) -> dict[str, Any]:
    """The sections of a case's config, as it was planned."""
    return plan.on_device(plan.CASES[case]).model_dump(exclude_unset=True)


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each case."""
    head = ["method, family", f"{PLANNED_FOR}, planned: ms / update", "device", "ms / update", "adaptations / s"]
    head += ["env steps / s", "efficiency", "HVP / gradient", "second / first order", "compiled in, s", "memory, MiB"]
    return markdown(
        f"# {name}",
        "`python benchmarks/accelerator.py`: `metarl benchmark --sweep` of each case, 40 tasks per update, else "
        "defaults (half-cheetah on spring and ant on mjx where nothing else is named). Efficiency: the time of the "
        "physics alone over that of an update. The plan is the roofline estimate of [plan](plan.md). What was not "
        "measured, or not planned, is empty.",
        table([*head, "most env steps / s (tasks)"], [_row(case, result) for case, result in results.items()]),
    )


def _row(case: str, result: dict[str, Any]) -> list[str | None]:
    planned = result["planned"] or {}
    estimate = f"{1e3 * planned['seconds']['per_update']:,.1f}" if planned.get("compiles") else None
    return [case, estimate, *_measured(result["measured"])]


def _measured(result: dict[str, Any] | None) -> list[str | None]:
    if result is None:
        return [None] * 10
    derivatives = result["derivatives"] or {}
    ratios = (derivatives.get(key) for key in ("hvp_over_gradient", "second_over_first_order"))
    timed = [point for point in result["sweep"]["points"] if "refused" not in point]
    best = max(timed, key=lambda point: point["env_steps_per_second"], default=None)
    adaptations, memory = result["adaptations_per_second"], result["memory_bytes"]
    return [
        result["hardware"]["device"],
        f"{1e3 * result['per_iteration']['total']['seconds']:,.1f}",
        None if adaptations is None else f"{adaptations:,.0f}",
        f"{result['env_steps_per_second']:,.0f}",
        f"{result['efficiency']:.0%}",
        *(None if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        f"{result['compile_seconds']:.0f}",
        None if memory is None else f"{memory / 2**20:,.0f}",
        best and f"{best['env_steps_per_second']:,.0f} ({best['meta_batch_size']:,})",
    ]
