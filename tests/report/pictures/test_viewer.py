"""The page of a body in three dimensions: its shapes; what a page holds is in test_render.py."""

from pathlib import Path

import mujoco
import numpy as np
import pytest

from metarl_jax.report.pictures.viewer import body_shapes, view_body
from metarl_jax.types import Body

MODEL = mujoco.MjModel.from_xml_string("""
<mujoco>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1"/>
    <geom name="post" type="box" size="0.1 0.2 0.3" pos="2 0 0"/>
    <body name="torso">
      <geom type="sphere" size="0.5"/>
      <geom type="capsule" size="0.1 0.4"/>
      <geom type="cylinder" size="0.2 0.3" pos="0 1 0" quat="0 1 0 0"/>
      <geom type="ellipsoid" size="0.1 0.2 0.3"/>
      <geom type="sphere" size="9" group="3"/>
    </body>
  </worldbody>
</mujoco>
""")
VOLUMES = [8 * 0.006, np.pi * 0.125 * 4 / 3, np.pi * (0.01 * 0.8 + 0.001 * 4 / 3), np.pi * 0.04 * 0.6, np.pi * 0.008]


def test_shapes_are_closed_and_as_large_as_the_geometries() -> None:
    """By the divergence theorem over their faces: a face that points inwards would count negative."""
    shapes = body_shapes(MODEL)
    assert [shape["link"] for shape in shapes] == [-1, 0, 0, 0, 0]
    for shape, volume in zip(shapes, VOLUMES, strict=True):
        corners = np.array(shape["vertices"])[np.array(shape["faces"])]
        normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]) / 2
        centre = corners.mean(axis=(0, 1))
        outwards = np.sum((corners.mean(axis=1) - centre) * normals, axis=-1)
        assert (outwards > -1e-9).all()
        assert outwards.sum() / 3 == pytest.approx(volume, rel=0.12)  # of a few faces each


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    body = Body(MODEL, lambda state: (np.zeros((1, 1, 3)), np.ones((1, 1, 4))), 0.1)
    with pytest.raises(ValueError, match=r"path = '.*page\.gif': name a file that ends in \.html"):
        view_body(body, (), (), tmp_path / "page.gif")
    assert not list(tmp_path.iterdir())
