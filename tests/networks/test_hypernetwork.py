"""Layers of a hypernetwork against weights that are laid out."""

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.networks.hypernetwork import dense_layer, emitted_layer, no_changes

LATENT, INPUTS, OUTPUTS = 3, 4, 2


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


LAYER = {"kernel": draw(0, INPUTS, OUTPUTS), "bias": draw(1, OUTPUTS)}


def test_a_layer_is_dense_with_the_weights_that_its_latent_makes():
    changes = jax.tree.map(lambda x: draw(x.size, *x.shape), no_changes(LAYER, LATENT))
    x, latent = draw(2, 5, INPUTS), draw(3, 5, LATENT)
    found = jax.jit(emitted_layer)(LAYER, changes, x, latent)
    by_latent = np.reshape(changes["kernel"], (LATENT, INPUTS, OUTPUTS))
    for i in range(5):
        kernel = LAYER["kernel"] + np.tensordot(latent[i], by_latent, axes=1)
        expected = np.asarray(x[i]) @ kernel + LAYER["bias"] + latent[i] @ changes["bias"]
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-5)


def test_at_first_it_is_the_ordinary_layer_exactly():
    changes = no_changes({"Dense_0": LAYER}, LATENT)["Dense_0"]
    assert jax.tree.map(jnp.shape, changes) == {"kernel": (LATENT * INPUTS, OUTPUTS), "bias": (LATENT, OUTPUTS)}
    x, latent = draw(2, 5, INPUTS), draw(3, 5, LATENT)
    np.testing.assert_array_equal(emitted_layer(LAYER, changes, x, latent), dense_layer(LAYER, x))
