"""A picture of a run on one task: which artist draws it, of which task, into which file."""

from functools import partial
from pathlib import Path

import jax

from metarl_jax.checks import checked
from metarl_jax.config import ConfigError
from metarl_jax.report.pictures import artists
from metarl_jax.report.pictures.artists import Artist
from metarl_jax.report.pictures.body import animate_body
from metarl_jax.report.pictures.viewer import view_body
from metarl_jax.runs.build import Experiment
from metarl_jax.runs.directory import picture_file
from metarl_jax.runs.one_task import task_of_numbers
from metarl_jax.runs.run import Run
from metarl_jax.types import Body, Key, Paths, Pulls, Screen, Seed, Task


@checked
def render(
    run: Run, path: str | Path | None = None, task: list[float] | None = None, seed: Seed = 0
) -> tuple[Path, str]:
    """Draw a run on one task before and after adaptation, as the ``picture`` of its task family says.

    Paths of some episodes (PNG). A body or a game: one episode each (animated GIF; a body also in three dimensions, as
    a page for the browser, HTML). Pulls: how often a memory pulls which arm of a bandit (PNG).

    Args:
      run: a trained run.
      path: the file to write, or a folder, the working directory if None: in it,
        :func:`metarl_jax.runs.directory.picture_file`.
      task: the numbers that describe the task; a held-out one is drawn if None.
      seed: of the task, its episodes and adaptation.

    Returns:
      The file, and a sentence about the returns.

    Raises:
      ConfigError: if the family has no picture, or ``task`` does not have as many numbers as one of its tasks.
    """
    key_task, key_adapt, key_play = keys_of(seed)
    chosen = _chosen_task(run, task, key_task)
    name = run.config.tasks.name
    drawings = _drawings(run)
    if not drawings:
        raise ConfigError(
            f"there is no picture of {name} with this method: a family needs a picture "
            "(metarl_jax.types.TaskFamily), and one of pulls a method that adapts by remembering episodes"
        )
    place = Path(path or ".")
    file = picture_file(place, next(iter(drawings))) if place.is_dir() else place
    if file.suffix not in drawings:
        raise ConfigError(f"--output {file}: end the name of a picture of {name} in {' or '.join(drawings)}")
    return file, drawings[file.suffix](run, chosen, file, key_adapt, key_play)


def can_be_drawn(of: Run | Experiment) -> bool:
    """Whether there is a picture of a family with a method."""
    return bool(_drawings(of))


def keys_of(seed: int) -> tuple[Key, Key, Key]:
    """What draws the task, what happens while a run adapts to it, and in the episodes that are shown."""
    key_task, key_adapt, key_play = jax.random.split(jax.random.key(seed), 3)
    return key_task, key_adapt, key_play


def _drawings(run: Run | Experiment) -> dict[str, Artist]:
    """What draws the run, by the kind of file, the usual kind first; nothing if there is no picture."""
    match run.family.picture:
        case Paths() as picture:
            return {".png": partial(artists.paths, picture)}
        case Body() as picture:
            return {
                ".gif": partial(artists.body, animate_body, picture),
                ".html": partial(artists.body, view_body, picture),
            }
        case Screen() as picture:
            return {".gif": partial(artists.screen, picture)}
        case Pulls() as picture if run.algorithm.adaptation and run.algorithm.adaptation.is_trial:
            return {".png": partial(artists.pulls, picture)}
    return {}


def _chosen_task(run: Run, numbers: list[float] | None, key: Key) -> Task:
    return run.family.sample_held_out(key) if numbers is None else task_of_numbers(run, numbers)
