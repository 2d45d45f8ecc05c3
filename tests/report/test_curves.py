"""Curves: pictures that open and are not empty, and gaps where a number is missing."""

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from metarl_jax.report.curves import plot_adaptation, plot_training
from tests.helpers import EVALUATION, SUMMARY


def test_pictures_open(tmp_path: Path) -> None:
    rows = [{"env_steps": i, "return_pre": None if i == 1 else -1.0, "return_post": 1.0} for i in range(3)]
    plot_adaptation(EVALUATION, tmp_path / "a.png", "title")
    plot_adaptation({**EVALUATION, "optimum": -5.0}, tmp_path / "optimum.png", "title")
    bayes = {**EVALUATION, "optimum": -5.0, "bayes_optimum": [-30.0, -6.0]}
    plot_adaptation(bayes, tmp_path / "bayes.png", "title")
    plot_training(rows, tmp_path / "t.png", "title")
    evaluated = [{**row, "evaluation_return_post": 0.5, "validation_return_post": None} for row in rows[::2]]
    plot_training([*rows[:2], *evaluated], tmp_path / "evaluated.png", "title")
    many = {name: numbers * 10 for name, numbers in SUMMARY.items()}
    long = {**EVALUATION, **many, "gradient_steps": list(range(20)), "random_initialisation": many}
    plot_adaptation(long, tmp_path / "long.png", "title")
    for name in ("a.png", "optimum.png", "long.png", "t.png"):
        assert imread(tmp_path / name).std() > 0.01  # not one colour
    assert (imread(tmp_path / "a.png") != imread(tmp_path / "optimum.png")).any()
    assert (imread(tmp_path / "bayes.png") != imread(tmp_path / "optimum.png")).any()
    assert (imread(tmp_path / "t.png") != imread(tmp_path / "evaluated.png")).any()


def test_a_long_title_is_not_cut(tmp_path: Path) -> None:
    title = "promp on navigation_corner, at iteration 40 of 100, at 60 patience ended training, by the policy's mode"
    row = {"env_steps": 1, "return_pre": -1.0, "return_post": 1.0}
    plot_adaptation(EVALUATION, tmp_path / "adaptation.png", title)
    plot_training([row], tmp_path / "training.png", title)
    for name in ("adaptation.png", "training.png"):
        above = imread(tmp_path / name)[:45, :, :3]
        assert above.min() < 0.5, "there is a title"
        assert above[:, [*range(4), *range(-4, 0)]].min() == 1.0, "and it ends before the edge"


def test_a_diverged_run_says_so_in_its_picture(tmp_path: Path) -> None:
    """In the colour of what is wrong: a title, and lost updates shaded."""
    rows = [{"env_steps": i, "return_pre": -1.0, "return_post": 1.0, "skipped": 0.0} for i in range(40)]
    lost = [*rows[:5], *({**row, "skipped": 1.0} for row in rows[5:])]
    reddish = []
    for name, shown in (("well", rows), ("badly", lost)):
        plot_training(shown, tmp_path / f"{name}.png", "title")
        red, green, blue = np.moveaxis(imread(tmp_path / f"{name}.png")[..., :3], -1, 0)
        reddish.append(((red > green + 0.05) & (red > blue + 0.05)).mean())
    assert reddish[0] == 0
    assert reddish[1] > 0.3
