"""Tables of the committed results."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _ext.markup import code, table

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def method(name: str) -> str:
    """A method beside pretraining and a random initialisation on Finn's navigation: returns and what they cost."""
    return _methods([name] if name == "pretraining" else [name, "pretraining"])


def methods() -> str:
    """All methods that were compared there."""
    return _methods(list(_measured()))


def _methods(names: Sequence[str]) -> str:
    measured = _measured()
    random = _mean(measured["maml"], "random_initialisation")
    costs = {name: f"{measured[name]['cost']['total']:.1f}" for name in names}
    rows = [[code(name), *_mean(measured[name], "mean_return"), costs[name]] for name in names]
    steps = [f"{n} step{'' if n == 1 else 's'}" for n in range(len(random))]
    return table(["return after", *steps, "CPU s / 1M steps"], [*rows, ["random initialisation", *random, ""]])


def _measured() -> dict[str, Any]:
    measured: dict[str, Any] = json.loads((_RESULTS / "methods_navigation.json").read_text())
    return measured


def _mean(result: Mapping[str, Any], what: str) -> list[str]:
    """Mean over seeds, after 0..K steps."""
    return [f"{number:.1f}" for number in np.mean([run[what] for run in result["runs"]], axis=0)]
