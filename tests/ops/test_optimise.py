"""Several epochs of one loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax.ops.moments import Moments
from metarl_jax.ops.optimise import keep_if_finite, minimise, minimise_over, minimise_within
from metarl_jax.types import TrainState

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


def test_batches_are_stepped_on_in_turn():
    """The gradient of each step is that of its own batch."""
    step = jax.value_and_grad(lambda x, batch: (jnp.sum((x - batch) ** 2), {"seen": batch[0]}), has_aux=True)
    batches = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    sgd = optax.sgd(0.25)
    x, _, infos = minimise_over(step, jnp.zeros(2), sgd.init(jnp.zeros(2)), sgd, batches)
    np.testing.assert_allclose(infos["seen"], [1, 3, 5])
    np.testing.assert_allclose(x, 0.125 * batches[0] + 0.25 * batches[1] + 0.5 * batches[2], rtol=1e-6)


def test_bounds_that_are_never_met_change_nothing():
    """The same parameters and optimiser state as without bounds, and both ends are reported."""
    optimizer = optax.adam(0.1)
    start = (value_and_grad, jnp.zeros(2), optimizer.init(jnp.zeros(2)), optimizer, 4)
    x, opt_state, first, last = minimise_within(*start, lambda info: info["first"] < 9)
    free, free_state, infos = minimise(*start)
    np.testing.assert_allclose(x, free, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), opt_state, free_state)
    assert first["loss"] == infos["loss"][0] == 5.0
    np.testing.assert_allclose(last["loss"], loss(x)[0], rtol=1e-6)
    np.testing.assert_allclose(last["grad_norm"], np.linalg.norm(2 * (x - TARGET)), rtol=1e-6)
    assert last["step_scale"] == 1


@pytest.mark.parametrize(
    ("limit", "num_epochs", "reached", "scale", "num_moments"),
    [
        (0.12, 2, 0.1, 0.5, 2),  # 0.1, 0.2 is too far: the halved step is not looked at any more
        (0.17, 2, 0.1, 0.5, 2),
        (0.17, 3, 0.15, 0.5, 2),  # 0.1, not 0.2 but 0.15
        (0.17, 4, 0.15, 0.25, 3),  # and not 0.2 again
        (0.04, 3, 0.025, 0.25, 1),  # not 0.1, not 0.05, but 0.025
        (-0.1, 3, 0.0, 0.125, 1),  # nothing is near enough
    ],
)
def test_a_step_out_of_bounds_is_halved(limit, num_epochs, reached, scale, num_moments):
    """Adam's steps are all of one size, 0.1: how far they get, and how many gradients its moments have seen."""
    optimizer = optax.adam(0.1)
    x, (moments, _), _, last = minimise_within(
        value_and_grad, jnp.zeros(2), optimizer.init(jnp.zeros(2)), optimizer, num_epochs,
        lambda info: info["first"] <= limit,
    )  # fmt: skip
    np.testing.assert_allclose(x[0], reached, atol=2e-3)
    assert last["first"] == x[0]
    assert last["step_scale"] == scale
    assert moments.count == num_moments


@pytest.mark.parametrize("broken", ["bound", "gradient"])
def test_what_is_not_finite_is_out_of_bounds(broken):
    """A NaN is not below any limit, and where the gradient is none there is no way on."""
    sgd, start = optax.sgd(0.25), jnp.array(8.0)

    def broken_value_and_grad(x):
        worth = {name: jnp.where((x < 3) & (name == broken), jnp.nan, 1.0) for name in ("bound", "gradient")}
        return (x**2, {"x": x * worth["bound"]}), 2 * x * worth["gradient"]

    x, _, _, last = minimise_within(broken_value_and_grad, start, sgd.init(start), sgd, 2, lambda info: info["x"] < 9)
    assert x == last["x"] == 4.0
    assert last["step_scale"] == 0.5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_parameters_keep_their_type_within_bounds(dtype):
    """Whatever the type that Python's numbers take, as without bounds."""
    with jax.enable_x64(True):
        sgd, start = optax.sgd(0.25), jnp.array([8.0], dtype)
        square = jax.value_and_grad(lambda x: (jnp.sum(x**2), {"x": x[0]}), has_aux=True)
        x, _, _, _ = minimise_within(square, start, sgd.init(start), sgd, 4, lambda info: info["x"] > 1.25)
        assert x.dtype == dtype
        assert x.tolist() == [1.5]


def test_bounds_hold_for_the_mean_over_the_mapped_axis():
    """One share is out of bounds, their mean is not: both take the step."""
    sgd = optax.sgd(0.25)

    def on_device(target):
        of_share = jax.value_and_grad(lambda x: ((x - target) ** 2, {"far": jnp.abs(x * target)}), has_aux=True)
        start = jnp.array(0.0)
        return minimise_within(of_share, start, sgd.init(start), sgd, 1, lambda info: info["far"] < 2.5, "devices")

    x, _, _, last = jax.vmap(on_device, axis_name="devices")(jnp.array([1.0, 3.0]))
    assert x.tolist() == [1.0, 1.0]
    assert last["far"].tolist() == [2.0, 2.0]


@pytest.mark.parametrize("bounded", [False, True])
def test_moments_among_the_parameters_are_no_steps_business(bounded):
    """Decay of weights would shrink them, halved steps or not; what is learned decays."""
    optimizer, counted = optax.adamw(0.1, weight_decay=0.5), Moments(*jnp.array([7.0, 2.0, 3.0]))
    params = {"w": jnp.array(1.0), "seen": counted}
    loss = jax.value_and_grad(lambda params: (0.0 * params["w"], {}), has_aux=True)
    arguments = (loss, params, optimizer.init(params), optimizer, 3)
    moved, *_ = minimise_within(*arguments, lambda info: info["loss"] < 1.0) if bounded else minimise(*arguments)
    np.testing.assert_allclose(moved["w"], 0.95**3, rtol=1e-6)
    assert moved["seen"] == counted


@pytest.mark.parametrize("broken", ["params", "info"])
def test_a_step_that_is_not_finite_is_not_taken(broken):
    """Neither if only what it reports is broken; it counts all the same."""
    old = TrainState(jnp.array(1.0), jnp.array(2.0), (), jnp.int32(4))
    new = TrainState(jnp.array(jnp.nan if broken == "params" else 5.0), jnp.array(6.0), (), jnp.int32(4))
    kept, info = keep_if_finite(old, new, {"loss": jnp.array(jnp.inf if broken == "info" else 0.0)})
    assert kept == old._replace(step=5)
    assert info["skipped"] == 1
    taken, info = keep_if_finite(old, old._replace(params=jnp.array(5.0)), {"loss": jnp.array(0.0)})
    assert taken == old._replace(params=5.0, step=5)
    assert info["skipped"] == 0


@pytest.mark.parametrize(("first", "second", "skipped"), [(5.0, 6.0, 0), (5.0, jnp.nan, 1), (jnp.inf, 6.0, 1)])
def test_what_is_broken_on_one_device_alone_stops_the_step_on_all(first, second, skipped):
    """Else the parameters, which are the same on all devices, would not stay so."""
    old = TrainState(jnp.array(1.0), (), (), jnp.int32(4))

    def on_device(before, after):
        new = old._replace(params=jnp.array(2.0), local={"seen": after})
        return keep_if_finite(old._replace(local={"seen": before}), new, {}, "devices")

    before, after = jnp.array([[3.0], [4.0]]), jnp.array([[first], [second]])
    kept, info = jax.vmap(on_device, axis_name="devices")(before, after)
    assert info["skipped"].tolist() == [skipped] * 2
    assert kept.params.tolist() == [1.0 if skipped else 2.0] * 2
    assert kept.local["seen"].tolist() == (before if skipped else after).tolist()
    assert kept.step.tolist() == [5, 5]
