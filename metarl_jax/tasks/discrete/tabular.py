"""Random tabular MDPs (Duan et al., 2016), and their exact optimum."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.tasks.choices import checked_choice
from metarl_jax.types import ActionSpec, Array, Key, PositiveInt, TaskFamily


class TabularTask(NamedTuple):
    """An MDP with ``S`` states and ``A`` actions.

    Attributes:
      mean_reward: ``[S, A]`` expected reward of an action in a state.
      transition: ``[S, A, S]`` probabilities of the next state.
    """

    mean_reward: Array
    transition: Array


@checked
def tabular_mdp(*, num_states: PositiveInt = 10, num_actions: PositiveInt = 5, horizon: PositiveInt = 10) -> TaskFamily:
    """Random MDPs with unknown rewards and transitions (Duan et al., 2016).

    Mean rewards ``R(s, a) ~ N(1, 1)``, a reward ``N(R(s, a), 1)`` at every step, transitions ``Dirichlet(1, ..., 1)``.
    Episodes start in state 0 and never terminate.

    Args:
      num_states: states.
      num_actions: actions in each state.
      horizon: steps per episode.

    Returns:
      The family; the observation is the state as one-hot ``[num_states]``.

    Example:
      >>> family = tabular_mdp(num_states=3)
      >>> state, observation = family.reset(family.sample(jax.random.key(0)), jax.random.key(1))
      >>> observation.tolist()
      [1.0, 0.0, 0.0]
    """

    def sample(key: Key) -> TabularTask:
        key_reward, key_transition = jax.random.split(key)
        # Exponential numbers over their sum are Dirichlet(1, ..., 1), and quicker to draw than by the general sampler.
        weights = jax.random.exponential(key_transition, (num_states, num_actions, num_states))
        return TabularTask(
            1.0 + jax.random.normal(key_reward, (num_states, num_actions)),
            weights / jnp.sum(weights, axis=-1, keepdims=True),
        )

    return tabular_family(sample, num_states, num_actions, horizon)


def tabular_family(
    sample: Callable[[Key], TabularTask], num_states: int, num_actions: int, horizon: int, reward_std: float = 1.0
) -> TaskFamily:
    """MDPs given by their tables: episodes start in state 0, never terminate, and show the state as one-hot.

    Args:
      sample: ``(key) -> task``.
      num_states: of every task.
      num_actions: of every task.
      horizon: steps per episode.
      reward_std: standard deviation of a reward around its mean.

    Returns:
      The family, with its optimum and the optimal action.
    """

    def reset(task: TabularTask, key: Key) -> tuple[Array, Array]:
        return jnp.zeros((), int), jax.nn.one_hot(0, num_states)

    def step(task: TabularTask, state: Array, action: Array, key: Key) -> tuple[Array, Array, Array, Array]:
        choice, is_valid = checked_choice(action, num_actions)
        key_reward, key_next = jax.random.split(key)
        reward = task.mean_reward[state, choice] + reward_std * jax.random.normal(key_reward)
        following = draw_state(task.transition[state, choice], key_next)
        return (
            following,
            jax.nn.one_hot(following, num_states),
            jnp.where(is_valid, reward, jnp.nan),  # the policy's error shows in its own episode
            jnp.array(False),
        )

    def optimum(task: TabularTask) -> Array:
        return optimal_values(task, horizon)[0, 0]

    def optimal_action(task: TabularTask, state: Array, time: Array) -> Array:
        return jnp.argmax(optimal_action_values(task, horizon)[time, state])

    action = ActionSpec(num_actions, discrete=True)
    family = TaskFamily(sample, sample, reset, step, (num_states,), action, horizon)
    return family._replace(optimum=optimum, optimal_action=optimal_action)


def draw_state(probabilities: Array, key: Key) -> Array:
    """Draw the next state by inverting the cumulative distribution: one random number, however many states.

    Args:
      probabilities: ``[S]``, summing to 1 up to rounding.
      key: one key.

    Returns:
      ``[]`` a whole number.

    Example:
      >>> draw_state(jnp.array([0.0, 1.0, 0.0]), jax.random.key(0)).item()
      1
    """
    cumulative = jnp.cumsum(probabilities)
    below = jax.random.uniform(key) * cumulative[-1] >= cumulative
    return jnp.minimum(jnp.sum(below), probabilities.shape[0] - 1).astype(int)


def optimal_action_values(task: TabularTask, horizon: int) -> Array:
    """Exact undiscounted action values by backward induction.

    ``Q_t(s, a) = R(s, a) + sum_s' P(s' | s, a) max_a' Q_{t+1}(s', a')`` with ``Q_T = 0``.

    Args:
      task: the MDP.
      horizon: steps per episode, T.

    Returns:
      ``[T, S, A]``.

    Example:
      >>> one_state = TabularTask(jnp.array([[1.0, 2.0]]), jnp.ones((1, 2, 1)))
      >>> optimal_action_values(one_state, 2)[0].tolist()
      [[3.0, 4.0]]
    """

    def back(value: Array, _: None) -> tuple[Array, Array]:
        action_value = task.mean_reward + task.transition @ value
        return jnp.max(action_value, axis=-1), action_value

    return jax.lax.scan(back, jnp.zeros(task.mean_reward.shape[0]), length=horizon, reverse=True)[1]


def optimal_values(task: TabularTask, horizon: int) -> Array:
    """Exact undiscounted state values ``V_t(s) = max_a Q_t(s, a)`` of the best policy that knows the MDP.

    Args:
      task: the MDP.
      horizon: steps per episode, T.

    Returns:
      ``[T, S]``; the optimal return of an episode is ``[0, 0]``.

    Example:
      >>> one_state = TabularTask(jnp.array([[1.0, 2.0]]), jnp.ones((1, 2, 1)))
      >>> optimal_values(one_state, 3)[0].tolist()
      [6.0]
    """
    return jnp.max(optimal_action_values(task, horizon), axis=-1)
