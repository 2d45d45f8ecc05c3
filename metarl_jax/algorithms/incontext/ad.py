"""Algorithm distillation: a policy with a memory imitates a learner that learns (Laskin et al., 2022)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.adaptation import Remake, Settings, adapts
from metarl_jax.algorithms.gradient.assembly import collect_chunk
from metarl_jax.algorithms.incontext.core import Examples, supervised
from metarl_jax.algorithms.incontext.source import q_learning
from metarl_jax.algorithms.memory.core import by_episodes, make_evaluate
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
    require,
)


def by_history(settings: Settings, remake: Remake) -> Adaptation:
    """Episodes, as the method is tested; in training the source plays all those that are left out, too."""
    adaptation = by_episodes(settings, remake)
    return adaptation._replace(stages_per_update=adaptation.stages_per_update * int(settings["keep_every"]))


@checked
@passes_on(q_learning)
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
    source: Policy | None = None,
    **learner: Any,
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
      source: a policy whose memory is what it has learned, with parameters drawn for each task; tabular Q-learning if
        left out.
      **learner: of :func:`metarl_jax.algorithms.incontext.source.q_learning`; none beside a ``source``.

    Returns:
      The algorithm; ``return`` is that of all the source's episodes.

    Raises:
      ValueError: if the policy has no memory, the source does not suit the family, or a ``source`` of the user's own
        is given and options of Q-learning, too.

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
    play = make_play(family, source, learner, num_episodes, episodes_per_task)

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
    family: TaskFamily, source: Policy | None, learner: dict[str, Any], num_episodes: int, num_histories: int
) -> Callable[[Task, Key], Trajectory]:
    """``(task, key) -> histories [n T, B, ...]`` with the family's own observations; tabular Q-learning sees ends, too.

    Args:
      family: where tasks come from.
      source: who learns; Q-learning if None.
      learner: options of Q-learning.
      num_episodes: ``n``.
      num_histories: ``B``.
    """
    remedy = "these are options of the tabular learner: leave them out, or the source of your own"
    require(source is None or not learner, "learner", learner, remedy)
    world = with_ends(family) if source is None else family
    player = q_learning(family.observation_shape, family.action, **learner) if source is None else source
    if world.valid_actions is not None:
        player = masked_policy(player, world.action, world.valid_actions)

    def own(percept: Percept) -> Percept:
        return percept._replace(observation=without_end(percept.observation, family.observation_shape)[0])

    def play(task: Task, key: Key) -> Trajectory:
        key_source, key_trial = jax.random.split(key)
        how = player.init(key_source)
        played, _ = rollout_trial(world, player, how, task, key_trial, num_episodes, num_histories)
        if source is not None:
            return played
        return played._replace(percept=own(played.percept), final_percept=own(played.final_percept))

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
