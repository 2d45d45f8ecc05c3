"""Pictures of a run: the right kind for each family, of the task that was asked for."""

import base64
import html
import json
import re
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from metarl_jax.config import ConfigError, config_from_dict
from metarl_jax.experiment import build
from metarl_jax.render import play, render
from metarl_jax.runs import Run
from metarl_jax.tasks.game_drawing import COLOURS, PIXEL
from metarl_jax.types import Agent


def untrained(tasks: dict, algorithm: dict, policy: dict | None = None) -> Run:
    config = config_from_dict(
        {
            "tasks": tasks,
            "algorithm": algorithm,
            "policy": policy or {"hidden_sizes": [4]},
            "training": {"episodes_per_task": 2, "meta_batch_size": 2},
        }
    )
    experiment = build(config)
    params = experiment.algorithm.init(jax.random.key(0)).params
    return Run(config, experiment.family, experiment.policy, experiment.algorithm, params, 0)


@pytest.fixture(scope="module")
def navigator() -> Run:
    return untrained({"name": "navigation_finn", "horizon": 6}, {"name": "maml"})


def test_a_navigation_run_becomes_paths(navigator: Run, tmp_path: Path) -> None:
    path, summary = render(navigator, tmp_path / "paths.png", [0.3, -0.2])
    assert path.read_bytes().startswith(b"\x89PNG")
    assert summary.startswith("before adaptation: return -")
    assert "; after adaptation: return -" in summary


def test_a_body_becomes_an_animation(tmp_path: Path) -> None:
    family = {"name": "ant_direction", "horizon": 4, "backend": "mujoco"}
    path, _ = render(untrained(family, {"name": "maml"}), tmp_path / "ant.gif", [-1.0])
    with Image.open(path) as picture:
        assert picture.n_frames == 2


def test_a_body_becomes_a_page_with_both_episodes(tmp_path: Path) -> None:
    """What the browser gets: for each episode the body's shapes, the clock of its steps, and where its links are."""
    family = {"name": "half_cheetah_direction", "horizon": 4, "backend": "mujoco"}
    run = untrained(family, {"name": "maml"})
    path, summary = render(run, tmp_path / "body.html", [1.0])
    page = path.read_text()
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert "; ".join(titles) == summary
    viewers = [html.unescape(source) for source in re.findall(r'srcdoc="(.*?)"', page, re.DOTALL)]
    episodes = []
    for viewer in viewers:
        (encoded,) = re.findall(r"eJ[A-Za-z0-9+/=]{1000,}", viewer)  # what zlib begins with, in base 64
        shown = json.loads(zlib.decompress(base64.b64decode(encoded)))
        assert shown["opt"]["timestep"] == pytest.approx(0.05)
        assert set(shown["geoms"]) >= {"torso", "bfoot", "ffoot", "world"}
        episodes.append(np.array([x["pos"] for x in shown["states"]["x"]]))
    assert [episode.shape for episode in episodes] == [(4, 7, 3), (4, 7, 3)]
    assert not np.array_equal(*episodes)


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


def test_an_episode_rests_where_it_ended(navigator: Run) -> None:
    """After termination nothing moves and nothing is earned; the task is the one given."""
    family = navigator.family._replace(
        step=lambda task, state, action, key: (state + 1, state + 1.0, task.goal[0], (state + 1)[0] >= 2)
    )
    agent = Agent(navigator.params, ())
    task = navigator.family.sample(jax.random.key(0))
    episode = jax.jit(lambda: play(navigator._replace(family=family), agent, task, jax.random.key(1)))()
    np.testing.assert_allclose(episode.observation[:, 0], [0, 1, 2, 2, 2, 2, 2])
    np.testing.assert_allclose(episode.reward, [task.goal[0], task.goal[0], 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("output", "task", "message"),
    [
        ("paths.gif", None, r"--output .*paths\.gif: end the name of a picture of navigation_finn in \.png"),
        ("paths.png", [1.0], r"--task 1.0: a task of navigation_finn has 2 numbers"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    navigator: Run, tmp_path: Path, output: str, task: list[float] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        render(navigator, tmp_path / output, task)


def test_a_family_without_a_picture_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no picture of bandit_bernoulli with this policy"):
        render(untrained({"name": "bandit_bernoulli"}, {"name": "maml"}))
