"""Pictures of what a run does on one task, before and after it adapts: paths, bodies, games, pulls of arms."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from metarl_jax.checks import checked
from metarl_jax.collect.rollout import rollout, rollout_trial
from metarl_jax.config import ConfigError
from metarl_jax.report.pictures.body import animate_body
from metarl_jax.report.pictures.paths import draw_paths
from metarl_jax.report.pictures.pulls import draw_pulls
from metarl_jax.report.pictures.screen import animate_screens
from metarl_jax.report.pictures.viewer import view_body
from metarl_jax.runs.build import declared_adaptation
from metarl_jax.runs.run import Run
from metarl_jax.types import Agent, Array, Body, Key, Paths, Pulls, Screen, Seed, Task, Trajectory

Artist = Callable[[Run, Task, Path, Key, Key], str]
NUM_PATHS = 20
NUM_TRIALS = 200


@checked
def render(
    run: Run, path: str | Path | None = None, task: list[float] | None = None, seed: Seed = 0
) -> tuple[Path, str]:
    """Draw a run on one task before and after adaptation, as the ``picture`` of its task family says.

    Paths of some episodes (PNG). A body or a game: one episode each (animated GIF; a body also in three dimensions, as
    a page for the browser, HTML). Pulls: how often a memory pulls which arm of a bandit (PNG).

    Args:
      run: a trained run.
      path: the file to write; by default named after the task family, in the working directory.
      task: the numbers that describe the task; a held-out one is drawn if None.
      seed: of the task, its episodes and adaptation.

    Returns:
      The file, and a sentence about the returns.

    Raises:
      ConfigError: if the family has no picture, or ``task`` does not have as many numbers as one of its tasks.
    """
    key_task, key_adapt, key_play = jax.random.split(jax.random.key(seed), 3)
    chosen = _chosen_task(run, task, key_task)
    name = run.config.tasks.name
    artists = _artists(run)
    path = Path(f"{name}{next(iter(artists))}" if path is None else path)
    if path.suffix not in artists:
        raise ConfigError(f"--output {path}: end the name of a picture of {name} in {' or '.join(artists)}")
    return path, artists[path.suffix](run, chosen, path, key_adapt, key_play)


def _artists(run: Run) -> dict[str, Artist]:
    """What draws the run, by the kind of file; the usual kind first."""
    match run.family.picture:
        case Paths() as picture:
            return {".png": partial(_paths, picture)}
        case Body() as picture:
            return {".gif": partial(_body, animate_body, picture), ".html": partial(_body, view_body, picture)}
        case Screen() as picture:
            return {".gif": partial(_screen, picture)}
        case Pulls() as picture if run.algorithm.adaptation and run.algorithm.adaptation.unit == "episode":
            return {".png": partial(_pulls, picture)}
    raise ConfigError(
        f"there is no picture of {run.config.tasks.name} with this method: a family needs a picture "
        "(metarl_jax.types.TaskFamily), and one of pulls a method that adapts by remembering episodes"
    )


def _before_and_after(run: Run, task: Task, key_adapt: Key, key_play: Key, num: int) -> list[Trajectory]:
    """``num`` episodes of the meta-policy, and of what it adapts to."""
    adapted, _ = jax.jit(run.algorithm.adapt)(run.params, task, key_adapt)

    @jax.jit
    def play(agent: Agent) -> Trajectory:
        carry = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], (num, *x.shape[1:])), agent.carry)
        return rollout(run.family, run.policy, agent.params, task, key_play, num, carry=carry, keep_states=True)

    return [play(Agent(run.params, run.policy.initial_carry(1))), play(adapted)]


def _observations(played: Trajectory) -> Array:
    """From the first to the last, ``[T + 1, B, ...]``."""
    return jnp.concatenate([played.percept.observation, played.final_percept.observation[None]])


def _labels(stages: list[Trajectory]) -> tuple[str, str]:
    before, after = (float(played.reward.sum(0).mean()) for played in stages)
    return f"before adaptation: return {before:.1f}", f"after adaptation: return {after:.1f}"


def _paths(picture: Paths, run: Run, task: Task, path: Path, key_adapt: Key, key_play: Key) -> str:
    stages = _before_and_after(run, task, key_adapt, key_play, NUM_PATHS)
    labels = _labels(stages)
    goal = None if picture.goal is None else picture.goal(task)
    walls = () if picture.walls is None else picture.walls(task)
    draw_paths([picture.position(_observations(played)) for played in stages], path, labels, goal=goal, walls=walls)
    return "; ".join(labels)


def _body(
    draw: Callable[..., None], picture: Body, run: Run, task: Task, path: Path, key_adapt: Key, key_play: Key
) -> str:
    stages = _before_and_after(run, task, key_adapt, key_play, 1)
    labels = _labels(stages)
    before, after = (jax.tree.map(lambda x: x[:, 0], played.state) for played in stages)
    draw(picture, before, after, path, labels)
    return "; ".join(labels)


def _screen(picture: Screen, run: Run, task: Task, path: Path, key_adapt: Key, key_play: Key) -> str:
    stages = _before_and_after(run, task, key_adapt, key_play, 1)
    labels = _labels(stages)
    before, after = (np.asarray(picture.planes(_observations(played)[:, 0])) for played in stages)
    animate_screens(before, after, path, labels)
    return "; ".join(labels)


def _pulls(picture: Pulls, run: Run, task: Task, path: Path, key_adapt: Key, key_play: Key) -> str:
    pulls = declared_adaptation(run.config, run.algorithm).trained + 1
    trial, _ = jax.jit(lambda: rollout_trial(run.family, run.policy, run.params, task, key_play, pulls, NUM_TRIALS))()
    total = float(trial.reward.sum(0).mean())
    title = f"{NUM_TRIALS} trials: total {total:.2f}"
    draw_pulls(np.asarray(trial.action), np.asarray(picture.mean_reward(task)), path, title)
    return f"mean total of {NUM_TRIALS} trials: {total:.2f}"


def _chosen_task(run: Run, numbers: list[float] | None, key: Key) -> Task:
    drawn = run.family.sample_held_out(key)
    if numbers is None:
        return drawn
    flat, unravel = ravel_pytree(drawn)
    if len(numbers) != flat.size:
        raise ConfigError(
            f"--task {','.join(map(str, numbers))}: a task of {run.config.tasks.name} has {flat.size} numbers"
        )
    return unravel(jnp.asarray(numbers, flat.dtype))
