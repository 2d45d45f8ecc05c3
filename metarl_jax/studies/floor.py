"""How near an update comes to what its matrix products alone would take on this machine."""

import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np

from metarl_jax.cores import bound_to, kept_to
from metarl_jax.studies import commands
from metarl_jax.studies.results import markdown, table

CASES: dict[str, bool] = {"ProMP, corner": False, "ProMP, corner, bound to one core": True}
"""Whether the processes are bound to one core, by what is measured."""
_CONFIG = "promp_navigation_corner"
_ROWS, _WIDTH = 2000, 64  # all steps of a task's episodes, by the units of a hidden layer
_TIMED = 5  # updates in a round


def measure(case: str, rounds: int = 3) -> dict[str, Any]:
    """Time an update, and as many operations in numpy's products, in turn.

    Args:
      case: of :data:`CASES`.
      rounds: of which the median is taken.

    Returns:
      CPU seconds of the ``update`` and of the ``floor``, their ``ratio``, and an update's operations in ``products``.
    """
    cores = bound_to()
    with kept_to(cores[-1:] if CASES[case] else cores):
        measured = [(_benchmark(), _numpy()) for _ in range(rounds)]
    products = measured[0][0]["achieved"]["per_iteration"]["products"]
    update = float(np.median([ours["per_iteration"]["total"]["cpu_seconds"] for ours, _ in measured]))
    floor = products * float(np.median([seconds for _, seconds in measured]))
    return {
        "command": f"metarl benchmark {_CONFIG}",
        "products": products,
        "update": round(update, 3),
        "floor": round(floor, 3),
        "ratio": round(update / floor, 3),
        "rounds": rounds,
        "cores": os.cpu_count(),
        **{package: version(package) for package in ("jax", "numpy")},
    }


def seconds_per_operation(repetitions: int = 2000) -> float:
    """CPU seconds that numpy takes for one operation of ``[2000, 64] x [64, 64]``, two for each multiplication.

    Args:
      repetitions: of the product.
    """
    left, right = (np.ones(shape, np.float32) for shape in ((_ROWS, _WIDTH), (_WIDTH, _WIDTH)))
    out = np.empty((_ROWS, _WIDTH), np.float32)
    started = time.process_time()
    for _ in range(repetitions):
        np.dot(left, right, out=out)
    return (time.process_time() - started) / (repetitions * 2 * _ROWS * _WIDTH * _WIDTH)


def _benchmark() -> dict[str, Any]:
    said = commands.metarl("benchmark", _CONFIG, "--iterations", _TIMED, "--json", capture=True)
    result: dict[str, Any] = json.loads(said)
    return result


def _numpy() -> float:
    """:func:`seconds_per_operation` in a process whose numpy has one thread."""
    code = f"from {__name__} import seconds_per_operation as seconds; print(seconds())"
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return float(
        subprocess.run(
            [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    )


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each case."""
    head = ["case", "command", "GFLOP of products", "update, CPU s", "floor, CPU s", "ratio"]
    return markdown(
        f"# {name}",
        "`python benchmarks/floor.py`: CPU seconds of an update, environment and all, beside those of numpy for as "
        f"many operations in products of [{_ROWS}, {_WIDTH}] and [{_WIDTH}, {_WIDTH}] on one thread, in turn; medians.",
        table([*head, "rounds", "cores", "jax", "numpy"], [_row(*item) for item in results.items()]),
    )


def _row(case: str, result: dict[str, Any]) -> list[str | None]:
    times = [f"{result[key]:.2f}" for key in ("update", "floor", "ratio")]
    on = [str(result[key]) for key in ("rounds", "cores", "jax", "numpy")]
    return [case, f"`{result['command']}`", f"{result['products'] / 1e9:.1f}", *times, *on]
