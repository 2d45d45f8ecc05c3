"""Names that are imported when they are asked for, so that what nobody names costs nothing."""

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazily(Mapping[str, T], Generic[T]):
    """A mapping whose values are looked up one by one, when they are asked for; what its keys are costs nothing.

    Attributes:
      rows: what to look up, by key.
      find: how.

    Example:
      >>> import math
      >>> functions = Lazily({"root": "sqrt", "power": "pow"}, lambda name: getattr(math, name))
      >>> sorted(functions), "sqrt" in functions, functions["root"](4.0)
      (['power', 'root'], False, 2.0)
    """

    def __init__(self, rows: Mapping[str, str], find: Callable[[str], T]) -> None:
        self.rows, self.find = rows, find

    def __getitem__(self, key: str) -> T:
        return self.find(self.rows[key])

    def __contains__(self, key: object) -> bool:
        return key in self.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)
