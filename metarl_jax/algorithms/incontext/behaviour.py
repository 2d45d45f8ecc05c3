"""Who plays the trials that contexts are made of."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.networks.heads import make_distribution
from metarl_jax.networks.masked import INVALID
from metarl_jax.ops.distributions import GaussianParams
from metarl_jax.tasks.wrappers.labelled import without_label
from metarl_jax.types import Array, Carry, Key, Params, Percept, Policy, PyTree, TaskFamily, require

Behaviour = Literal["random", "concentrated", "mixed", "policy"]
_SHARES = 11  # of the favourite in Lee et al. (2023): 0, 0.1, ..., 1


class Habits(NamedTuple):
    """How each of ``B`` trials is played, whatever happens in it.

    Attributes:
      centre: ``[B, action size]`` logits or, of continuous actions, their mean; the standard deviation is 1.
      optimal_share: ``[B]`` how often the optimal action is taken instead.
    """

    centre: Array
    optimal_share: Array


def draw_habits(kind: Behaviour, family: TaskFamily, num_trials: int, key: Key) -> Habits:
    """Habits of as many trials.

    Args:
      kind: ``random``: uniform or standard normal actions. ``concentrated``: in each trial a share of 0, 0.1, ..., 1 of
        a favourite, drawn uniformly, and otherwise a distribution drawn from a flat Dirichlet (Lee et al., 2023, on
        bandits). ``mixed``: random, with a share of optimal actions that is uniform in [0, 1].
      family: takes discrete actions, if ``concentrated``.
      num_trials: ``B``.
      key: one key.

    Example:
      >>> from metarl_jax.tasks.discrete.bandit import bandit_bernoulli
      >>> draw_habits("random", bandit_bernoulli(num_arms=2), 3, jax.random.key(0)).centre.shape
      (3, 2)
    """
    size = family.action.size
    centre, share = jnp.zeros((num_trials, size)), jnp.zeros(num_trials)
    if kind == "mixed":
        share = jax.random.uniform(key, (num_trials,))
    if kind == "concentrated":
        remedy = "actions are continuous: use random, mixed or policy"
        require(family.action.discrete, "behaviour", kind, remedy)
        key_rest, key_favourite, key_share = jax.random.split(key, 3)
        rest = jax.random.dirichlet(key_rest, jnp.ones(size), (num_trials,))
        favourite = jax.nn.one_hot(jax.random.randint(key_favourite, (num_trials,), 0, size), size)
        weight = jax.random.randint(key_share, (num_trials, 1), 0, _SHARES) / (_SHARES - 1)
        centre = jnp.log((1.0 - weight) * rest + weight * favourite)
    return Habits(centre, share)


def by_habit(family: TaskFamily) -> Policy:
    """The policy whose parameters are :class:`Habits`, on the labelled family.

    Args:
      family: without labels.
    """
    distribution = make_distribution(family.action)

    def distribute(habits: Habits) -> PyTree:
        return habits.centre if family.action.discrete else GaussianParams(habits.centre, jnp.zeros_like(habits.centre))

    def act(habits: Habits, carry: Carry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, Carry]:
        key_random, key_optimal = jax.random.split(key)
        seen, optimal = without_label(percept.observation, family.observation_shape, family.action)
        dist_params = distribute(habits)
        if family.valid_actions is not None:
            possible = jnp.maximum(dist_params, 0.5 * INVALID)  # those of a habit that knows one action alone, too
            dist_params = jnp.where(family.valid_actions(seen), possible, INVALID)
        random = distribution.sample(dist_params, key_random)
        is_optimal = jax.random.uniform(key_optimal, habits.optimal_share.shape) < habits.optimal_share
        chosen = jnp.where(is_optimal if family.action.discrete else is_optimal[:, None], optimal, random)
        return chosen, distribution.log_prob(dist_params, chosen), dist_params, carry

    def evaluate(habits: Habits, carry: Carry, percept: Percept) -> tuple[PyTree, Array]:
        shape = percept.previous_reward.shape
        spread = jax.tree.map(lambda x: jnp.broadcast_to(x, (shape[0], *x.shape)), distribute(habits))
        return spread, jnp.zeros(shape)

    def init(key: Key) -> Params:
        return draw_habits("random", family, 1, key)

    return Policy(init, lambda batch_size: (), act, evaluate, distribution)


def without_labels(policy: Policy, family: TaskFamily) -> Policy:
    """A policy on the labelled family that does not see the labels.

    Args:
      policy: on the family.
      family: without labels.
    """

    def act(params: Params, carry: Carry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, Carry]:
        seen, _ = without_label(percept.observation, family.observation_shape, family.action)
        return policy.act(params, carry, percept._replace(observation=seen), key)

    return policy._replace(act=act)
