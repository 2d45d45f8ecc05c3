"""What a run does on one task, before and after it adapts: an artist for each kind of picture."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.collect.rollout import rollout, rollout_trial
from metarl_jax.report.pictures.paths import draw_paths
from metarl_jax.report.pictures.pulls import draw_pulls
from metarl_jax.report.pictures.screen import animate_screens
from metarl_jax.report.text import decimals, number
from metarl_jax.runs.build import declared_adaptation
from metarl_jax.runs.run import Run
from metarl_jax.types import Agent, Array, Body, Key, Paths, Pulls, Screen, Task, Trajectory

Artist = Callable[[Run, Task, Path, Key, Key], str]
"""``(run, task, path, key_adapt, key_play) -> sentence``: writes the picture and says what the returns are."""

NUM_EPISODES = 20
NUM_PATHS = 3
NUM_TRIALS = 200


def paths(picture: Paths, run: Run, task: Task, path: Path, key_adapt: Key, key_play: Key) -> str:
    """The paths of a few episodes, before and after adaptation; their returns are means over more."""
    stages = _before_and_after(run, task, key_adapt, key_play, NUM_EPISODES)
    labels = _labels(stages)
    goal = None if picture.goal is None else picture.goal(task)
    walls = () if picture.walls is None else picture.walls(task)
    positions = [picture.position(_observations(played))[:, :NUM_PATHS] for played in stages]
    draw_paths(positions, path, labels, goal=goal, walls=walls)
    return "; ".join(labels)


def body(
    draw: Callable[..., None], picture: Body, run: Run, task: Task, path: Path, key_adapt: Key, key_play: Key
) -> str:
    """One episode of a body before adaptation and one after it, as ``draw`` shows them."""
    stages = _before_and_after(run, task, key_adapt, key_play, 1)
    labels = _labels(stages)
    before, after = (jax.tree.map(lambda x: x[:, 0], played.state) for played in stages)
    draw(picture, before, after, path, labels)
    return "; ".join(labels)


def screen(picture: Screen, run: Run, task: Task, path: Path, key_adapt: Key, key_play: Key) -> str:
    """The screens of one episode of a game, before and after adaptation."""
    stages = _before_and_after(run, task, key_adapt, key_play, 1)
    labels = _labels(stages)
    before, after = (np.asarray(picture.planes(_observations(played)[:, 0])) for played in stages)
    animate_screens(before, after, path, labels)
    return "; ".join(labels)


def pulls(picture: Pulls, run: Run, task: Task, path: Path, key_adapt: Key, key_play: Key) -> str:
    """How often a memory pulls which arm of a bandit."""
    num_pulls = declared_adaptation(run.config, run.algorithm).trained + 1
    trial, _ = jax.jit(
        lambda: rollout_trial(run.family, run.policy, run.params, task, key_play, num_pulls, NUM_TRIALS)
    )()
    total = float(trial.reward.sum(0).mean())
    words = f"mean total of {NUM_TRIALS} trials: {total:.2f}"
    draw_pulls(np.asarray(trial.action), np.asarray(picture.mean_reward(task)), path, words)
    return words


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
    places = decimals(before, after)
    return f"before adaptation: return {number(before, places)}", f"after adaptation: return {number(after, places)}"
