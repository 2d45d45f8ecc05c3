"""Pictures of a run: the right kind for each family, of the task that was asked for."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from metarl_jax.algorithms import maml
from metarl_jax.config import ConfigError, config_from_dict
from metarl_jax.networks import mlp_policy
from metarl_jax.report.pictures.render import render
from metarl_jax.report.pictures.screen import COLOURS, PIXEL
from metarl_jax.runs.build import build
from metarl_jax.runs.run import Run
from metarl_jax.tasks.wrappers.oracle import with_oracle
from metarl_jax.types import ActionSpec, Array, Paths, TaskFamily


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


@pytest.mark.parametrize("oracle", [False, True])
def test_a_family_of_a_user_is_drawn_as_it_declares(tmp_path: Path, oracle: bool) -> None:
    """Paths of what no family of ours has: the position behind another number, a task that is one, no goal."""
    seen = []

    def position(observation: Array) -> Array:
        seen.append(observation.shape)
        return observation[..., 1:]

    run = untrained({"name": "navigation_finn", "horizon": 6, "oracle": oracle}, {"name": "maml"})
    own = TaskFamily(
        sample=jax.random.uniform,
        sample_held_out=jax.random.uniform,
        reset=lambda task, key: (jnp.zeros(2), jnp.zeros(3)),
        step=lambda task, state, action, key: (state + action, jnp.array([task, *(state + action)]), task, task > 2),
        observation_shape=(3,),
        action=ActionSpec(2),
        horizon=6,
        picture=Paths(position),
    )
    family = with_oracle(own) if oracle else own
    policy = mlp_policy(family.observation_shape, family.action, hidden_sizes=(4,))
    algorithm = maml(family, policy, optax.sgd(0.1), episodes_per_task=2)
    params = algorithm.init(jax.random.key(0)).params
    path, _ = render(
        run._replace(family=family, policy=policy, algorithm=algorithm, params=params), tmp_path / "own.png"
    )
    assert path.read_bytes().startswith(b"\x89PNG")
    assert seen == [(7, 20, 3)] * 2  # before and after: 20 episodes, from the first observation to the last


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


@pytest.mark.parametrize("name", ["bandit_bernoulli", "tabular_mdp"])
def test_a_family_without_a_picture_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"there is no picture of {name} with this method"):
        render(untrained({"name": name}, {"name": "maml"}))
