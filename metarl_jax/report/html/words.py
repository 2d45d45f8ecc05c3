"""Numbers and values in words, for tables."""

import json
import math
from typing import Any


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
