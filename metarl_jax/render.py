"""Pictures of what a run does on one task, before and after it adapts: paths, bodies, games, pulls of arms."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from metarl_jax.config import ConfigError
from metarl_jax.ops import trees
from metarl_jax.rollout import rollout_trial
from metarl_jax.runs import Run
from metarl_jax.tasks.bandit_drawing import draw_pulls
from metarl_jax.tasks.drawing import animate_body
from metarl_jax.tasks.game_drawing import animate_screens
from metarl_jax.tasks.locomotion import BODIES, BodyName
from metarl_jax.tasks.navigation_drawing import draw_paths
from metarl_jax.tasks.viewer import view_body
from metarl_jax.types import Agent, Array, Key, Percept, PyTree, Task

NUM_PATHS = 20
NUM_TRIALS = 200


class Episode(NamedTuple):
    """One episode, or several with an axis behind the first.

    Attributes:
      state: ``[T, ...]`` of the environment after each step; an episode that has ended stays as it is.
      observation: ``[T + 1, ...]`` from the first on.
      reward: ``[T]``, zero after the end.
    """

    state: PyTree
    observation: Array
    reward: Array


def render(
    run: Run, path: str | Path | None = None, task: list[float] | None = None, seed: int = 0
) -> tuple[Path, str]:
    """Draw a run on one task before and after adaptation, in the way that suits its task family.

    Navigation: the paths of some episodes (PNG). A body or a game: one episode each (animated GIF; a body also as a
    page for the browser with Brax's viewer, HTML). A bandit: how often a memory pulls which arm (PNG).

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


def play(run: Run, agent: Agent, task: Task, key: Key) -> Episode:
    """One episode of an agent that does not adapt any more.

    Args:
      run: says which family and policy.
      agent: parameters, and memory of one lane.
      task: one task.
      key: of the start, the actions and the environment.

    Returns:
      The episode.
    """
    family, policy = run.family, run.policy
    key_reset, key_steps = jax.random.split(key)
    start, first = family.reset(task, key_reset)
    nothing = jnp.zeros((1,), int) if family.action.discrete else jnp.zeros((1, family.action.size))
    percept = Percept(first[None], nothing, jnp.zeros(1), jnp.ones(1))

    def step(loop: tuple, t: Array) -> tuple[tuple, tuple]:
        state, percept, carry, alive = loop
        key_act, key_env = jax.random.split(jax.random.fold_in(key_steps, t))
        action, _, _, carry = policy.act(agent.params, carry, percept, key_act)
        moved, seen, reward, terminated = family.step(task, state, action[0], key_env)
        state, seen = trees.where(alive, (moved, seen), (state, percept.observation[0]))
        reward = jnp.where(alive, jnp.asarray(reward, float), 0.0)
        percept = Percept(seen[None], action, reward[None], jnp.zeros(1))
        return (state, percept, carry, alive & ~terminated), (state, seen, reward)

    begin = (start, percept, agent.carry, jnp.array(True))
    _, (states, seen, rewards) = jax.lax.scan(step, begin, jnp.arange(family.horizon))
    return Episode(states, jnp.concatenate([first[None], seen]), rewards)


def _before_and_after(run: Run, task: Task, key_adapt: Key, key_play: Key, num: int) -> list[Episode]:
    """``num`` episodes side by side (second axis) of the meta-policy, and of what it adapts to."""
    adapted, _ = jax.jit(run.algorithm.adapt)(run.params, task, key_adapt)
    lane = adapted._replace(carry=jax.tree.map(lambda x: x[:1], adapted.carry))
    keys = jax.random.split(key_play, num)
    played = jax.jit(lambda agent: jax.vmap(lambda key: play(run, agent, task, key), out_axes=1)(keys))
    return [played(Agent(run.params, run.policy.initial_carry(1))), played(lane)]


def _labels(episodes: list[Episode]) -> tuple[str, str]:
    before, after = (float(episode.reward.sum(0).mean()) for episode in episodes)
    return f"before adaptation: return {before:.1f}", f"after adaptation: return {after:.1f}"


def _paths(run: Run, task: Task, path: Path, key_adapt: Key, key_play: Key) -> str:
    episodes = _before_and_after(run, task, key_adapt, key_play, NUM_PATHS)
    labels = _labels(episodes)
    walls = getattr(run.config.tasks, "gap_radius", 1.0)
    draw_paths([episode.observation for episode in episodes], task, path, labels, walls)
    return "; ".join(labels)


def _body(draw: Callable[..., None], run: Run, task: Task, path: Path, key_adapt: Key, key_play: Key) -> str:
    episodes = _before_and_after(run, task, key_adapt, key_play, 1)
    labels = _labels(episodes)
    before, after = (jax.tree.map(lambda x: x[:, 0], episode.state.physics) for episode in episodes)
    body = _body_name(run)
    assert body is not None
    draw(body, before, after, path, labels)
    return "; ".join(labels)


def _game(run: Run, task: Task, path: Path, key_adapt: Key, key_play: Key) -> str:
    episodes = _before_and_after(run, task, key_adapt, key_play, 1)
    labels = _labels(episodes)
    before, after = (np.asarray(episode.observation[:, 0]) for episode in episodes)
    animate_screens(before, after, path, labels)
    return "; ".join(labels)


def _pulls(run: Run, task: Task, path: Path, key_adapt: Key, key_play: Key) -> str:
    settings: Any = run.config.algorithm
    pulls = settings.episodes_per_trial
    trial, _ = jax.jit(lambda: rollout_trial(run.family, run.policy, run.params, task, key_play, pulls, NUM_TRIALS))()
    total = float(trial.reward.sum(0).mean())
    draw_pulls(np.asarray(trial.action), np.asarray(task.mean_reward), path, f"{NUM_TRIALS} trials: total {total:.2f}")
    return f"mean total of {NUM_TRIALS} trials: {total:.2f}"


def _artists(run: Run) -> dict[str, Callable[[Run, Task, Path, Key, Key], str]]:
    """What draws the run, by the kind of file; the usual kind first."""
    name = run.config.tasks.name
    if name.startswith("navigation"):
        return {".png": _paths}
    if _body_name(run) is not None:
        return {".gif": partial(_body, animate_body), ".html": partial(_body, view_body)}
    if name.startswith("minatar"):
        return {".gif": _game}
    if name.startswith("bandit") and run.policy.unroll is not None:
        return {".png": _pulls}
    raise ConfigError(
        f"there is no picture of {name} with this policy: navigation, bodies, games, and bandits with a memory have"
    )


def _body_name(run: Run) -> BodyName | None:
    settings: Any = run.config.tasks
    of_family = next((body for body in BODIES if settings.name.startswith(body)), None)
    return getattr(settings, "body", of_family)  # type: ignore[no-any-return]


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
