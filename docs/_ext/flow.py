"""Pictures of how data flow through an update, drawn from a few indented lines.

A line is a box, a line that ends with a colon a frame around the deeper ones below it, and a line that begins with
``<-`` an arrow from the box above back to the first one, which carries a gradient:

    parameters θ
    for each task:
        play episodes with θ
        gradient step: φ = θ - α∇L(θ)
    loss on the episodes of φ
    <- exact gradient
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from textwrap import wrap

from docutils import nodes
from docutils.nodes import Node
from sphinx.util.docutils import SphinxDirective

_WIDTH, _LINE, _PAD, _GAP, _LETTERS = 400, 19, 11, 22, 44
_ARC = 74  # what is kept free beside the boxes for an arrow and its words


@dataclass(frozen=True)
class Item:
    """A box, a frame or an arrow back, and what is inside of it."""

    text: str
    kind: str
    children: list["Item"] = field(default_factory=list)


@dataclass
class _Drawing:
    """What has been drawn, how far down it reaches, and of every box its right edge and its middle."""

    shapes: list[str] = field(default_factory=list)
    bottom: float = 4
    boxes: list[tuple[float, float]] = field(default_factory=list)


def parse(lines: Sequence[str]) -> list[Item]:
    """Read the declaration: deeper lines belong to the frame above them.

    Example:
      >>> [item.kind for item in parse(["a", "each:", "  b", "<- g"])]
      ['box', 'frame', 'arrow']
    """
    items: list[Item] = []
    stack = [(-1, items)]
    for line in filter(str.strip, lines):
        indent, text = len(line) - len(line.lstrip()), line.strip()
        while stack[-1][0] >= indent:
            stack.pop()
        kind = "arrow" if text.startswith("<-") else "frame" if text.endswith(":") else "box"
        item = Item(text.removeprefix("<-").strip() if kind == "arrow" else text, kind)
        stack[-1][1].append(item)
        stack.append((indent, item.children))
    return items


def svg(items: Sequence[Item], label: str) -> str:
    """The picture: one column, from top to bottom; colours are the page's.

    Args:
      items: from :func:`parse`.
      label: what is read out in its place.
    """
    drawing = _Drawing()
    _column(items, drawing, 2, _WIDTH - _ARC)
    height = drawing.bottom + 6
    head = (
        f'<svg class="flow" role="img" aria-label="{escape(label)}" viewBox="0 0 {_WIDTH} {height:g}">'
        '<defs><marker id="flow-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z"/></marker></defs>'
    )
    return head + "".join(drawing.shapes) + "</svg>"


def _column(items: Sequence[Item], drawing: _Drawing, left: float, right: float) -> None:
    """Draw items below each other, an arrow from each to the next."""
    previous: float | None = None
    for item in items:
        if item.kind == "arrow":
            _back(item, drawing, right)
            continue
        if previous is not None:
            middle = (left + right) / 2
            _path(drawing, "flow-arrow", f"M{middle:g} {previous:g}V{previous + _GAP:g}")
            drawing.bottom = previous + _GAP
        (_frame if item.kind == "frame" else _box)(item, drawing, left, right)
        previous = drawing.bottom


def _box(item: Item, drawing: _Drawing, left: float, right: float) -> None:
    lines = wrap(item.text, int(_LETTERS * (right - left) / (_WIDTH - _ARC)))
    top, height = drawing.bottom, len(lines) * _LINE + 2 * _PAD - 4
    _rectangle(drawing, "flow-box", left, top, right, height)
    for n, line in enumerate(lines):
        _text(drawing, "flow-text", (left + right) / 2, top + _PAD + 11 + n * _LINE, line)
    drawing.boxes.append((right, top + height / 2))
    drawing.bottom = top + height


def _frame(item: Item, drawing: _Drawing, left: float, right: float) -> None:
    top, place = drawing.bottom, len(drawing.shapes)
    drawing.bottom += _LINE + _PAD
    _column(item.children, drawing, left + _PAD, right - _PAD)
    drawing.bottom += _PAD
    inside, drawing.shapes = drawing.shapes[place:], drawing.shapes[:place]
    _rectangle(drawing, "flow-frame", left, top, right, drawing.bottom - top)
    _text(drawing, "flow-label", left + _PAD, top + 18, item.text.removesuffix(":"))
    drawing.shapes += inside


def _back(item: Item, drawing: _Drawing, right: float) -> None:
    """The way of a gradient, from the last box to the first."""
    (start_x, start), (end_x, end) = drawing.boxes[-1], drawing.boxes[0]
    edge = right + 24
    _path(drawing, "flow-back", f"M{start_x:g} {start:g}H{edge:g}V{end:g}H{end_x + 2:g}")
    turned = f' transform="rotate(90 {edge + 12:g} {(start + end) / 2:g})"'
    _text(drawing, "flow-gradient", edge + 12, (start + end) / 2, item.text, turned)


def _rectangle(drawing: _Drawing, kind: str, left: float, top: float, right: float, height: float) -> None:
    size = f'x="{left:g}" y="{top:g}" width="{right - left:g}" height="{height:g}"'
    drawing.shapes.append(f'<rect class="{kind}" {size} rx="6"/>')


def _path(drawing: _Drawing, kind: str, path: str) -> None:
    drawing.shapes.append(f'<path class="{kind}" d="{path}" marker-end="url(#flow-head)"/>')


def _text(drawing: _Drawing, kind: str, x: float, y: float, text: str, more: str = "") -> None:
    drawing.shapes.append(f'<text class="{kind}" x="{x:g}" y="{y:g}"{more}>{escape(text)}</text>')


class DataFlow(SphinxDirective):
    """The picture of its content; where there is no Sphinx, the lines are read as they are."""

    has_content = True

    def run(self) -> list[Node]:
        """Draw."""
        words = " ".join(self.content).replace("<-", "back:")
        return [nodes.raw("", svg(parse(list(self.content)), words), format="html")]
