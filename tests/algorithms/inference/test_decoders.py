"""Decoders: both forms are what they are said to be."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.algorithms.inference.decoders import make_decoder

LATENT, STEP, K, S, N = 3, 2, 4, 5, 2


def given():
    keys = jax.random.split(jax.random.key(0))
    return jax.random.normal(keys[0], (K, N, LATENT)), jax.random.normal(keys[1], (S, N, STEP))


def test_joint_is_a_perceptron_of_latent_and_step_together():
    """Its first layer's weights one above the other, of each latent with each step of the same trial."""
    decoder, (latent, step) = make_decoder("joint", LATENT, STEP, 2, (6, 7)), given()
    params = jax.jit(decoder.init)(jax.random.key(1))
    first = [params[name]["Dense_0"] for name in ("latent", "step")]
    kernel, bias = jnp.concatenate([layer["kernel"] for layer in first]), sum(layer["bias"] for layer in first)
    second, last = params["both"]["Dense_0"], params["both"]["Dense_1"]
    pairs = jnp.concatenate(
        [jnp.broadcast_to(latent[:, None], (K, S, N, LATENT)), jnp.broadcast_to(step[None], (K, S, N, STEP))], axis=-1
    )
    hidden = nn.relu(nn.relu(pairs @ kernel + bias) @ second["kernel"] + second["bias"])
    expected = hidden @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(decoder.decode(params, latent, step), expected, rtol=1e-5, atol=1e-6)


def test_product_is_the_inner_product_of_two_networks():
    """One alone is linear in what the other gives: two outputs of it, of one latent and step."""
    decoder, (latent, step) = make_decoder("product", LATENT, STEP, 2, (6, 7)), given()
    params = jax.jit(decoder.init)(jax.random.key(1))

    def network(name, x):
        layers = [params[name][f"Dense_{i}"] for i in range(3)]
        for layer in layers[:-1]:
            x = nn.relu(x @ layer["kernel"] + layer["bias"])
        return x @ layers[-1]["kernel"] + layers[-1]["bias"]

    told = decoder.decode(params, latent, step)
    of_latent, of_step = network("latent", latent[1, 1]), network("step", step[3, 1]).reshape(2, 7)
    np.testing.assert_allclose(told[1, 3, 1], of_step @ of_latent, rtol=1e-5, atol=1e-6)
