"""Random MDPs with a lie of the land: states in a row, moves within a band, a goal at the far end."""

from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge

from metarl_jax.checks import checked
from metarl_jax.tasks.discrete.tabular import TabularTask, tabular_family
from metarl_jax.types import Array, Fraction, Key, NonNegativeFloat, PositiveInt, TaskFamily


@checked
def any_mdp(
    *,
    num_states: Annotated[int, Ge(2)] = 16,
    num_actions: PositiveInt = 5,
    horizon: PositiveInt = 64,
    max_leap: Annotated[int, Ge(2)] = 4,
    max_retreat: PositiveInt = 8,
    max_pitfalls: Fraction = 0.2,
    reward_std: NonNegativeFloat = 0.1,
) -> TaskFamily:
    r"""Random MDPs whose transitions stay within a band, after AnyMDP (Wang et al., 2025), with fewer kinds of reward.

    States lie in a row. From state ``s`` all that can be reached is a band around it, 2 to ``max_leap`` states
    ahead and 1 to ``max_retreat`` back, drawn for each state. Action ``a`` aims at a place ``c(s, a)`` of it:

    .. math:: P(s' \mid s, a) \propto w(s, s') \frac{k(s' - c(s, a))}{\sum_b k(s' - c(s, b))}, \quad
        k(x) = \exp(-x^2 / \sigma(s)^2)

    with ``w`` uniform on [0.2, 1], half of it for staying, and ``sigma`` exponential, from 0.2 to 1.6. The last
    state is the goal: to act there earns 1 and leads back to the start, state 0. Pitfalls lead back, too, and cost up
    to 1: each state between may be one with a probability uniform on [0, ``max_pitfalls``], but none right after
    another, so that every goal can be reached. A third of all pairs of other states and actions earn or cost a little,
    ``N(0, 0.1^2)``. The numbers of states, but for the start's, are shuffled.

    Args:
      num_states: states, start and goal included.
      num_actions: actions in each state.
      horizon: steps per episode.
      max_leap: states that a step leads ahead, at most.
      max_retreat: states that a step leads back, at most.
      max_pitfalls: largest probability that a state is a pitfall.
      reward_std: standard deviation of a reward around its mean.

    Returns:
      The family; the observation is the state as one-hot ``[num_states]``.

    Example:
      >>> family = any_mdp(num_states=8, horizon=20)
      >>> task = family.sample(jax.random.key(0))
      >>> task.transition.shape, bool(family.optimum(task) > 0.0)
      ((8, 5, 8), True)
    """
    place = jnp.arange(num_states)

    def sample_transition(key: Key) -> Array:
        key_leap, key_retreat, key_weight, key_aim, key_width = jax.random.split(key, 5)
        last = jnp.minimum(place + jax.random.randint(key_leap, (num_states,), 2, max_leap + 1), num_states - 1)
        first = jnp.maximum(place - jax.random.randint(key_retreat, (num_states,), 1, max_retreat + 1), 0)
        weight = jax.random.uniform(key_weight, (num_states, num_states), minval=0.2)
        weight = jnp.where(jnp.eye(num_states, dtype=bool), weight / 2.0, weight)
        is_near = (first[:, None] <= place) & (place <= last[:, None])
        aim = jax.random.uniform(key_aim, (num_actions, num_states), minval=first, maxval=last).T
        width = jnp.clip(jax.random.exponential(key_width, (num_states, 1, 1)), 0.2, 1.6)
        share = jax.nn.log_softmax(-jnp.square((place - aim[..., None]) / width), axis=1)  # of the actions, of a place
        return jax.nn.softmax(jnp.where(is_near[:, None], jnp.log(weight)[:, None] + share, -jnp.inf))

    def sample(key: Key) -> TabularTask:
        key_transition, key_share, key_pitfall, key_depth, key_small, key_mask, key_name = jax.random.split(key, 7)
        share = max_pitfalls * jax.random.uniform(key_share)
        is_goal = place == num_states - 1
        may_fall = jax.random.bernoulli(key_pitfall, share, (num_states,)) & (place > 0) & ~is_goal
        is_pitfall = may_fall & ~jnp.roll(may_fall, 1)
        restarts = (is_goal | is_pitfall)[:, None]
        size = num_states, num_actions
        small = 0.1 * jax.random.normal(key_small, size) * jax.random.bernoulli(key_mask, 1 / 3, size)
        at_end = jnp.where(is_goal, 1.0, -jax.random.uniform(key_depth, (num_states,)))[:, None]
        reward = jnp.where(restarts, at_end, small)
        transition = jnp.where(restarts[..., None], place == 0, sample_transition(key_transition))
        named = jnp.concatenate([place[:1], 1 + jax.random.permutation(key_name, num_states - 1)])
        return TabularTask(reward[named], transition[named][..., named])

    return tabular_family(sample, num_states, num_actions, horizon, reward_std)
