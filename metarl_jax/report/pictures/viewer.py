"""A body in three dimensions: two episodes side by side, as one page for the browser that needs nothing else."""

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl_jax.checks import checked
from metarl_jax.report.pictures.body import link_colour, rotate
from metarl_jax.types import Body, EnvState, require

if TYPE_CHECKING:
    from mujoco import MjModel

_PLANE, _SPHERE, _CAPSULE, _ELLIPSOID, _CYLINDER = 0, 2, 3, 4, 5  # of MuJoCo's geometries
_FIRST_HIDDEN_GROUP = 3  # MuJoCo's own viewer hides what is there for collisions only
_AROUND, _ALONG = 14, 10  # vertices of a round shape; an even number along, for none is on its equator


@checked
def view_body(
    body: Body,
    states_before: EnvState,
    states_after: EnvState,
    path: str | Path,
    labels: tuple[str, str] = ("before adaptation", "after adaptation"),
) -> None:
    """Save two episodes as a page that plays them: turn, zoom, pause, go to any moment.

    Args:
      body: the ``picture`` of the family.
      states_before: of one episode, with a leading axis ``T``.
      states_after: of another one; the shorter one rests at its end.
      path: the HTML file to write.
      labels: above the first and above the second.

    Raises:
      ValueError: if ``path`` does not end in ``.html``.

    Example:
      >>> import jax, tempfile
      >>> from metarl_jax.tasks.locomotion.half_cheetah import half_cheetah_direction
      >>> family = half_cheetah_direction()
      >>> state, _ = jax.jit(family.reset)(1.0, jax.random.key(0))
      >>> still = jax.tree.map(lambda leaf: leaf[None], state)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     view_body(family.picture, still, still, f"{folder}/still.html")
    """
    require(Path(path).suffix == ".html", "path", str(path), "name a file that ends in .html")
    Path(path).write_text(body_page(body, states_before, states_after, labels), encoding="utf-8")


def body_page(body: Body, states_before: EnvState, states_after: EnvState, labels: tuple[str, str]) -> str:
    """The page of :func:`view_body` as text, for another page to hold."""
    episodes = [
        {"label": label, "frames": _frames(body, states)}
        for label, states in zip(labels, (states_before, states_after), strict=True)
    ]
    shown = json.dumps({"dt": body.dt, "shapes": body_shapes(body.model), "episodes": episodes}, separators=(",", ":"))
    page = files("metarl_jax.report.pictures").joinpath("viewer.html").read_text(encoding="utf-8")
    return page.replace("{{shown}}", shown.replace("<", r"\u003c"))


def body_shapes(model: "MjModel") -> list[dict[str, Any]]:
    """The visible geometries of a model as polygons; a mesh is the box around it, and planes are left to the page.

    Args:
      model: see :class:`metarl_jax.types.Body`.

    Returns:
      JSON: for each the ``link`` that it is fixed to (-1: the world), its ``colour``, ``vertices`` ``[V][3]`` in the
      frame of that link, metres, and ``faces``, the indices of each one's corners, counter-clockwise from outside.

    Example:
      >>> from metarl_jax.tasks.locomotion.half_cheetah import half_cheetah_direction
      >>> len(body_shapes(half_cheetah_direction().picture.model))
      8
    """
    shapes = []
    for i in np.flatnonzero((model.geom_type != _PLANE) & (model.geom_group < _FIRST_HIDDEN_GROUP)).tolist():
        vertices, faces = _polygons(model, i)
        placed = model.geom_pos[i] + rotate(model.geom_quat[i], vertices)
        link = int(model.geom_bodyid[i]) - 1
        colour = link_colour(model, link)
        shapes.append({"link": link, "colour": colour, "vertices": placed.round(4).tolist(), "faces": faces})
    return shapes


def _polygons(model: "MjModel", geom: int) -> tuple[np.ndarray, list[list[int]]]:
    """Vertices ``[V, 3]`` in the geometry's own frame, and faces."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind not in (_SPHERE, _CAPSULE, _ELLIPSOID, _CYLINDER):
        centre, half = np.split(model.geom_aabb[geom], 2)
        return centre + half * _BOX, _BOX_FACES
    polar = np.linspace(0.0, np.pi, _ALONG)
    radius, height = np.sin(polar), np.cos(polar)
    if kind == _CYLINDER:
        radius, height = np.array([0.0, 1.0, 1.0, 0.0]), np.array([1.0, 1.0, -1.0, -1.0])
    angle = np.linspace(0.0, 2.0 * np.pi, _AROUND, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    rings = [np.insert(r * circle, 2, h, axis=1) for r, h in zip(radius, height, strict=True)]
    unit = np.concatenate(rings)
    scale = {_SPHERE: size[[0, 0, 0]], _CAPSULE: size[[0, 0, 0]], _CYLINDER: size[[0, 0, 1]]}.get(kind, size)
    vertices = unit * scale
    if kind == _CAPSULE:  # the two halves of a sphere, apart; the ring between them becomes the side
        vertices[:, 2] += size[1] * np.sign(unit[:, 2])
    return vertices, _bands(len(rings))


def _bands(num_rings: int) -> list[list[int]]:
    """Faces between each ring of vertices and the next."""
    corners = [(i * _AROUND, j, (j + 1) % _AROUND) for i in range(num_rings - 1) for j in range(_AROUND)]
    return [[ring + j, ring + _AROUND + j, ring + _AROUND + k, ring + k] for ring, j, k in corners]


_BOX = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
_BOX_FACES = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]


def _frames(body: Body, states: EnvState) -> list[list[list[float]]]:
    """``[T][L][7]``: position and rotation of each link at each step."""
    position, rotation = map(np.asarray, body.poses(states))
    return np.concatenate([position, rotation], axis=-1).astype(float).round(4).tolist()  # type: ignore[no-any-return]
