"""Markdown from numbers and words."""

import re
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown.

    Example:
      >>> print(table(["a", "b"], [["1", "x|y"]]))
      | a | b |
      |---|---|
      | 1 | x\\|y |
    """
    lines = [columns, *rows]
    text = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    return "\n".join([text[0], "|" + "---|" * len(columns), *text[1:]])


def prose(text: str) -> str:
    """Plain text as Markdown that reads the same.

    Example:
      >>> prose("null;  [a]*")
      'null; \\\\[a\\\\]\\\\*'
    """
    return re.sub(r"([\\\[\]*<`])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Text as inline code.

    Example:
      >>> code("inner_lr")
      '`inner_lr`'
    """
    return f"`{text}`"
