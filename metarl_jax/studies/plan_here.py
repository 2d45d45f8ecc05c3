"""The memory of a run on this machine, as planned and as it is."""

import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from metarl_jax.diagnostics.benchmark import cpu_name
from metarl_jax.runs.memory import in_words
from metarl_jax.studies import commands
from metarl_jax.studies.results import RESULTS, markdown, one_by_one, table

CASES: dict[str, list[str]] = {
    "40 tasks": [],
    "400 tasks": ["training.meta_batch_size=400"],
    "2000 tasks": ["training.meta_batch_size=2000"],
    "400 tasks, 5 inner steps": ["training.meta_batch_size=400", "algorithm.num_inner_steps=5"],
}
"""What is changed in the config of :func:`measure`, by the name of the row."""
_CONFIG = "promp_navigation_corner"


def study(cases: Iterable[str] = tuple(CASES), file: Path = RESULTS / "plan_here.json") -> dict[str, Any]:
    """Train on this machine what was planned for it, and compare the memory; write numbers and page.

    Args:
      cases: of :data:`CASES`; what was measured of others is kept.
      file: of the numbers, a ``.json``; the page lies beside it.

    Returns:
      By case: the ``command`` of the plan, and bytes ``planned`` and ``measured``.
    """
    return one_by_one(file, cases, CASES, measure, page)


def measure(case: str) -> dict[str, Any]:
    """The memory of a run on one CPU device, as planned and at its peak; nothing is taken from a cache.

    Args:
      case: of :data:`CASES`.

    Returns:
      The ``command`` of the plan, bytes ``planned`` and ``measured``, and on what.
    """
    words = ["plan", _CONFIG, *CASES[case], "--target", "cpu", "--devices", "1"]
    memory = json.loads(commands.metarl(*words, "--json", capture=True))["memory"]
    with TemporaryDirectory() as folder:
        run = [
            "train",
            _CONFIG,
            *CASES[case],
            "training.num_iterations=3",
            "--devices",
            "1",
            "--run-dir",
            f"{folder}/run",
        ]
        measured = commands.peak_bytes(*run)
    return {
        "command": " ".join(["metarl", *words]),
        "planned": memory["process"] + memory["total"],
        "measured": measured,
        "cpu": cpu_name(),
        "jax": version("jax"),
    }


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each case."""
    rows = [
        [
            f"`{one['command']}`",
            in_words(one["planned"]),
            in_words(one["measured"]),
            f"{one['planned'] / one['measured']:.2f}",
            one["cpu"],
            one["jax"],
        ]
        for one in results.values()
    ]
    return markdown(
        f"# {name}",
        "Memory of a run on one CPU device: of the planning process and of an update, as planned, beside the peak of "
        "three updates of `metarl train`, compilation included. By `benchmarks/plan.py --here`.",
        table(["plan", "planned", "measured", "ratio", "CPU", "jax"], rows),
    )
