"""The decision-pretrained transformer: the optimal action from a context of transitions (Lee et al., 2023)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.assembly import collect_chunk
from metarl_jax.algorithms.incontext.behaviour import Behaviour, by_habit, draw_habits, without_labels
from metarl_jax.algorithms.incontext.core import Examples, supervised
from metarl_jax.algorithms.memory.core import by_episodes
from metarl_jax.checks import checked
from metarl_jax.collect.rollout import rollout_trial
from metarl_jax.tasks.wrappers.labelled import with_optimal_actions, without_label
from metarl_jax.types import (
    Array,
    Context,
    Key,
    MetaAlgorithm,
    Params,
    Policy,
    PositiveInt,
    PyTree,
    Task,
    TaskChunk,
    TaskFamily,
    Trajectory,
    require,
)


@checked
@adapts(by_episodes)
def dpt(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    episodes_per_trial: PositiveInt = 2,
    episodes_per_task: PositiveInt = 1,
    behaviour: Behaviour = "random",
    task_chunk: TaskChunk = None,
) -> MetaAlgorithm:
    """The decision-pretrained transformer: trained to name the optimal action, it explores by sampling from its belief.

    A behaviour plays a trial; its transitions, shuffled, are the context. For every ``j`` the policy is shown the first
    ``j`` transitions and the observation of some step of the trial, the query, and the loss is its cross-entropy to the
    optimal action there, averaged over all ``j``: what minimises it is the posterior probability of each action to be
    optimal. When it is tested, the policy's own transitions are its context, one more after every step, and its actions
    are samples: posterior sampling.

    Contexts must not tell more than what happened in them. In those of ``random`` and ``concentrated`` the actions do
    not depend on the task; in those of ``mixed`` they give the optimal ones away, which the policy then expects of its
    own. With ``policy`` it plays itself, as when it is tested; its transitions stay in their order and each query is
    the step that follows, since what an agent does tells what it has seen before.

    Args:
      family: knows its ``optimal_action``.
      policy: what is trained; ``in_context``.
      episodes_per_trial: n, episodes of a trial, that it is tested on and that contexts are made of.
      episodes_per_task: B, trials of each task, side by side.
      behaviour: who plays: ``random`` actions; ``concentrated``, in each trial more or less on one that is drawn at
        random (the authors' choice for bandits); ``mixed``, random with a share of optimal actions from 0 to 1;
        ``policy``, the policy itself.
      task_chunk: play at most this many tasks at a time, to save memory; if left out, all on accelerators and what
        fits the cache on CPUs; ``auto``: as many as fit the memory.

    Returns:
      The algorithm; ``return`` is that of the behaviour.

    Raises:
      ValueError: if the family does not know its optimal actions, or the policy cannot be asked about a context.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.bandit_bernoulli()
      >>> policy = mrl.networks.in_context_policy(family.observation_shape, family.action, size=8, num_layers=1)
      >>> algorithm = dpt(family, policy, optax.adam(1e-3), episodes_per_trial=10)
      >>> state = algorithm.init(jax.random.key(0))
      >>> tasks = jax.vmap(family.sample)(jax.random.split(jax.random.key(1), 8))
      >>> state, info = jax.jit(algorithm.update)(state, tasks, jax.random.split(jax.random.key(2), 8))
      >>> info["cross_entropy"].shape
      (10,)
    """
    from_context = policy.from_context
    remedy = "it cannot be asked about a shuffled context: set policy.name to in_context"
    require(from_context is not None, "policy", "without a context", remedy)
    assert from_context is not None  # for the type checker
    play = make_play(family, policy, behaviour, episodes_per_trial, episodes_per_task)

    def teach(params: Params, task: Task, key: Key) -> tuple[Trajectory, Examples]:
        key_play, key_order = jax.random.split(key)
        played = play(params, task, key_play)
        examples = in_order(played, family)
        return played, examples if behaviour == "policy" else shuffled(examples, key_order)

    def predict(params: Params, shown: tuple[Context, Array]) -> PyTree:
        return from_context(params, *shown)

    return supervised(
        family,
        policy,
        optimizer,
        teach,
        predict,
        lambda shown: shown[1],
        episodes_per_trial=episodes_per_trial,
        episodes_per_task=episodes_per_task,
        episodes_played=episodes_per_trial,
        collect_at_once=collect_chunk(family, task_chunk, episodes_per_task),
    )


def make_play(
    family: TaskFamily, policy: Policy, behaviour: Behaviour, episodes_per_trial: int, num_trials: int
) -> Callable[[Params, Task, Key], Trajectory]:
    """``(params, task, key) -> trials [n T, B, ...]`` on the labelled family, as :func:`dpt` describes them."""
    labelled = with_optimal_actions(family)
    player = without_labels(policy, family) if behaviour == "policy" else by_habit(family)
    jax.eval_shape(lambda key: draw_habits(behaviour, family, num_trials, key), jax.random.key(0))  # refuses at once

    def play(params: Params, task: Task, key: Key) -> Trajectory:
        key_habits, key_trial = jax.random.split(key)
        how = params if behaviour == "policy" else draw_habits(behaviour, family, num_trials, key_habits)
        return rollout_trial(labelled, player, how, task, key_trial, episodes_per_trial, num_trials)[0]

    return play


def in_order(played: Trajectory, family: TaskFamily) -> Examples:
    """Each step is asked about, given the transitions before it.

    Args:
      played: ``[T, B, ...]`` on the labelled family.
      family: without labels.

    Returns:
      ``shown`` is the context of all transitions and the observations ``[T, B, ...]``.
    """
    seen, optimal = without_label(played.percept.observation, family.observation_shape, family.action)
    last, _ = without_label(played.final_percept.observation, family.observation_shape, family.action)
    percept = played.percept._replace(observation=seen)
    final = played.final_percept._replace(observation=last, done=jnp.ones_like(played.final_percept.done))
    outcome = jax.tree.map(lambda x, end: jnp.concatenate([x[1:], end[None]]), percept, final)
    # Of an episode that ended early, what is shown until its horizon is in the context, as it is when acting.
    return Examples((Context(seen, outcome, jnp.ones_like(played.mask)), seen), optimal, played.mask)


def shuffled(examples: Examples, key: Key) -> Examples:
    """Transitions and queries each in a random order of their own, in every trial.

    Args:
      examples: ``[T, B, ...]`` as of :func:`in_order`.
      key: one key.
    """
    context, query = examples.shown
    key_context, key_query = jax.random.split(key)
    context = _in_random_order(context, key_context)
    query, action, mask = _in_random_order((query, examples.action, examples.mask), key_query)
    return Examples((context, query), action, mask)


def _in_random_order(tree: PyTree, key: Key) -> PyTree:
    """Every leaf ``[T, B, ...]`` along its first axis, the columns each in an order of its own."""
    num_steps, num_trials = jax.tree.leaves(tree)[0].shape[:2]
    orders = jax.vmap(lambda key: jax.random.permutation(key, num_steps))(jax.random.split(key, num_trials))
    return jax.tree.map(lambda x: jax.vmap(lambda column, order: column[order], (1, 0), 1)(x, orders), tree)
