"""What pulls of a bandit's arms say about them, exactly: conjugate posteriors."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.types import Array, Key, PositiveFloat


class Pulls(NamedTuple):
    """What a bandit has shown so far.

    Attributes:
      how_many: ``[num_arms]`` how often each arm was pulled.
      reward: ``[num_arms]`` sum of what it paid.
    """

    how_many: Array
    reward: Array


class Posterior(NamedTuple):
    """What the pulls say about the arms' mean rewards.

    Attributes:
      mean: ``(pulls) -> [num_arms]``.
      draw: ``(pulls, key) -> [num_arms]``.
    """

    mean: Callable[[Pulls], Array]
    draw: Callable[[Pulls, Key], Array]


def bernoulli_posterior() -> Posterior:
    """``Beta(1 + s, 1 + m - s)`` for an arm that paid ``s`` times in ``m`` pulls: exact for ``bandit_bernoulli``.

    Example:
      >>> bernoulli_posterior().mean(Pulls(jnp.array([8.0]), jnp.array([7.0]))).round(1).tolist()
      [0.800000011920929]
    """
    return Posterior(
        lambda pulls: (pulls.reward + 1.0) / (pulls.how_many + 2.0),
        lambda pulls, key: jax.random.beta(key, 1.0 + pulls.reward, 1.0 + pulls.how_many - pulls.reward),
    )


@checked
def gaussian_posterior(*, mean_std: PositiveFloat = 1.0, reward_std: PositiveFloat = 1.0) -> Posterior:
    """``N(s / (m + c), reward_std^2 / (m + c))`` with ``c = (reward_std / mean_std)^2``: exact for ``bandit_gaussian``.

    An arm has paid ``s`` in ``m`` pulls.

    Args:
      mean_std: standard deviation of the arms' means.
      reward_std: standard deviation of an arm's rewards around its mean.

    Returns:
      The posterior.

    Raises:
      ValueError: if a standard deviation is not positive.

    Example:
      >>> gaussian_posterior().mean(Pulls(jnp.array([0.0, 3.0]), jnp.array([0.0, 6.0]))).tolist()
      [0.0, 1.5]
    """

    def weight(pulls: Pulls) -> Array:
        return pulls.how_many + (reward_std / mean_std) ** 2

    def mean(pulls: Pulls) -> Array:
        return pulls.reward / weight(pulls)

    def draw(pulls: Pulls, key: Key) -> Array:
        return mean(pulls) + reward_std / jnp.sqrt(weight(pulls)) * jax.random.normal(key, pulls.how_many.shape)

    return Posterior(mean, draw)
