"""Multi-armed bandits: episodes of one step, so that all learning happens across episodes (Duan et al., 2016)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.tasks.choices import checked_choice
from metarl_jax.types import (
    ActionSpec,
    Array,
    EnvState,
    Key,
    NonNegativeFloat,
    PositiveInt,
    Pulls,
    TaskFamily,
)


class BanditTask(NamedTuple):
    """``mean_reward``: ``[num_arms]`` the expected reward of each arm."""

    mean_reward: Array


@checked
def bandit_bernoulli(*, num_arms: PositiveInt = 5) -> TaskFamily:
    """Arms that pay 1 with an unknown probability, else 0 (Duan et al., 2016).

    The probabilities ``p_i`` are uniform in ``[0, 1]``.

    Args:
      num_arms: arms to choose from.

    Returns:
      The family; the observation is a constant ``[1]``, the action an arm.

    Example:
      >>> family = bandit_bernoulli(num_arms=2)
      >>> task = BanditTask(jnp.array([0.0, 1.0]))
      >>> _, observation, reward, _ = family.step(task, (), jnp.array(1), jax.random.key(0))
      >>> observation.tolist(), reward.item()
      ([0.0], 1.0)
    """

    def sample(key: Key) -> BanditTask:
        return BanditTask(jax.random.uniform(key, (num_arms,)))

    def pay(mean_reward: Array, key: Key) -> Array:
        return (jax.random.uniform(key) < mean_reward).astype(mean_reward.dtype)

    return _bandit_family(sample, pay, num_arms)


@checked
def bandit_gaussian(
    *, num_arms: PositiveInt = 5, mean_std: NonNegativeFloat = 1.0, reward_std: NonNegativeFloat = 1.0
) -> TaskFamily:
    """Arms that pay a normally distributed reward with an unknown mean.

    ``mean_i ~ N(0, mean_std^2)``, ``r ~ N(mean_i, reward_std^2)``.

    Args:
      num_arms: arms to choose from.
      mean_std: standard deviation of the arms' means.
      reward_std: standard deviation of an arm's rewards around its mean.

    Returns:
      The family; the observation is a constant ``[1]``, the action an arm.

    Example:
      >>> family = bandit_gaussian(reward_std=0.0)
      >>> task = BanditTask(jnp.array([0.0, 1.0, 2.0, 3.0, 4.0]))
      >>> family.step(task, (), jnp.array(3), jax.random.key(0))[2].item()
      3.0
    """

    def sample(key: Key) -> BanditTask:
        return BanditTask(mean_std * jax.random.normal(key, (num_arms,)))

    def pay(mean_reward: Array, key: Key) -> Array:
        return mean_reward + reward_std * jax.random.normal(key)

    return _bandit_family(sample, pay, num_arms)


def optimal_value(task: BanditTask) -> Array:
    """Exact expected reward of a pull by one who knows the task, ``max_i mean_i``.

    No learner earns more in any pull, on average over tasks; one who has to find the best arm earns less.

    Returns:
      ``[]``; over 5 arms it is 5/6 on average for Bernoulli ones, 1.163 for standard Gaussian ones.

    Example:
      >>> optimal_value(BanditTask(jnp.array([0.25, 0.5]))).item()
      0.5
    """
    return jnp.max(task.mean_reward)


def _bandit_family(
    sample: Callable[[Key], BanditTask], pay: Callable[[Array, Key], Array], num_arms: int
) -> TaskFamily:
    """One pull an episode; an arm that does not exist pays NaN, which stays in its own episode."""

    def reset(task: BanditTask, key: Key) -> tuple[EnvState, Array]:
        return (), jnp.zeros(1)

    def step(task: BanditTask, state: EnvState, action: Array, key: Key) -> tuple[EnvState, Array, Array, Array]:
        arm, is_valid = checked_choice(action, num_arms)
        reward = jnp.where(is_valid, pay(task.mean_reward[arm], key), jnp.nan)
        return state, jnp.zeros(1), reward, jnp.array(False)

    def best_arm(task: BanditTask, state: EnvState, time: Array) -> Array:
        return jnp.argmax(task.mean_reward)

    action, picture = ActionSpec(num_arms, discrete=True), Pulls(lambda task: task.mean_reward)
    family = TaskFamily(sample, sample, reset, step, (1,), action, horizon=1, picture=picture)
    return family._replace(optimum=optimal_value, optimal_action=best_arm)
