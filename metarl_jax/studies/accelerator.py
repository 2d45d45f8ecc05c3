"""How fast adaptation is on an accelerator: a suite of methods and families, beside what was planned for an H100."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from metarl_jax.cores import bind, bound_to
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
_SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # of an accelerator's memory


def study(
    cases: Iterable[str] = CASES,
    minutes: float = 25.0,
    at_once: int = 1,
    measures: bool = True,
    file: Path = RESULTS / "accelerator.json",
    plans: Path = RESULTS / "plan.json",
    report: Callable[[str, dict[str, Any]], object] = lambda case, measured: None,
) -> dict[str, Any]:
    """Benchmark each case, with a sweep over meta-batch sizes and amounts of adaptation; write numbers and page.

    Args:
      cases: of :data:`CASES`; what was measured of others is kept.
      minutes: for all of them: each gets an equal share of what is left, after which its sweep begins no further point.
      at_once: cases that compile side by side, each on cores of its own, and take turns on the device.
      measures: False for the plans alone; what was measured is kept.
      file: of the numbers, a ``.json``; the page lies beside it.
      plans: what :mod:`metarl_jax.studies.plan` wrote.
      report: told about each case.

    Returns:
      By case: ``planned``, from ``plans``, and ``measured``, what ``metarl benchmark --sweep --json`` prints; each None
      if there is none.

    Raises:
      subprocess.CalledProcessError: if a benchmark fails, after all others are written.
    """
    cases, planned = list(cases), read(plans)
    known = read(file) if file.exists() else {}
    measured = {case: known.get(case, {}).get("measured") for case in cases}

    def one(case: str) -> dict[str, Any]:
        return {"planned": planned.get(f"{case}: {PLANNED_FOR}"), "measured": measured[case]}

    if not measures:
        return one_by_one(file, cases, CASES, one, page, report)
    at_once = min(at_once, len(cases))
    end = time.monotonic() + 60 * minutes
    with TemporaryDirectory() as folder, _workers(at_once) as pool:

        def share(case: str) -> dict[str, Any]:
            waiting = len(cases) - cases.index(case)
            left = max(0.0, end - time.monotonic())
            turns = None if at_once == 1 else Path(folder, "turns")
            return measure(case, left / 60 * min(at_once, waiting) / waiting, turns)

        running = {pool.submit(share, case): case for case in cases}

        def finished() -> Iterator[str]:
            for done in as_completed(running):
                if (error := done.exception()) is None:
                    measured[running[done]] = done.result()
                    yield running[done]
                else:
                    error.add_note(running[done])

        results = one_by_one(file, finished(), CASES, one, page, report)
        for done in running:
            done.result()
    return results


@contextmanager
def _workers(number: int) -> Iterator[ThreadPoolExecutor]:
    """Threads, each on cores of its own; what has not begun when the work is given up never does."""
    with ThreadPoolExecutor(number, initializer=_take, initargs=(_shares(number),)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _shares(parts: int) -> SimpleQueue[list[int]]:
    """The cores of this process, dealt out."""
    shares: SimpleQueue[list[int]] = SimpleQueue()
    cores = bound_to()
    for i in range(parts):
        shares.put(cores[i::parts] or cores)
    return shares


def _take(shares: SimpleQueue[list[int]]) -> None:
    bind(shares.get())


def measure(case: str, minutes: float, turns: Path | None = None) -> dict[str, Any]:
    """Benchmark one case on the first device, in a process of its own.

    Args:
      case: of :data:`CASES`.
      minutes: after which the sweep begins no further point.
      turns: a lock file of those that measure at the same time, if any do.

    Returns:
      What ``metarl benchmark --sweep --json`` prints.
    """
    with TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(tree_of(case)))
        words = ("--sweep", "--minutes", minutes, "--json", *(() if turns is None else ("--turns", turns)))
        shared = {} if turns is None else {name: os.environ.get(name, value) for name, value in _SHARED.items()}
        printed = commands.metarl("benchmark", config, *words, capture=True, environment=shared)
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
        "physics alone over that of an update. The plan is the roofline estimate of [plan](plan.md). The most "
        "steps a second of all meta-batches that were swept with the config's adaptation; 'not flat yet' where time "
        "was up, or other cases held the memory, before more tasks at once gained nothing. What was not measured, or "
        "not planned, is empty." + _measured_with(results),
        table([*head, "most env steps / s (tasks)"], [_row(case, result) for case, result in results.items()]),
    )


def _measured_with(results: dict[str, Any]) -> str:
    """On what, and with which versions."""
    measured = [result["measured"] for result in results.values() if result["measured"]]
    machines = {(one["hardware"]["device"], one["hardware"]["cpu"], *one["versions"].items()) for one in measured}
    named = (
        f"{device} ({cpu}): " + ", ".join(f"{package} {version}" for package, version in versions) + "."
        for device, cpu, *versions in sorted(machines)
    )
    return "".join(f" {name}" for name in named)


def _row(case: str, result: dict[str, Any]) -> list[str | None]:
    planned = result["planned"] or {}
    estimate = f"{1e3 * planned['seconds']['per_update']:,.1f}" if planned.get("compiles") else None
    return [case, estimate, *_measured(result["measured"])]


def _measured(result: dict[str, Any] | None) -> list[str | None]:
    if result is None:
        return [None] * 10
    derivatives = result["derivatives"] or {}
    ratios = (derivatives.get(key) for key in ("hvp_over_gradient", "second_over_first_order"))
    sweep, units = result["sweep"], result["adaptation"]["trained"]
    points = (point for point in sweep["points"] if point["units"] == units and "refused" not in point)
    timed = [result, *points]
    best = max(timed, key=lambda point: point["env_steps_per_second"])
    adaptations, memory = result["adaptations_per_second"], result["memory_bytes"]
    is_flat = units in sweep["complete_units"]
    return [
        result["hardware"]["device"],
        f"{1e3 * result['per_iteration']['total']['seconds']:,.1f}",
        None if adaptations is None else f"{adaptations:,.0f}",
        f"{result['env_steps_per_second']:,.0f}",
        f"{result['efficiency']:.0%}",
        *(None if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        f"{result['compile_seconds']:.0f}",
        None if memory is None else f"{memory / 2**20:,.0f}",
        f"{best['env_steps_per_second']:,.0f} ({best['meta_batch_size']:,}{'' if is_flat else ', not flat yet'})",
    ]
