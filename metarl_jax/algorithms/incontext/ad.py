"""Algorithm distillation: a policy with a memory imitates a learner that learns (Laskin et al., 2022)."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.adaptation import Remake, Settings, adapts
from metarl_jax.algorithms.gradient.assembly import collect_chunk
from metarl_jax.algorithms.incontext.core import Examples, supervised
from metarl_jax.algorithms.incontext.optimistic_search import optimistic_search
from metarl_jax.algorithms.incontext.q_learning import q_learning
from metarl_jax.algorithms.memory.core import by_episodes
from metarl_jax.algorithms.memory.views import make_evaluate
from metarl_jax.checks import checked, passes_on
from metarl_jax.collect.rollout import rollout_trial
from metarl_jax.networks.masked import masked_policy
from metarl_jax.tasks.wrappers.ends import with_ends, without_end
from metarl_jax.types import (
    Adaptation,
    Array,
    Key,
    MetaAlgorithm,
    Params,
    Percept,
    Policy,
    PositiveInt,
    PyTree,
    Task,
    TaskChunk,
    TaskFamily,
    Trajectory,
)

SourceName = Literal["q_learning", "optimistic_search"]
SOURCES: Mapping[SourceName, Callable[..., Policy]] = {"q_learning": q_learning, "optimistic_search": optimistic_search}
"""Learners that a config file can ask for, made for a family, which they play :func:`with_ends` of."""


def by_history(settings: Settings, remake: Remake) -> Adaptation:
    """Episodes, as the method is tested; in training the source plays all those that are left out, too."""
    adaptation = by_episodes(settings, remake)
    return adaptation._replace(stages_per_update=adaptation.stages_per_update * int(settings["keep_every"]))


@checked
@passes_on(SOURCES, chosen_by="source")
@adapts(by_history)
def ad(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    episodes_per_trial: PositiveInt = 2,
    episodes_per_task: PositiveInt = 1,
    keep_every: PositiveInt = 1,
    bptt_length: PositiveInt | None = None,
    task_chunk: TaskChunk = None,
    source: SourceName | Policy = "q_learning",
    **options: Any,
) -> MetaAlgorithm:
    """Algorithm distillation: predict the actions of a source learner from all that it has seen in its whole history.

    In every update the source learns each task from nothing. Whoever can tell what it does next from its history does
    what it does: learns, and in fewer episodes if some are left out of the histories.

    Args:
      family: where tasks come from.
      policy: what is trained; it needs a memory.
      episodes_per_trial: n, episodes of a history, those that are left out not counted, and of a trial when it is
        tested.
      episodes_per_task: B, learners on each task, side by side.
      keep_every: of so many episodes of the source one is in the history, the first; the source plays
        ``n * keep_every``.
      bptt_length: stop gradients through the memory every so many steps; back-propagate through whole histories if
        left out.
      task_chunk: play at most this many tasks at a time, to save memory; if left out, all on accelerators and what
        fits the cache on CPUs; ``auto``: as many as fit the memory.
      source: who learns: ``q_learning``, in a table; ``optimistic_search``, by one who knows where actions lead. In
        Python also a policy of your own whose memory is what it has learned, with parameters drawn for each task.
      **options: of the learner that ``source`` names.

    Returns:
      The algorithm; ``return`` is that of all the source's episodes.

    Raises:
      ValueError: if the policy has no memory, the source does not suit the family, or an option is not the source's.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.bandit_bernoulli()
      >>> policy = mrl.networks.recurrent_policy(family.observation_shape, family.action, hidden_size=8)
      >>> algorithm = ad(family, policy, optax.adam(1e-3), episodes_per_trial=10, source_discount=0.0, ucb_coef=0.5)
      >>> state = algorithm.init(jax.random.key(0))
      >>> tasks = jax.vmap(family.sample)(jax.random.split(jax.random.key(1), 8))
      >>> state, info = jax.jit(algorithm.update)(state, tasks, jax.random.split(jax.random.key(2), 8))
      >>> info["cross_entropy"].shape
      (10,)
    """
    evaluate = make_evaluate(policy, bptt_length)
    num_episodes = episodes_per_trial * keep_every
    play = make_play(family, source, options, num_episodes, episodes_per_task)

    def teach(params: Params, task: Task, key: Key) -> tuple[Trajectory, Examples]:
        played = play(task, key)
        return played, kept_history(played, num_episodes, keep_every)

    def predict(params: Params, shown: Percept) -> PyTree:
        return evaluate(params, shown)[0]

    return supervised(
        family,
        policy,
        optimizer,
        teach,
        predict,
        lambda shown: shown.observation,
        episodes_per_trial=episodes_per_trial,
        episodes_per_task=episodes_per_task,
        episodes_played=num_episodes,
        collect_at_once=collect_chunk(family, task_chunk, episodes_per_task),
    )


def make_play(
    family: TaskFamily, source: SourceName | Policy, options: dict[str, Any], num_episodes: int, num_histories: int
) -> Callable[[Task, Key], Trajectory]:
    """``(task, key) -> histories [n T, B, ...]`` with the family's own observations; named sources see ends, too.

    Args:
      family: where tasks come from.
      source: who learns.
      options: of a named source.
      num_episodes: ``n``.
      num_histories: ``B``.
    """
    if isinstance(source, str):
        world, player = with_ends(family), SOURCES[source](family, **options)
    else:
        world, player = family, source
    if world.valid_actions is not None:
        player = masked_policy(player, world.action, world.valid_actions)

    def without_ends(percept: Percept) -> Percept:
        return percept._replace(observation=without_end(percept.observation, family.observation_shape)[0])

    def play(task: Task, key: Key) -> Trajectory:
        key_source, key_trial = jax.random.split(key)
        how = player.init(key_source)
        played, _ = rollout_trial(world, player, how, task, key_trial, num_episodes, num_histories)
        if world is family:
            return played
        return played._replace(percept=without_ends(played.percept), final_percept=without_ends(played.final_percept))

    return play


def kept_history(played: Trajectory, num_episodes: int, keep_every: int) -> Examples:
    """Every so many episodes the first, as if there were no others.

    Args:
      played: ``[num_episodes T, B, ...]``.
      num_episodes: of the history.
      keep_every: one of so many is kept.

    Returns:
      ``[num_episodes / keep_every * T, B, ...]``: the first step of an episode shows the last action and reward of the
      one that was kept before.
    """

    def kept(x: Array) -> Array:
        return x.reshape(num_episodes, -1, *x.shape[1:])[::keep_every]

    def linked(x: Array) -> Array:
        firsts = x.reshape(num_episodes, -1, *x.shape[1:])[:, 0]
        # What an episode ended with is shown by the next one, kept or not.
        after = jnp.maximum(0, (jnp.arange(num_episodes // keep_every) - 1) * keep_every + 1)
        return kept(x).at[:, 0].set(firsts[after])

    def in_a_row(x: Array) -> Array:
        return x.reshape(-1, *x.shape[2:])

    percept = played.percept
    shown = Percept(
        kept(percept.observation), linked(percept.previous_action), linked(percept.previous_reward), kept(percept.done)
    )
    return jax.tree.map(in_a_row, Examples(shown, kept(played.action), kept(played.mask)))
