"""Random network distillation: how new a state with a belief is (Burda et al., 2019; Zintgraf et al., 2021)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.networks.mlp import MLP
from metarl_jax.ops.distributions import GaussianParams
from metarl_jax.types import Array, Key, Params, Percept

NOVELTY = "novelty"
"""Where its parameters are."""
_SIZES, _OUTPUT_SIZE = (128, 128), 128


class Novelty(NamedTuple):
    """A predictor of what a random network says, which is good where there was much to learn from.

    Attributes:
      init: ``(key) -> params``.
      error: ``(params, percept [T, N, ...], belief) -> [T, N]``, mean squared; its gradient is the predictor's alone.
    """

    init: Callable[[Key], Params]
    error: Callable[[Params, Percept, GaussianParams], Array]


def make_novelty(observation_size: int, latent_size: int) -> Novelty:
    """The novelty of the observation, whether an episode begins, and the belief's mean and log variance.

    Args:
      observation_size: how many of the first numbers of a flat observation count.
      latent_size: numbers of the latent.

    Example:
      >>> novelty, belief = make_novelty(2, 3), GaussianParams(jnp.zeros((5, 4, 3)), jnp.zeros((5, 4, 3)))
      >>> seen = Percept(jnp.zeros((5, 4, 2)), jnp.zeros((5, 4)), jnp.zeros((5, 4)), jnp.zeros((5, 4)))
      >>> novelty.error(novelty.init(jax.random.key(0)), seen, belief).shape
      (5, 4)
    """
    net, names = MLP(_SIZES, _OUTPUT_SIZE, "relu"), ("target", "predictor")

    def init(key: Key) -> Params:
        blank = jnp.zeros(observation_size + 1 + 2 * latent_size)
        keys = jax.random.split(key)
        return {name: net.init(key, blank)["params"] for name, key in zip(names, keys, strict=True)}

    def error(params: Params, percept: Percept, belief: GaussianParams) -> Array:
        seen = percept.observation.reshape(*percept.done.shape, -1)[..., :observation_size].astype(belief.mean.dtype)
        where = jnp.concatenate([seen, percept.done[..., None], belief.mean, 2.0 * belief.log_std], axis=-1)
        target, predictor = (
            jnp.asarray(net.apply({"params": params[name]}, jax.lax.stop_gradient(where))) for name in names
        )
        return jnp.mean(jnp.square(predictor - jax.lax.stop_gradient(target)), axis=-1)

    return Novelty(init, error)
