"""Draw a body without OpenGL: capsules seen from the side, animated as a GIF by Matplotlib and Pillow."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from metarl_jax.checks import checked
from metarl_jax.types import Body, EnvState, PositiveInt, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mujoco import MjModel
    from PIL.Image import Image

COLOURS = {"torso": "#3b3b44", "bthigh": "#c1572b", "bshin": "#d9713f", "bfoot": "#e98f5d"}
COLOURS |= {"fthigh": "#1f6f8b", "fshin": "#3288a6", "ffoot": "#53a6c2"}
GREY = "#3b3b44"
_SPHERE, _CAPSULE = 2, 3  # of MuJoCo's geometries
VIEW_WIDTH, VIEW_HEIGHT = 4.6, 2.0  # metres that a panel shows
PANEL_WIDTH = 6.0  # inches
PANEL_HEIGHT = PANEL_WIDTH * VIEW_HEIGHT / VIEW_WIDTH
DPI = 80
MAX_COLOURS = 32  # of the GIF's palette: flat colours need few, and the file shrinks with them


class Capsules(NamedTuple):
    """The capsules of a body.

    Attributes:
      link: ``[G]`` the link that each capsule is fixed to.
      ends: ``[G, 2, 3]`` its two ends in the frame of that link, metres.
      radius: ``[G]`` metres.
      colour: ``[G]`` names.
    """

    link: np.ndarray
    ends: np.ndarray
    radius: np.ndarray
    colour: tuple[str, ...]


def body_capsules(model: "MjModel") -> Capsules:
    """The capsules of a body; a sphere is a short one.

    Args:
      model: see :class:`metarl_jax.types.Body`.

    Returns:
      All geometries of these types that belong to a link.

    Example:
      >>> from metarl_jax.tasks.locomotion.half_cheetah import half_cheetah_direction
      >>> body_capsules(half_cheetah_direction().picture.model).ends.shape  # torso, head, and three for each leg
      (8, 2, 3)
    """
    chosen = np.flatnonzero(np.isin(model.geom_type, (_SPHERE, _CAPSULE)) & (model.geom_bodyid > 0))
    link = model.geom_bodyid[chosen] - 1  # the world is no link
    along = np.zeros((len(chosen), 3))
    along[:, 2] = np.where(model.geom_type[chosen] == _CAPSULE, model.geom_size[chosen, 1], 0.0)
    half = rotate(model.geom_quat[chosen], along)
    centre = model.geom_pos[chosen]
    ends = np.stack([centre - half, centre + half], axis=1)
    return Capsules(link, ends, model.geom_size[chosen, 0], tuple(link_colour(model, i) for i in link))


def link_colour(model: "MjModel", link: int) -> str:
    """The colour that a link is drawn in: legs tell front from back, all else is grey."""
    return COLOURS.get(model.body(link + 1).name, GREY)


def rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Rotate vectors by unit quaternions: ``v + 2 w (u x v) + 2 u x (u x v)`` with ``q = (w, u)``.

    Args:
      quaternion: ``[..., 4]``, scalar part first.
      vector: ``[..., 3]``.

    Returns:
      ``[..., 3]``.

    Example:
      >>> rotate(np.array([0.0, 0.0, 1.0, 0.0]), np.array([1.0, 0.0, 2.0])).tolist()  # half a turn about y
      [-1.0, 0.0, -2.0]
    """
    w, u = quaternion[..., :1], quaternion[..., 1:]
    cross = np.cross(u, vector)
    return vector + 2.0 * (w * cross + np.cross(u, cross))


def capsule_ends(capsules: Capsules, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Where the capsules are during an episode.

    Args:
      capsules: the ``G`` capsules of the body.
      position: ``[T, L, 3]`` of the links.
      rotation: ``[T, L, 4]``.

    Returns:
      ``[T, G, 2, 2]``: x and z of both ends in the world, metres.
    """
    return (position[:, capsules.link, None] + rotate(rotation[:, capsules.link, None], capsules.ends))[..., [0, 2]]


@checked
def animate_body(
    body: Body,
    states_before: EnvState,
    states_after: EnvState,
    path: str | Path,
    labels: tuple[str, str] = ("before adaptation", "after adaptation"),
    every: PositiveInt = 2,
) -> None:
    """Save two episodes, one above the other, as a GIF at real speed; a camera follows each body.

    Args:
      body: the ``picture`` of the family.
      states_before: of one episode, with a leading axis ``T``.
      states_after: of another one; the shorter one rests at its end.
      path: the GIF file to write.
      labels: title of the upper and of the lower panel.
      every: draw each ``every``-th step.

    Raises:
      ValueError: if ``every`` is not positive, or ``path`` does not end in ``.gif``.

    Example:
      >>> import jax, tempfile
      >>> from metarl_jax.tasks.locomotion.half_cheetah import half_cheetah_direction
      >>> family = half_cheetah_direction()
      >>> state, _ = jax.jit(family.reset)(1.0, jax.random.key(0))
      >>> one_step = jax.tree.map(lambda leaf: leaf[None], state)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     animate_body(family.picture, one_step, one_step, f"{folder}/still.gif")
    """
    from PIL import Image

    require(Path(path).suffix == ".gif", "path", str(path), "name a file that ends in .gif")
    frames = list(body_frames(body, (states_before, states_after), labels, every))
    palette = frames[len(frames) // 2].quantize(MAX_COLOURS)
    first, *rest = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    milliseconds = round(1000 * body.dt * every)
    first.save(path, save_all=True, append_images=rest, duration=milliseconds, loop=0, optimize=True)


def body_frames(
    body: Body, episodes: tuple[EnvState, ...], labels: tuple[str, ...], every: int = 1
) -> Iterator["Image"]:
    """The frames of the animation, one panel for each episode.

    Args:
      body: what moves.
      episodes: states with a leading axis ``T``, one for each panel.
      labels: a title for each panel.
      every: yield each ``every``-th step.

    Yields:
      RGB images.
    """
    from PIL import Image

    capsules = body_capsules(body.model)
    poses = [tuple(map(np.asarray, body.poses(states))) for states in episodes]
    ends = [capsule_ends(capsules, position, rotation) for position, rotation in poses]
    torso = [position[:, 0, 0] for position, _ in poses]
    figure, panels = _blank_figure(labels)
    drawn = [_draw_body(axes, capsules) for axes in panels]
    clocks = [axes.text(0.015, 0.95, "", transform=axes.transAxes, va="top", fontsize=9) for axes in panels]
    for t in range(0, max(map(len, ends)), every):
        for axes, lines, clock, path, x in zip(panels, drawn, clocks, ends, torso, strict=True):
            now = min(t, len(path) - 1)
            for line, segment in zip(lines, path[now], strict=True):
                line.set_data(segment[:, 0], segment[:, 1])
            axes.set_xlim(x[now] - VIEW_WIDTH / 2, x[now] + VIEW_WIDTH / 2)
            clock.set_text(f"{now * body.dt:4.1f} s   {x[now] - x[0]:+6.2f} m")
        figure.canvas.draw()
        yield Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())  # type: ignore[attr-defined]


def _blank_figure(labels: tuple[str, ...]) -> tuple["Figure", list["Axes"]]:
    """One panel above another: the ground, and a tick at every metre."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    row = PANEL_HEIGHT + 0.62  # inches; room for a title and tick labels
    figure = Figure(figsize=(PANEL_WIDTH + 0.2, row * len(labels)), dpi=DPI)
    FigureCanvasAgg(figure)
    width, height = figure.get_size_inches()
    panels = []
    for i, label in enumerate(labels):
        bottom = (len(labels) - 1 - i) * row + 0.3
        axes = figure.add_axes((0.1 / width, bottom / height, PANEL_WIDTH / width, PANEL_HEIGHT / height))
        axes.set(ylim=(-0.15, VIEW_HEIGHT - 0.15), yticks=[])
        axes.set_title(label, fontsize=10, pad=4)
        axes.xaxis.set_major_locator(MultipleLocator(1.0))
        axes.xaxis.set_major_formatter("{x:g} m")
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", color="#dddddd", linewidth=0.8)
        axes.axhspan(-0.15, 0.0, color="#b9b29c", zorder=1)
        axes.axvline(0.0, color="#888888", linewidth=1.5, linestyle="--", zorder=0)  # the start
        panels.append(axes)
    return figure, panels


def _draw_body(axes: "Axes", capsules: Capsules) -> list:
    """A thick line with round ends for each capsule; its width is in points, a 72nd of an inch."""
    points_per_metre = 72.0 * PANEL_WIDTH / VIEW_WIDTH
    return [
        axes.plot([], [], color=colour, linewidth=2 * radius * points_per_metre, solid_capstyle="round", zorder=3)[0]
        for colour, radius in zip(capsules.colour, capsules.radius, strict=True)
    ]
