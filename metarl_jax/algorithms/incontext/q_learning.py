"""Who writes the histories: Q-learning in a table, as a policy whose memory is what it has learned."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.algorithms.incontext.learner import epsilon_greedy, learner, require_discrete
from metarl_jax.checks import Traced, checked
from metarl_jax.tasks.wrappers.ends import without_end
from metarl_jax.types import (
    Array,
    Fraction,
    NonNegativeFloat,
    Percept,
    Policy,
    PositiveInt,
    TaskFamily,
)

_NEVER = 1e3
"""Stands for the bonus of an action that was never taken, which is infinite."""


class Learned(NamedTuple):
    """Of one learner; all zeros at first, values as they are initialised.

    Attributes:
      known: ``[S, n]`` the observations that it has met, a row each.
      num_known: ``[]`` how many these are.
      value: ``[S, A]`` of actions.
      visits: ``[S, A]``.
      row: ``[]`` of the last observation.
      episodes: ``[]`` begun so far.
      ended: ``[]`` whether the present one has terminated.
    """

    known: Array
    num_known: Array
    value: Array
    visits: Array
    row: Array
    episodes: Array
    ended: Array


@checked
def q_learning(
    family: TaskFamily,
    *,
    step_size: Traced[Fraction] = 0.0,
    source_discount: Traced[Fraction] = 0.9,
    initial_value: Traced[float] = 0.0,
    ucb_coef: Traced[NonNegativeFloat] = 0.0,
    epsilon: Traced[Fraction] = 0.0,
    exploring_episodes: PositiveInt = 1000,
    max_states: PositiveInt = 100,
) -> Policy:
    """Q-learning (Watkins, 1989) in a table that gets a row for every observation not met before.

    It acts greedily on ``Q(s, a) + ucb_coef sqrt(log(1 + N(s)) / N(s, a))``, any action first that it never took if
    that is not 0, at random with probability ``epsilon``. On bandits, with a discount of 0, this is UCB1 (Auer et al.,
    2002).

    It plays :func:`metarl_jax.tasks.wrappers.ends.with_ends` of a family: after a step that terminated nothing is to
    come, and it learns nothing more until the next episode. What follows the last step of the horizon is not seen: it
    learns from that one, terminated or not, as if the state had stayed.

    Args:
      family: whose tasks it plays; actions are discrete.
      step_size: at least so far each value moves towards its target; ``1 / N(s, a)`` of the way, if that is more.
      source_discount: the learner's, per step; 0 on bandits.
      initial_value: of all actions; one that is too high makes it try them all.
      ucb_coef: weight of the bonus for actions that were taken seldom.
      epsilon: how often it acts at random in its first episode.
      exploring_episodes: over so many that falls linearly to zero.
      max_states: rows of the table; further observations share the last one.

    Returns:
      The policy; it has no parameters, and its carry is :class:`Learned` of each of ``B`` learners.

    Raises:
      ValueError: if actions are continuous.

    Example:
      >>> from metarl_jax.tasks import bandit_bernoulli
      >>> learner = q_learning(bandit_bernoulli(num_arms=2), ucb_coef=0.5)
      >>> percept = Percept(jnp.zeros((3, 2)), jnp.zeros(3, int), jnp.zeros(3), jnp.ones(3))
      >>> chosen, _, _, learned = learner.act((), learner.initial_carry(3), percept, jax.random.key(0))
      >>> chosen.shape, learned.num_known.tolist()
      ((3,), [1, 1, 1])
    """
    require_discrete(family)
    action, observation_shape = family.action, family.observation_shape

    def initial_carry(batch_size: int) -> Learned:
        none = jnp.zeros((), jnp.int32)
        known = jnp.zeros((max_states, math.prod(observation_shape)))
        table = jnp.zeros((max_states, action.size))
        blank = Learned(known, none, table + initial_value, table, none, none, jnp.array(False))
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (batch_size, *x.shape)), blank)

    def step(learned: Learned, percept: Percept) -> tuple[Learned, Array]:
        learned = _learn(learned, percept, step_size, source_discount)
        visits = learned.visits[learned.row]
        bonus = jnp.sqrt(jnp.log1p(jnp.sum(visits)) / jnp.maximum(visits, 1.0))
        score = learned.value[learned.row] + ucb_coef * jnp.where(visits > 0, bonus, _NEVER)
        return learned, epsilon_greedy(score >= jnp.max(score), epsilon, exploring_episodes, learned.episodes)

    return learner(initial_carry, step)


def _learn(learned: Learned, percept: Percept, step_size: Array | float, discount: Array | float) -> Learned:
    """Look up the observation, and move the value of the action before towards what came of it."""
    num_rows, *shape = learned.known.shape
    seen, ended = without_end(percept.observation, tuple(shape))
    is_it = jnp.all(learned.known == seen, axis=-1) & (jnp.arange(num_rows) < learned.num_known)
    is_new = ~jnp.any(is_it)
    row = jnp.where(is_new, jnp.minimum(learned.num_known, num_rows - 1), jnp.argmax(is_it)).astype(jnp.int32)
    before = learned.row, percept.previous_action
    # What is shown after an end, and at the start of the next episode, is what the end itself was learned from.
    is_news = ((learned.episodes > 0) & ~learned.ended).astype(seen.dtype)
    visits = learned.visits.at[before].add(is_news)
    following = jnp.where(percept.done > 0, learned.row, row)
    target = percept.previous_reward + jnp.where(ended, 0.0, discount) * jnp.max(learned.value[following])
    size = is_news * jnp.maximum(step_size, 1.0 / jnp.maximum(visits[before], 1.0))
    return Learned(
        known=learned.known.at[row].set(seen),
        num_known=jnp.minimum(learned.num_known + is_new, num_rows).astype(jnp.int32),
        value=learned.value.at[before].add(size * (target - learned.value[before])),
        visits=visits,
        row=row,
        episodes=learned.episodes + (percept.done > 0),
        ended=ended,
    )
