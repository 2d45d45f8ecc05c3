"""What a latent says of its trial: networks that see each of some latents, most of them with each of some steps."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.networks.mlp import MLP
from metarl_jax.types import Array, Key, Params

Form = Literal["joint", "product"]


class Decoder(NamedTuple):
    """A network of latents and steps.

    Attributes:
      init: ``(key) -> params``.
      decode: ``(params, latent [K, N, l], step [S, N, m]) -> [K, S, N, output_size]``; where nothing is seen of a
        step, ``[K, 1, N, output_size]``, the same for all.
    """

    init: Callable[[Key], Params]
    decode: Callable[[Params, Array, Array], Array]


def make_decoder(
    form: Form, latent_size: int, step_size: int, output_size: int, hidden_sizes: tuple[int, ...]
) -> Decoder:
    """A decoder by the form of its network; hidden layers are relu.

    ``joint`` is one network of both. ``product`` is a network of each, and the inner product of what they give: where
    that of the step tells cells apart, that of the latent has an output for each of them, as VariBAD's decoder of
    grids does. To take all latents with all steps is then a product of two matrices.

    Args:
      form: of the network.
      latent_size: ``l``.
      step_size: ``m``; with 0 it is one network of the latent, whatever the form.
      output_size: numbers for each latent with each step.
      hidden_sizes: widths of the hidden layers; the last is also that of the inner product.

    Example:
      >>> decoder = make_decoder("product", 5, 3, 1, (8, 8))
      >>> decoder.decode(decoder.init(jax.random.key(0)), jnp.zeros((4, 2, 5)), jnp.zeros((6, 2, 3))).shape
      (4, 6, 2, 1)
      >>> decoder = make_decoder("product", 5, 0, 1, (8, 8))
      >>> decoder.decode(decoder.init(jax.random.key(0)), jnp.zeros((4, 2, 5)), jnp.zeros((6, 2, 0))).shape
      (4, 1, 2, 1)
    """
    if step_size == 0:
        nets = {"latent": MLP(hidden_sizes, output_size, "relu")}
        return Decoder(partial(_init, nets, (latent_size,)), partial(_decode_latent, nets))
    if form == "product":
        nets = {
            "latent": MLP(hidden_sizes, hidden_sizes[-1], "relu"),
            "step": MLP(hidden_sizes, hidden_sizes[-1] * output_size, "relu"),
        }
        multiply = partial(_multiplied, output_size)
        return Decoder(partial(_init, nets, (latent_size, step_size)), partial(_decode, nets, multiply))
    first, *rest = hidden_sizes
    nets = {"latent": MLP((), first), "step": MLP((), first), "both": MLP(tuple(rest), output_size, "relu")}
    return Decoder(partial(_init, nets, (latent_size, step_size, first)), partial(_decode, nets, _added))


def _init(nets: dict[str, MLP], sizes: tuple[int, ...], key: Key) -> Params:
    keys = jax.random.split(key, len(nets))
    sized = zip(nets.items(), sizes, keys, strict=True)
    return {name: net.init(key, jnp.zeros(size))["params"] for (name, net), size, key in sized}


def _decode(nets: dict[str, MLP], combine: Callable[..., Array], params: Params, latent: Array, step: Array) -> Array:
    def apply(name: str, x: Array) -> Array:
        return jnp.asarray(nets[name].apply({"params": params[name]}, x))

    return combine(apply, apply("latent", latent), apply("step", step))


def _decode_latent(nets: dict[str, MLP], params: Params, latent: Array, step: Array) -> Array:
    return jnp.asarray(nets["latent"].apply({"params": params["latent"]}, latent))[:, None]


def _multiplied(output_size: int, _: Callable[[str, Array], Array], latent: Array, step: Array) -> Array:
    step = step.reshape(*step.shape[:-1], output_size, -1)
    return jnp.einsum("knj,snoj->ksno", latent, step)


def _added(apply: Callable[[str, Array], Array], latent: Array, step: Array) -> Array:
    """The first layer of both is the sum of one of each, so that of all pairs only the sums are taken."""
    return apply("both", jax.nn.relu(latent[:, None] + step[None]))
