"""What a report is made of: sections of blocks, plain data that the template turns into HTML."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from metarl_jax.report.html.charts import Plot


class Text(NamedTuple):
    """A paragraph; ``tone`` is ``note``, ``good`` or ``bad``."""

    text: str
    tone: str = "note"
    kind: str = "text"


class Table(NamedTuple):
    """Rows of text under a head, below a caption.

    Attributes:
      caption: what it shows.
      head: of each column; of the first, which names the rows, too.
      rows: of cells.
      folded: shown when asked for.
      marked: numbers of rows that stand out.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False
    marked: Sequence[int] = ()
    kind: str = "table"


class Listing(NamedTuple):
    """Text as it lies in a file, shown when asked for."""

    caption: str
    text: str
    kind: str = "listing"


class Bar(NamedTuple):
    """Parts of a whole: ``(name, amount in words, per cent)``."""

    caption: str
    parts: Sequence[tuple[str, str, float]]
    kind: str = "bar"


class Plots(NamedTuple):
    """Charts side by side where there is room."""

    plots: Sequence[Plot]
    kind: str = "plots"


class Drawings(NamedTuple):
    """Paths on a plane, a panel for each stage: of each its title, and what an ``svg`` holds; a star marks the goal."""

    caption: str
    panels: Sequence[dict[str, Any]]
    star: str
    has_goal: bool
    kind: str = "drawings"


class Screens(NamedTuple):
    """Two episodes of a game: colours, and for each episode a title and its frames of one character a pixel."""

    caption: str
    shown: dict[str, Any]
    kind: str = "screens"


class Frame(NamedTuple):
    """A page within the page, which plays a body."""

    title: str
    page: str
    kind: str = "frame"


class Cells(NamedTuple):
    """A heat map: names of columns and rows, and cells ``(text, colour, ink)``."""

    caption: str
    x: str
    y: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, str, str]]]]
    kind: str = "cells"


Block = Text | Table | Listing | Bar | Plots | Drawings | Screens | Frame | Cells


class Section(NamedTuple):
    """A part of the page: ``name`` is its anchor."""

    name: str
    title: str
    blocks: Sequence[Block]
