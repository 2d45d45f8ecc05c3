"""Tables of the committed results."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _ext.markup import code, table

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
_UNITS = 4  # before adaptation and after 1 to 3


def method(name: str) -> str:
    """A method beside pretraining and a random initialisation on Finn's navigation: returns and what they cost."""
    return _methods([name] if name == "pretraining" else [name, "pretraining"])


def methods() -> str:
    """All methods that were compared there."""
    return _methods(list(_measured()))


def _methods(names: Sequence[str]) -> str:
    measured = _measured()
    rows = [_row(code(name), measured[name]["effect"]["held_out"], measured[name]["cost"]) for name in names]
    random = measured["maml"]["effect"]["held_out"]["means"]["random_initialisation"]
    last = ["random initialisation", *_rounded(random), "", ""]
    return table(["return after", *_units(len(random)), "episodes", "CPU s / 1M steps"], [*rows, last])


def _units(number: int) -> list[str]:
    return [f"{n} unit{'' if n == 1 else 's'}" for n in range(number)]


def _row(name: str, effect: dict[str, Any], cost: dict[str, Any]) -> list[str]:
    """Means over seeds after each unit of adaptation, a gradient step or an episode, and what they needed."""
    means = np.mean(effect["means"]["seeds"], axis=0)
    blank = [""] * (_UNITS - len(means))
    return [name, *_rounded(means), *blank, str(effect["episodes"][-1]), f"{cost['seconds']:.1f}"]


def _measured() -> dict[str, Any]:
    measured: dict[str, Any] = json.loads((_RESULTS / "comparison_navigation.json").read_text())["methods"]
    return measured


def _rounded(numbers: Sequence[float] | np.ndarray) -> list[str]:
    return [f"{number:.1f}" for number in numbers]
