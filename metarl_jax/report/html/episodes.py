"""Episodes before and after adaptation, side by side: paths, a body that plays, screens that play, pulls."""

from collections.abc import Iterator, Sequence

import jax
import numpy as np
from markupsafe import Markup

from metarl_jax.report.html.blocks import Block, Drawings, Frame, Plots, Screens, Section, Text
from metarl_jax.report.html.charts import GREY, Chart, Line, plot, ticks
from metarl_jax.report.html.material import Material, Subject
from metarl_jax.report.pictures.artists import (
    NUM_EPISODES,
    NUM_PATHS,
    NUM_TRIALS,
    before_and_after,
    labels,
    observations,
    pulled,
)
from metarl_jax.report.pictures.render import keys_of
from metarl_jax.report.pictures.screen import BACKGROUND, COLOURS, MILLISECONDS, first_planes
from metarl_jax.report.pictures.viewer import body_page
from metarl_jax.runs.run import Run
from metarl_jax.types import Array, Body, Key, Paths, Pulls, Screen, Task

_MOST = 3  # methods that are shown
_MOST_FRAMES = 400  # of a body: a longer episode is shown in larger steps
_MOST_SCREENS = 600
_MARGIN = 0.08  # of the width shown
_SIGNS = "0123456789abcdefghijklmnopqrstuvwxyz"


def episodes(material: Material) -> Section | None:
    """What the first run of each method does on a new task."""
    if not material.episodes:
        return None
    blocks = [block for subject in material.subjects[:_MOST] for block in _played(subject)]
    if len(material.subjects) > _MOST:
        blocks.append(Text(f"The first {_MOST} of {len(material.subjects)} methods are shown."))
    return Section("episodes", "Episodes before and after adaptation", blocks) if blocks else None


def _played(subject: Subject) -> Iterator[Block]:
    """A drawing of one run, or why there is none."""
    seed, run = next(iter(subject.runs.items()))
    title = f"{subject.name}, seed {seed}"
    loaded, told = run.loaded
    yield from (Text(f"{title}: {text}", "bad") for text in told)
    if loaded is not None:
        yield from draw(loaded, title)


def draw(run: Run, title: str, seed: int = 0) -> Iterator[Block]:
    """Draw a run on one held-out task as its family's ``picture`` says; nothing if it has none.

    Args:
      run: a trained run.
      title: what to call it.
      seed: of the task, its episodes and adaptation.
    """
    key_task, key_adapt, key_play = keys_of(seed)
    task = run.family.sample_held_out(key_task)
    match run.family.picture:
        case Paths() as picture:
            yield _paths(picture, run, task, title, key_adapt, key_play)
        case Body() as picture:
            yield _body(picture, run, task, title, key_adapt, key_play)
        case Screen() as picture:
            yield _screens(picture, run, task, title, key_adapt, key_play)
        case Pulls() as picture if run.algorithm.adaptation and run.algorithm.adaptation.is_trial:
            yield _pulls(picture, run, task, title, key_play)


def _paths(picture: Paths, run: Run, task: Task, title: str, key_adapt: Key, key_play: Key) -> Drawings:
    stages = before_and_after(run, task, key_adapt, key_play, NUM_EPISODES)
    positions = [np.asarray(picture.position(observations(played))[:, :NUM_PATHS]) for played in stages]
    goal = None if picture.goal is None else np.asarray(picture.goal(task))
    walls = [] if picture.walls is None else [np.asarray(line) for line in picture.walls(task)]
    points = [*(stage.reshape(-1, 2) for stage in positions), *walls, *([] if goal is None else [goal[None]])]
    view = _View(np.concatenate(points))
    panels = [
        {"title": label, "svg": _plane(view, stage, goal, walls)}
        for label, stage in zip(labels(stages), positions, strict=True)
    ]
    return Drawings(
        f"{title}: {NUM_PATHS} episodes, grid lines every {view.step:g}", panels, _star(np.zeros(2)), goal is not None
    )


class _View:
    """A square part of the plane, 1000 units wide, y upwards.

    Args:
      points: ``[N, 2]`` that it holds.
    """

    def __init__(self, points: np.ndarray) -> None:
        low, high = points.min(axis=0), points.max(axis=0)
        width = max(float((high - low).max()), 1e-6) * (1 + 2 * _MARGIN)
        self._corner = (low + high - width) / 2
        self._scale = 1000.0 / width
        self._grid = [ticks(float(start), float(start) + width, 6) for start in self._corner]
        self.step = self._grid[0][1] - self._grid[0][0]

    def place(self, points: np.ndarray) -> np.ndarray:
        """``[..., 2] -> [..., 2]``: on the drawing."""
        x, y = np.moveaxis((points - self._corner) * self._scale, -1, 0)
        return np.stack([x, 1000.0 - y], axis=-1).round(1)

    def grid_lines(self) -> Iterator[np.ndarray]:
        """``[2, 2]`` each, on the drawing: upright ones, then level ones."""
        for axis, places in enumerate(self._grid):
            for tick in places:
                ends = np.array([[0.0, 0.0], [1000.0, 1000.0]])
                ends[:, axis] = self.place(np.array([tick, tick]))[axis]
                yield ends


def _plane(view: _View, stage: np.ndarray, goal: np.ndarray | None, walls: Sequence[np.ndarray]) -> Markup:
    """What is drawn, from the back to the front: the grid, paths, walls, where they end, start, goal."""
    lines = [f'<path class="grid" d="{_line(segment)}"/>' for segment in view.grid_lines()]
    for i, path in enumerate(stage.swapaxes(0, 1)):
        placed = view.place(path)
        lines.append(f'<path class="c{i % 7}" d="{_line(placed)}"/>')
        lines.append(f'<circle class="c{i % 7}" cx="{placed[-1, 0]:g}" cy="{placed[-1, 1]:g}" r="13"/>')
    lines += [f'<path class="wall" d="{_line(view.place(line))}"/>' for line in walls]
    x, y = view.place(stage[0, 0])
    lines.append(
        f'<rect class="start" x="{x - 13:g}" y="{y - 13:g}" width="26" height="26"><title>start</title></rect>'
    )
    if goal is not None:
        lines.append(f'<path class="goal" d="{_star(view.place(goal))}"/>')
    return Markup("".join(lines))  # numbers alone: nothing to escape


def _line(points: np.ndarray) -> str:
    return "M" + "L".join(f"{x:g},{y:g}" for x, y in points)


def _star(centre: np.ndarray) -> str:
    angle = -np.pi / 2 + np.arange(10) * np.pi / 5
    radius = np.where(np.arange(10) % 2 == 0, 30.0, 12.0)
    return _line((centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)).round(1)) + "Z"


def _body(picture: Body, run: Run, task: Task, title: str, key_adapt: Key, key_play: Key) -> Frame:
    stages = before_and_after(run, task, key_adapt, key_play, 1)
    every = -(-len(stages[0].reward) // _MOST_FRAMES)
    before, after = (jax.tree.map(lambda x: x[::every, 0], played.state) for played in stages)
    page = body_page(picture._replace(dt=every * picture.dt), before, after, labels(stages))
    return Frame(title, page)


def _screens(picture: Screen, run: Run, task: Task, title: str, key_adapt: Key, key_play: Key) -> Screens:
    stages = before_and_after(run, task, key_adapt, key_play, 1)
    shown = [
        {"label": label, "frames": _frames(picture.planes(observations(played)[:, 0]))}
        for label, played in zip(labels(stages), stages, strict=True)
    ]
    colours = [f"rgb{colour}" for colour in (*COLOURS, BACKGROUND)]
    height, width = picture.planes(observations(stages[0])[:1, 0]).shape[1:3]
    size = {"width": int(width), "height": int(height), "milliseconds": MILLISECONDS}
    return Screens(title, {**size, "colours": colours, "episodes": shown})


def _frames(planes: Array) -> list[str]:
    """A sign for the colour of each pixel, row by row; a screen that stays the same ends the episode."""
    found = first_planes(np.asarray(planes)[:_MOST_SCREENS])
    frames = ["".join(_SIGNS[i] for i in frame.ravel()) for frame in found]
    while len(frames) > 1 and frames[-1] == frames[-2]:
        frames.pop()
    return frames


def _pulls(picture: Pulls, run: Run, task: Task, title: str, key_play: Key) -> Plots:
    trial = pulled(run, task, key_play)
    arms, pays = np.asarray(trial.action), np.asarray(picture.mean_reward(task))
    x = np.arange(1, len(arms) + 1)
    lines = [
        Line(f"arm that pays {pays[arm]:.2f}", x, (arms == arm).mean(axis=1), colour=rank)
        for rank, arm in enumerate(np.argsort(-pays)[:7])
    ]
    total = float(trial.reward.sum(0).mean())
    chance = Line("by chance", x, np.full(len(x), 1 / len(pays)), colour=GREY, style="dashed")
    chart = Chart(f"{title}: {NUM_TRIALS} trials, mean total {total:.2f}", "pull", "share of trials", [*lines, chance])
    return Plots([plot(chart)])
