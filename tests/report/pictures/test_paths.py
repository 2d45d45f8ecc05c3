"""Pictures of paths."""

import jax
import numpy as np
import pytest
from PIL import Image

from metarl_jax.report.pictures.paths import PANEL, draw_paths
from metarl_jax.tasks.navigation.momentum import navigation_momentum
from metarl_jax.tasks.navigation.walls import navigation_walls, wall_arcs


@pytest.mark.parametrize("make", [navigation_momentum, navigation_walls])
def test_a_panel_for_each_stage(make, tmp_path):
    """Of the size asked for, and not blank; momentum's observations are longer than a position."""
    family = make()
    observations = np.random.default_rng(0).normal(size=(5, 3, *family.observation_shape))
    task, picture = family.sample(jax.random.key(0)), family.picture
    paths, walls = picture.position(observations), picture.walls(task) if picture.walls else ()
    assert len(walls) == (2 if make is navigation_walls else 0)
    file = tmp_path / "paths.png"
    draw_paths([paths] * 3, file, labels=("0", "1", "2"), goal=picture.goal(task), walls=walls)
    image = Image.open(file)
    assert image.size == (round(3 * PANEL * 100), round(PANEL * 100 + 30))
    assert len(np.unique(np.asarray(image).reshape(-1, 4), axis=0)) > 10


def test_walls_are_open_where_their_gaps_are():
    inner, outer = wall_arcs(np.array([[0.0, -1.0], [2.0, 0.0]]), gap_radius=1.0)
    np.testing.assert_allclose(np.linalg.norm(inner, axis=1), 1.0)
    np.testing.assert_allclose(np.linalg.norm(outer, axis=1), 2.0)
    assert (np.linalg.norm(inner - [0.0, -1.0], axis=1) > 1.0).all()
    assert (np.linalg.norm(outer - [2.0, 0.0], axis=1) > 1.0).all()
    assert (np.linalg.norm(np.diff(inner, axis=0), axis=1) < 0.05).all()  # one piece, in order


def test_labels_must_match(tmp_path):
    with pytest.raises(ValueError, match=r"labels = .*: give one for each of 1 stages"):
        draw_paths([np.zeros((2, 1, 2))], tmp_path / "paths.png")
