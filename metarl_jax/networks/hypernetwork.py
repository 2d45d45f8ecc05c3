"""Hypernetworks: layers whose weights are a linear function of what is remembered, at every step another one."""

import math

import jax
import jax.numpy as jnp

from metarl_jax.ops.matmul import matmul
from metarl_jax.types import Array, Params


def no_changes(layers: Params, latent_size: int) -> Params:
    """A linear hypernetwork that emits the same weights whatever is remembered: how it starts.

    Of Bias-HyperInit (Beck et al., 2022) these are the zero weights of the last layer; its bias, an ordinary
    initialisation, are the layers themselves.

    Args:
      layers: kernels ``[i, j]`` and biases ``[j]``, in any tree.
      latent_size: ``k``, numbers that the hypernetwork sees.

    Returns:
      The same tree, of ``[k * i, j]`` and ``[k, j]``.

    Example:
      >>> no_changes({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, 5)["kernel"].shape
      (15, 2)
    """
    return jax.tree.map(lambda w: jnp.zeros((latent_size * math.prod(w.shape[:-1]), w.shape[-1]), w.dtype), layers)


def emitted_layer(layer: Params, changes: Params, x: Array, latent: Array) -> Array:
    """A dense layer with weights of each step's own: ``x (W_0 + sum_k z_k W_k) + b_0 + sum_k z_k b_k``.

    It is linear in the products ``z_k x_i``, so the emitted weights are never laid out: as many operations, and memory
    of ``k`` times the layer's input in the place of all its weights for every step.

    Args:
      layer: ``kernel`` ``W_0`` and ``bias`` ``b_0``.
      changes: ``kernel`` and ``bias``, see :func:`no_changes`.
      x: ``[..., i]``.
      latent: ``z``, ``[..., k]``.

    Returns:
      ``[..., j]``.

    Example:
      >>> layer, changes = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}, {"kernel": jnp.ones((2, 1))}
      >>> changes["bias"] = jnp.zeros((2, 1))
      >>> emitted_layer(layer, changes, jnp.array([10.0]), jnp.array([2.0, 3.0])).tolist()  # 10 (1 + 2 + 3)
      [60.0]
    """
    products = (latent[..., :, None] * x[..., None, :]).reshape(*x.shape[:-1], -1)
    return dense_layer(layer, x) + (matmul(products, changes["kernel"]) + matmul(latent, changes["bias"]))


def dense_layer(layer: Params, x: Array) -> Array:
    """The same without changes: ``x W_0 + b_0``."""
    return matmul(x, layer["kernel"]) + layer["bias"]
