"""Numbers and values in words, for tables."""

import json
import math
from collections.abc import Sequence
from typing import Any

from metarl_jax.report.text import decimals, number

BLANK = "\N{EN DASH}"


def shown(value: Any) -> str:
    """A value of a config or a result.

    Example:
      >>> shown(0.00125), shown("maml"), shown([64, 64]), shown(None)
      ('0.00125', 'maml', '[64, 64]', 'null')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.5g}" if math.isfinite(value) else "not finite"
    return json.dumps(value, default=str)


def duration(seconds: float) -> str:
    """A span of time.

    Example:
      >>> duration(0.25), duration(75.0), duration(8000.0)
      ('0.25 s', '1 min 15 s', '2 h 13 min')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def column(rows: Sequence[Sequence[float]]) -> list[str]:
    r"""Cells of a column of numbers, or of numbers with the ends of their intervals, to equally many decimals.

    Args:
      rows: a number, or a number with a lower and an upper end; blank where a number is not finite.

    Example:
      >>> column([[-40.5, -42.0, -38.0], [-5.25], [float("nan")]])
      ['-40.50 [-42.00,\xa0-38.00]', '-5.25', '–']
    """
    places = decimals(*(value for row in rows for value in row))

    def cell(middle: float, *ends: float) -> str:
        if not math.isfinite(middle):
            return BLANK
        interval = ",\N{NO-BREAK SPACE}".join(number(end, places) for end in ends if math.isfinite(end))
        return f"{number(middle, places)} [{interval}]" if interval else number(middle, places)

    return [cell(*row) for row in rows]
