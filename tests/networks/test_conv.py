"""Convolutional policies: layers against the definition of a convolution, and which images are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.networks.conv import ConvNet, conv_policy
from metarl_jax.types import ActionSpec, Percept


def test_layers_are_convolutions():
    """Against XLA's own convolution, kernels of two sizes of planes, an image that is not square."""
    network = ConvNet((6, 5, 2), (3, 4), 2, (), 1)
    x = jax.random.normal(jax.random.key(0), (7, 60))
    params = network.init(jax.random.key(1), x)["params"]
    expected = x.reshape(7, 6, 5, 2)
    for name, planes in (("Conv_0", 2), ("Conv_1", 3)):
        kernel = params[name]["kernel"].reshape(2, 2, planes, -1)
        numbers = ("NHWC", "HWIO", "NHWC")
        expected = jnp.maximum(
            jax.lax.conv_general_dilated(expected, kernel, (1, 1), "VALID", dimension_numbers=numbers), 0
        )
    _, hidden = network.apply({"params": params}, x, method="layers")
    assert expected.shape == (7, 4, 3, 4)
    np.testing.assert_allclose(hidden, expected.reshape(7, -1), rtol=1e-4, atol=1e-5)


def test_planes_of_a_small_game():
    """10 x 10 planes, which may be boolean: the default layers, a distribution for each of the actions."""
    policy = conv_policy((10, 10, 4), ActionSpec(6, discrete=True))
    params = jax.jit(policy.init)(jax.random.key(0))
    assert {name: layer["kernel"].shape for name, layer in params["logits"].items()} == {
        "Conv_0": (36, 16),
        "Dense_0": (1024, 128),
        "Dense_1": (128, 6),
    }
    planes = jax.random.bernoulli(jax.random.key(1), 0.1, (2, 3, 10, 10, 4))
    logits, value = policy.evaluate(params, (), Percept(planes, jnp.zeros((2, 3), int), *jnp.zeros((2, 2, 3))))
    assert (logits.shape, logits.dtype) == ((2, 3, 6), jnp.float32)
    assert not value.any()
    assert not policy.has_critic


@pytest.mark.parametrize("shape", [(10,), (10, 10), (2, 10, 10, 4)])
def test_observations_that_are_not_planes_are_refused(shape):
    with pytest.raises(ValueError, match=r"observation_shape = .*H, W, C.*mlp"):
        conv_policy(shape, ActionSpec(2))


def test_planes_too_small_for_the_kernels_are_refused():
    """Two kernels of 3 need 5 pixels, and 5 are enough."""
    conv_policy((5, 9, 1), ActionSpec(2), channels=(2, 2))
    with pytest.raises(ValueError, match=r"kernel_size = 3: 2 of them need planes of 5 x 5 or more"):
        conv_policy((9, 4, 1), ActionSpec(2), channels=(2, 2))
