"""Text that fits the terminal: broken between words alone, so that numbers and names stay whole."""

import io
import os
import sys
import textwrap
from typing import TextIO

_ASCII_LOCALES = ("C", "POSIX")
_LARGE = 1e7


def columns(stream: TextIO) -> int | None:
    """How wide the lines that are written there may be, by ``COLUMNS`` or the terminal.

    Returns:
      Characters; None where nobody says: in a file or a pipe.
    """
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return (os.get_terminal_size(stream.fileno()).columns or None) if stream.isatty() else None


def wrap(text: str, width: int | None, first: str = "", rest: str = "") -> str:
    r"""Break lines between words, and nowhere else; what is indented, such as a command to be pasted, stays as it is.

    Args:
      text: lines, each of which is a paragraph.
      width: characters; None to break nothing.
      first: what the first line begins with.
      rest: what all others begin with.

    Example:
      >>> print(wrap("inner_lr: must be at least 0\n  metarl list maml", 20, "error: "))
      error: inner_lr:
      must be at least 0
        metarl list maml
    """
    paragraphs = [(rest if i else first, line) for i, line in enumerate(text.split("\n"))]
    return "\n".join(line if line.startswith(" ") else _fill(line, width, begin, rest) for begin, line in paragraphs)


def _fill(line: str, width: int | None, first: str, rest: str) -> str:
    if width is None or not line:
        return first + line
    broken = textwrap.TextWrapper(
        width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return broken.fill(line)


def amount(number: int, unit: str) -> str:
    """A number of things.

    Example:
      >>> amount(1, "gradient step"), amount(3, "gradient step")
      ('1 gradient step', '3 gradient steps')
    """
    return f"{number} {unit}{'' if number == 1 else 's'}"


def decimals(*values: float) -> int:
    """Decimals that show four digits of the largest of some numbers.

    Example:
      >>> decimals(0.25, -0.5), decimals(0.5, -40.0), decimals(1500.0)
      (3, 2, 0)
    """
    finite = [abs(value) for value in values if abs(value) < float("inf")]  # NaN is not, either
    return max(0, 4 - len(str(int(max(finite, default=0.0)))))


def number(value: float, places: int) -> str:
    """A number with so many decimals, or with a power of ten if it is very large.

    Example:
      >>> number(-40.25, 1), number(1.5e30, 0), number(float("nan"), 2)
      ('-40.2', '1.5e+30', 'nan')
    """
    return f"{value:.3g}" if abs(value) >= _LARGE else f"{value:.{places}f}"


def keep_to_locale() -> None:
    """Write what the user's locale can show, where that is C by name ASCII alone, and all else as escape sequences.

    Python would write UTF-8 in C, for which it also sets ``LC_CTYPE``.
    """
    named = os.environ.get("LC_ALL") or os.environ.get("LANG")
    encoding = "ascii" if named in _ASCII_LOCALES else None
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
