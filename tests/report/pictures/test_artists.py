"""Pictures of a run: the right kind for each family, of the task that was asked for."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metarl_jax.report.pictures.render import render
from metarl_jax.report.pictures.screen import COLOURS, PIXEL
from tests.helpers import untrained


def test_a_navigation_run_becomes_paths(tmp_path: Path) -> None:
    path, summary = render(
        untrained({"name": "navigation_finn", "horizon": 6}, {"name": "maml"}), tmp_path / "paths.png", [0.3, -0.2]
    )
    assert path.read_bytes().startswith(b"\x89PNG")
    assert summary.startswith("before adaptation: return -")
    assert "; after adaptation: return -" in summary


def test_a_body_becomes_an_animation(tmp_path: Path) -> None:
    family = {"name": "ant_direction", "horizon": 4, "backend": "mujoco"}
    path, _ = render(untrained(family, {"name": "maml"}), tmp_path / "ant.gif", [-1.0])
    with Image.open(path) as picture:
        assert picture.n_frames == 2


@pytest.mark.slow
def test_a_body_becomes_a_page_with_both_episodes(tmp_path: Path) -> None:
    """The page holds the body's shapes, the clock of its steps and where its links are, and refers to nothing else."""
    family = {"name": "half_cheetah_direction", "horizon": 4, "backend": "mujoco"}
    path, summary = render(untrained(family, {"name": "maml"}), tmp_path / "body.html", [1.0])
    page = path.read_text()
    assert not re.findall(r"https?:|//\w|src=|href=|import\(|fetch\(", page)
    (encoded,) = re.findall(r"const shown = (.*);", page)
    shown = json.loads(encoded)
    assert "; ".join(episode["label"] for episode in shown["episodes"]) == summary
    assert shown["dt"] == pytest.approx(0.05)
    assert [shape["link"] for shape in shown["shapes"]] == [0, 0, 1, 2, 3, 4, 5, 6]  # torso and head, then both legs
    episodes = [np.array(episode["frames"]) for episode in shown["episodes"]]
    assert [episode.shape for episode in episodes] == [(4, 7, 7), (4, 7, 7)]
    np.testing.assert_allclose(np.linalg.norm(episodes[0][..., 3:], axis=-1), 1.0, atol=1e-3)
    assert not np.array_equal(*episodes)


@pytest.mark.slow
def test_a_game_becomes_an_animation_of_both_screens(tmp_path: Path) -> None:
    """As many frames as screens; the player's plane, the first, is on both halves of the first frame."""
    pytest.importorskip("gymnax")
    family = {"name": "minatar_variants", "game": "breakout", "horizon": 5}
    run = untrained(family, {"name": "maml"}, {"name": "conv", "channels": [2], "hidden_sizes": [4]})
    path, _ = render(run, tmp_path / "game.gif")
    with Image.open(path) as picture:
        assert 1 < picture.n_frames <= 6  # Pillow drops a frame that equals the one before
        first = np.asarray(picture.convert("RGB")).astype(int)
    is_player = np.abs(first - COLOURS[0]).max(axis=-1) < 12
    half = first.shape[1] // 2
    assert is_player[:, :half].sum() == is_player[:, half:].sum() == PIXEL**2


def test_a_bandit_becomes_a_chart_of_pulls(tmp_path: Path) -> None:
    settings = {"name": "rl2", "episodes_per_trial": 3, "num_minibatches": 1}
    run = untrained({"name": "bandit_bernoulli"}, settings, {"name": "recurrent", "hidden_size": 4})
    path, summary = render(run, tmp_path / "pulls.png", [0.0, 0.0, 1.0, 1.0, 1.0])
    assert path.read_bytes().startswith(b"\x89PNG")
    assert float(summary.rpartition(" ")[2]) == pytest.approx(1.8, abs=0.3)  # random pulls: 0.6 each
