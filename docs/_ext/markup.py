"""Markdown from numbers and words."""

import re
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""A table; cells are Markdown.

    Example:
      >>> print(table(["a", "b"], [["1", "x|y"]]))
      | a | b |
      |---|---|
      | 1 | x\|y |
    """
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in (columns, *rows)]
    head, *body = (f"| {' | '.join(line)} |" for line in escaped)
    return "\n".join([head, "|" + "---|" * len(columns), *body])


def prose(text: str) -> str:
    r"""Plain text as Markdown that reads the same.

    Example:
      >>> prose("null;  [a]*")
      'null; \\[a\\]\\*'
    """
    return re.sub(r"([\\\[\]*<`])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Text as inline code.

    Example:
      >>> code("inner_lr")
      '`inner_lr`'
    """
    return f"`{text}`"
