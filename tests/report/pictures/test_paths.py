"""Pictures of paths."""

import jax
import numpy as np
import pytest
from PIL import Image

from metarl_jax.report.pictures.paths import COLOURS, GOAL, HEAD_AND_LEGEND, PANEL, START, draw_paths
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
    assert image.size == (round(3 * PANEL * 100), round(100 * (PANEL + HEAD_AND_LEGEND)))
    assert len(np.unique(np.asarray(image).reshape(-1, 4), axis=0)) > 10


def pixels(image: np.ndarray, colour: str) -> int:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((image[..., :3] == rgb).all(axis=-1).sum())


def test_each_episode_has_a_colour_and_start_and_goal_are_on_top(tmp_path):
    """Where all paths pass over both, again and again, both are still seen whole."""
    there_and_back = np.concatenate([np.linspace(0, 1, 9), np.linspace(1, 0, 9)] * 20)
    paths = there_and_back[:, None, None] * np.ones((1, 3, 2)) + np.linspace(-0.01, 0.01, 3)[:, None]
    apart = np.array([0.0, 1.0])[:, None, None] * np.array([[0.3, 0.9], [0.6, 0.6], [0.9, 0.2]])
    seen = {}
    for name, shown in (("crossed", paths), ("apart", apart)):
        draw_paths([shown], tmp_path / f"{name}.png", labels=("",), goal=np.ones(2))
        seen[name] = np.asarray(Image.open(tmp_path / f"{name}.png"))
    for colour in (GOAL, START):
        assert pixels(seen["crossed"], colour) == pytest.approx(pixels(seen["apart"], colour), rel=0.1)
    assert min(pixels(seen["apart"], colour) for colour in COLOURS[:3]) > 20


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
