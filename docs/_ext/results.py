"""Tables of the committed results."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _ext.markup import code, table

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def method(name: str) -> str:
    """A method beside pretraining and a random initialisation on Finn's navigation: returns and what they cost."""
    measured = json.loads((_RESULTS / "methods_navigation.json").read_text())
    random = np.array([run["random_initialisation"] for run in measured[name]["runs"]]).mean(axis=0)
    names = dict.fromkeys([name, "pretraining"])
    rows = [_row(other, measured[other]) for other in names]
    rows.append(["random initialisation", *(f"{x:.1f}" for x in random), ""])
    steps = [f"{n} steps" if n != 1 else "1 step" for n in range(len(random))]
    return table(["return after", *steps, "CPU s / 1M steps"], rows)


def _row(name: str, result: Mapping[str, Any]) -> list[str]:
    returns = np.array([run["mean_return"] for run in result["runs"]]).mean(axis=0)
    return [code(name), *(f"{x:.1f}" for x in returns), f"{result['cost']['total']:.1f}"]
