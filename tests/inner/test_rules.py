"""Inner update rules by hand: what a step is, what is learned, what is adapted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.inner.rules import is_adapted, learned_step_sizes, learned_update, make_rule

STEP_SIZES = jnp.array([0.5, 0.25])
LEAVES = {"mean/kernel": jnp.array([1.0, -2.0]), "log_std": jnp.array(0.5)}
GRADIENT = {"mean/kernel": jnp.array([0.2, -0.4]), "log_std": jnp.array(2.0)}


def run(rule, meta=None, gradients=(GRADIENT, GRADIENT)):
    def play(leaves, meta, gradients):
        state = rule.start(leaves)
        for k, gradient in enumerate(gradients):
            leaves, state = rule.step(meta, leaves, gradient, state, k)
        return leaves

    return jax.jit(play)(LEAVES, meta, gradients)


def test_sgd_takes_the_step_size_of_each_step():
    np.testing.assert_allclose(run(make_rule("sgd", STEP_SIZES))["log_std"], 0.5 - 0.5 * 2 - 0.25 * 2, rtol=1e-6)


def test_momentum_carries_its_velocity_from_step_to_step():
    velocity = [2.0, 2.0 + 0.9 * 2.0]
    expected = 0.5 - 0.5 * velocity[0] - 0.25 * velocity[1]
    np.testing.assert_allclose(run(make_rule("momentum", STEP_SIZES))["log_std"], expected, rtol=1e-6)


def test_adam_starts_with_a_step_of_one_learning_rate_and_differentiates_at_zero():
    """The square root of a zero gradient has an infinite derivative unless eps_root keeps it away."""
    rule = make_rule("adam", STEP_SIZES)
    np.testing.assert_allclose(run(rule, gradients=[GRADIENT])["log_std"], 0.5 - 0.5, atol=1e-3)

    def moved(scale):
        gradient = jax.tree.map(lambda g: scale * g, GRADIENT)
        return run(rule, gradients=[gradient])["log_std"]

    assert np.isfinite(jax.grad(moved)(0.0))


@pytest.mark.parametrize(
    ("per", "shapes"),
    [("step", ()), ("layer", {"mean/kernel": (), "log_std": ()}), ("parameter", {"mean/kernel": (2,), "log_std": ()})],
)
@pytest.mark.parametrize("per_step", [False, True])
def test_learned_step_sizes_start_as_configured_and_scale_their_part(per, shapes, per_step):
    """One factor for the step, an array or a number; doubled, the move doubles there and nowhere else."""
    rule = learned_step_sizes(STEP_SIZES, per, per_step)
    meta = rule.init(LEAVES, jax.random.key(0))
    copies = (2,) if per_step else ()
    expected = (*copies,) if per == "step" else {path: (*copies, *shape) for path, shape in shapes.items()}
    assert jax.tree.map(jnp.shape, meta) == expected
    plain = run(make_rule("sgd", STEP_SIZES))
    jax.tree.map(np.testing.assert_allclose, run(rule, meta), plain)
    if per != "step":
        doubled = run(rule, {**meta, "log_std": 2.0 * meta["log_std"]})
        np.testing.assert_allclose(doubled["log_std"] - 0.5, 2 * (plain["log_std"] - 0.5), rtol=1e-6)
        np.testing.assert_array_equal(doubled["mean/kernel"], plain["mean/kernel"])


def test_steps_beyond_those_trained_use_the_last_learned_step_size():
    """Meta-test may take more steps than training did."""
    rule = learned_step_sizes(jnp.array([0.5, 0.5, 0.5]), "step", per_step=True)
    meta = jnp.array([1.0, 3.0])
    total = run(rule, meta, [GRADIENT] * 3)["log_std"] - 0.5
    np.testing.assert_allclose(total, -0.5 * 2.0 * (1 + 3 + 3), rtol=1e-6)


def test_step_sizes_receive_the_gradient_that_they_must():
    """d phi / d factor = -alpha g: Meta-SGD learns nothing if this is lost."""
    rule = learned_step_sizes(jnp.array([0.5]), "layer")
    meta = rule.init(LEAVES, jax.random.key(0))
    gradient = jax.grad(lambda m: run(rule, m, [GRADIENT])["log_std"])(meta)
    assert gradient["log_std"] == -0.5 * 2.0
    assert gradient["mean/kernel"] == 0.0


def test_learned_update_starts_as_gradient_descent_and_then_bends_it():
    rule = learned_update(STEP_SIZES)
    meta = rule.init(LEAVES, jax.random.key(0))
    jax.tree.map(np.testing.assert_allclose, run(rule, meta), run(make_rule("sgd", STEP_SIZES)))
    gradient = jax.grad(lambda m: jnp.sum(run(rule, m)["mean/kernel"]))(meta)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) > 1e-3
    zero = jax.tree.map(jnp.zeros_like, GRADIENT)
    slopes = jax.grad(lambda g: jnp.sum(run(rule, meta, [g])["mean/kernel"]))(zero)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_what_is_adapted():
    """A rule's own parameters never are; a path names what is below it, not what begins alike."""
    assert is_adapted("mean/Dense_0/kernel", None)
    assert not is_adapted("inner_rule/log_std", None)
    assert is_adapted("mean/Dense_1/kernel", ("mean/Dense_1",))
    assert not is_adapted("mean/Dense_10/kernel", ("mean/Dense_1",))
    assert is_adapted("log_std", ("log_std",))
