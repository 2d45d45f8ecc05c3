"""The answer to a value that cannot be used, and to a word that was mistyped."""

import difflib
from collections.abc import Iterable, Sequence

_MAX_SHOWN = 80
_NAMED = 5


class Refusal(ValueError):  # noqa: N818 - a refusal is the answer to a value, not a fault
    """A value of the user's cannot be used. ``str(refusal)`` is complete and meant for the user.

    Attributes:
      name: of the argument or key; empty if ``remedy`` says it all.
      value: what was given.
      remedy: what is allowed, or what to do.

    Example:
      >>> str(Refusal("horizon", -1, "must be greater than 0"))
      'horizon = -1: must be greater than 0'
    """

    # ``args`` stay those of the call, as ``BaseException.__new__`` keeps them, so that subclasses can be pickled too.
    def __init__(self, name: str, value: object, remedy: str) -> None:
        self.name, self.value, self.remedy = name, value, remedy

    def __str__(self) -> str:
        if not self.name:
            return self.remedy
        value = repr(self.value)
        half = (_MAX_SHOWN - 3) // 2  # of a long path the end tells most
        shown = value if len(value) <= _MAX_SHOWN else f"{value[:half]}...{value[-half:]}"
        return f"{self.name} = {shown}: {self.remedy}"


def require(condition: bool, name: str, value: object, remedy: str) -> None:
    """Raise a :class:`Refusal` that names the value and the remedy unless ``condition`` holds.

    Example:
      >>> require(3 > 0, "horizon", 3, "give a positive whole number")
    """
    if not condition:
        raise Refusal(name, value, remedy)


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that a mistyped word most likely meant, if any is close.

    Example:
      >>> nearest("inner_rl", ["inner_rule", "inner_lr", "discount"])
      'inner_lr'
    """
    by_folded = {choice.lower(): choice for choice in choices}
    matches = difflib.get_close_matches(word.lower(), by_folded, n=3, cutoff=0.6)
    # Letters in another order are the likeliest slip of all.
    matches.sort(key=lambda match: sorted(match) != sorted(word.lower()))
    return by_folded[matches[0]] if matches else None


def some(names: Sequence[str], separator: str = ", ") -> str:
    """The first five, and how many more there are.

    Example:
      >>> some(["a", "b"]), some("abcdefg")
      ('a, b', 'a, b, c, d, e (and 2 more)')
    """
    more = f" (and {len(names) - _NAMED} more)" if len(names) > _NAMED else ""
    return f"{separator.join(names[:_NAMED])}{more}"


def did_you_mean(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """``"; did you mean 'inner_lr'?"``, or nothing if no choice is close.

    Args:
      word: what was written.
      choices: what is allowed.
      prefix: put before the suggestion, e.g. a folder.

    Example:
      >>> did_you_mean("sead", ["seed"])
      "; did you mean 'seed'?"
    """
    match = nearest(word, choices)
    return "" if match is None else f"; did you mean '{prefix}{match}'?"
