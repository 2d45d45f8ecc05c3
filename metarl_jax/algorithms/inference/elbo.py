"""The evidence lower bound of whole trials, from beliefs after any number of their steps (Zintgraf et al., 2020)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.algorithms.inference.model import Model, steps_of
from metarl_jax.algorithms.inference.replay import Experience
from metarl_jax.ops.distributions import GaussianParams, gaussian
from metarl_jax.ops.returns import device_weight, masked_mean
from metarl_jax.types import ActionSpec, Array, Info, Key, Params, PyTree

DECODER = "decoder"
"""Where the decoders' parameters are."""


class Elbo(NamedTuple):
    """What the bound depends on.

    Attributes:
      model: what is decoded.
      action: what a task takes.
      kl_weight: of the divergences.
      num_contexts: of the ``T + 1`` beliefs of a trial, how many are decoded, drawn anew each time; all if None.
      num_decoded: of the ``T`` steps of a trial, how many are; all if None.
    """

    model: Model
    action: ActionSpec
    kl_weight: Array | float
    num_contexts: int | None = None
    num_decoded: int | None = None


def negative_elbo(
    settings: Elbo,
    decoder: Params,
    belief: GaussianParams,
    experience: Experience,
    keys: Key,
    axis_name: str | None = None,
) -> tuple[Array, Info]:
    r"""``mean_t [ sum_u -log p(step_u | m_t) + kl_weight KL(q_t || q_{t-1}) ]``, ``m_t ~ q_t``, ``q_{-1} = N(0, I)``.

    ``u`` runs through the whole trial, the future included, ``t`` through its beliefs. With fewer of either the sum and
    the mean are estimates without bias; the divergences are all taken. What does not count, after an episode's early
    end or in one that failed, is neither decoded nor decoded from, and a divergence is that from the last belief that
    counts. The mean is over all trials.

    Args:
      settings: see there.
      decoder: parameters of ``settings.model``.
      belief: ``q``, ``[T + 1, N, l]``.
      experience: trials ``[T, N, ...]``.
      keys: ``[N]``.
      axis_name: mapped device axis, or None. Loss, info and gradient are such that their average over devices is that
        of all trials.

    Returns:
      Loss, and an info of the ``elbo`` and its parts.
    """
    counts = jnp.concatenate([experience.mask, experience.mask[-1:]])  # a belief, as the step taken with it does
    key_latent, key_context, key_step = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, 3))(keys), 1, 0)
    latent = jax.vmap(gaussian().sample, (1, 0), 1)(belief, key_latent)
    latent, latent_counts = _some((latent, counts), key_context, settings.num_contexts)
    steps = steps_of(experience, settings.action)
    told = _some(steps, key_step, settings.num_decoded)
    scale = len(steps.reward) / len(told.reward)
    weight, weight_of_all = device_weight(latent_counts, axis_name), device_weight(counts, axis_name)
    losses = {
        f"{name}_loss": weight * masked_mean(scale * jnp.sum(error, axis=1), latent_counts)
        for name, error in settings.model.errors(decoder, latent, told).items()
    }
    kl = weight_of_all * masked_mean(step_kl(belief, counts), counts)
    std = weight_of_all * masked_mean(jnp.mean(jnp.exp(belief.log_std), axis=-1), counts)
    loss = sum(losses.values(), settings.kl_weight * kl)
    return loss, {**losses, "elbo": -loss, "belief_kl": kl, "belief_std": std}


def step_kl(belief: GaussianParams, counts: Array) -> Array:
    """Divergence of each belief from the last before it that counts, or else from the prior; nats, ``[T, N]``.

    Args:
      belief: ``[T, N, l]``.
      counts: ``[T, N]``.

    Example:
      >>> belief = GaussianParams(jnp.array([0.0, 9.0, 2.0]).reshape(3, 1, 1), jnp.zeros((3, 1, 1)))
      >>> step_kl(belief, jnp.array([[1.0], [0.0], [1.0]])).ravel().tolist()
      [0.0, 40.5, 2.0]
    """
    numbers = jnp.where(counts > 0, jnp.arange(1, len(counts) + 1)[:, None], 0)
    last = jnp.concatenate([jnp.zeros_like(numbers[:1]), jax.lax.cummax(numbers)[:-1]])
    from_prior = jax.tree.map(lambda x: jnp.concatenate([jnp.zeros_like(x[:1]), x]), belief)
    return gaussian().kl(belief, jax.tree.map(lambda x: jnp.take_along_axis(x, last[..., None], axis=0), from_prior))


def _some(tree: PyTree, keys: Key, number: int | None) -> PyTree:
    """So many entries of each column, drawn without replacement: ``[T, N, ...] -> [number, N, ...]``."""
    if number is None:
        return tree

    def of_column(column: PyTree, key: Key) -> PyTree:
        size = jax.tree.leaves(column)[0].shape[0]
        chosen = jax.random.permutation(key, size)[:number]
        return jax.tree.map(lambda x: x[chosen], column)

    return jax.vmap(of_column, (1, 0), 1)(tree, keys)
