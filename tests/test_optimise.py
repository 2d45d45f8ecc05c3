"""Several epochs of one loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metarl_jax.optimise import minimise

TARGET = jnp.array([1.0, -2.0])


def loss(x):
    return jnp.sum((x - TARGET) ** 2), {"first": x[0]}


value_and_grad = jax.value_and_grad(loss, has_aux=True)


def test_epochs_equal_steps_taken_one_by_one():
    """Against a plain optax loop, optimiser state included; infos are measured before each step."""
    optimizer = optax.adam(0.1)
    x = jnp.zeros(2)
    opt_state = optimizer.init(x)
    result, result_state, infos = minimise(value_and_grad, x, opt_state, optimizer, 3)
    for i in range(3):
        (value, info), gradient = value_and_grad(x)
        np.testing.assert_allclose(infos["loss"][i], value, rtol=1e-5)
        np.testing.assert_allclose(infos["first"][i], info["first"], rtol=1e-5)
        np.testing.assert_allclose(infos["grad_norm"][i], np.linalg.norm(gradient), rtol=1e-5)
        updates, opt_state = optimizer.update(gradient, opt_state, x)
        x = optax.apply_updates(x, updates)
    np.testing.assert_allclose(result, x, rtol=1e-5)
    for left, right in zip(jax.tree.leaves(result_state), jax.tree.leaves(opt_state), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5)


def test_optimisers_that_look_at_the_parameters_work():
    """Weight decay needs ``params`` in ``update``."""
    optimizer = optax.chain(optax.add_decayed_weights(1.0), optax.sgd(0.1))
    x, _, _ = minimise(lambda x: ((jnp.sum(0 * x), {}), 0 * x), jnp.ones(2), optimizer.init(jnp.ones(2)), optimizer, 2)
    np.testing.assert_allclose(x, 0.81, rtol=1e-5)


def test_gradients_losses_and_infos_are_averaged_over_the_mapped_axis():
    """Two shares of the data move together by the mean gradient; vmap stands in for devices."""
    optimizer = optax.sgd(0.25)

    def on_device(target):
        of_share = jax.value_and_grad(lambda x: ((x - target) ** 2, {"target": target}), has_aux=True)
        return minimise(of_share, jnp.array(0.0), optimizer.init(jnp.array(0.0)), optimizer, 1, "devices")

    x, _, infos = jax.vmap(on_device, axis_name="devices")(jnp.array([1.0, 3.0]))
    assert x.tolist() == [1.0, 1.0]  # mean gradient -4, each share's would be -2 and -6
    assert infos["loss"].tolist() == [[5.0], [5.0]]
    assert infos["target"].tolist() == [[2.0], [2.0]]
    assert infos["grad_norm"].tolist() == [[4.0], [4.0]]
