"""Recurrent cells: all steps at once, as accelerators take them, against one by one."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.networks.memory.cells import GRU, LSTM, gru, lstm, read_at_once
from metarl_jax.networks.memory.protocol import Seen

T, B, INPUTS, HIDDEN = 5, 3, 4, 6


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize(("factory", "kind"), [(gru, GRU), (lstm, LSTM)], ids=["gru", "lstm"])
def test_steps_at_once_are_those_one_by_one_and_so_are_their_derivatives(factory, kind, resets):
    """Values, gradients of parameters, first carry and inputs, and Hessian products through both directions."""
    memory = factory(HIDDEN)
    keys = jax.random.split(jax.random.key(0), 5)
    params = jax.tree.map(lambda x: x + 0.1, memory.init(keys[0], INPUTS, 1))  # biases are zero at first
    carry = jax.tree.map(lambda x: x + 0.5, memory.blank(B))
    inputs, weights = jax.random.normal(keys[1], (T, B, INPUTS)), jax.random.normal(keys[2], (T, B, HIDDEN))
    reset = jax.random.bernoulli(keys[4], 0.4, (T, B)).astype(float) if resets else None
    at = params, carry, inputs
    along = jax.tree.map(lambda x: jax.random.normal(keys[3], x.shape), at)

    def loss(read, at):
        params, carry, inputs = at
        last, remembered = read(params, carry, Seen(inputs, inputs, reset))
        return jnp.sum(weights * jnp.square(remembered)) + sum(map(jnp.sum, jax.tree.leaves(last)))

    def everything(read):
        of_loss = partial(loss, read)
        pushed = jax.jvp(of_loss, (at,), (along,))
        return read(params, carry, Seen(inputs, inputs, reset)), pushed, *jax.jvp(jax.grad(of_loss), (at,), (along,))

    one_by_one, at_once = (jax.jit(partial(everything, read))() for read in (memory.read, partial(read_at_once, kind)))
    for left, right in zip(jax.tree.leaves(one_by_one), jax.tree.leaves(at_once), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("factory", "cell"), [(gru, nn.GRUCell), (lstm, nn.OptimizedLSTMCell)])
def test_initial_weights_are_those_of_flax(factory, cell):
    key, memory = jax.random.key(0), factory(HIDDEN)
    expected = cell(HIDDEN).init(key, memory.blank(1), jnp.zeros((1, INPUTS)))["params"]
    jax.tree.map(np.testing.assert_array_equal, memory.init(key, INPUTS, 1), expected)


@pytest.mark.parametrize("factory", [gru, lstm])
def test_chrono_initialisation_keeps_what_is_remembered_for_times_up_to_that_asked_for(factory):
    """Without an input, a memory's share that is left after a step is 1 - 1 / time; else half, of all numbers."""

    def kept(memory):
        params = jax.tree.map(lambda x: x if x.ndim == 1 else jnp.zeros_like(x), memory.init(jax.random.key(0), 4, 1))
        ones = jax.tree.map(jnp.ones_like, memory.blank(1))
        carry, _ = memory.read(params, ones, Seen(jnp.zeros((1, 1, 4)), jnp.zeros((1, 1, 1))))
        return jax.tree.leaves(carry)[0][0]

    times = 1.0 / (1.0 - kept(factory(300, chrono_steps=50)))
    assert 2.0 <= times.min() < 3.0
    assert 49.0 < times.max() <= 50.1
    np.testing.assert_allclose(times.mean(), 26.0, atol=2.0)
    np.testing.assert_allclose(1.0 / (1.0 - kept(factory(300))), 2.0, rtol=1e-5)


def test_an_lstm_that_keeps_for_long_writes_little_at_a_time():
    params = lstm(300, chrono_steps=50).init(jax.random.key(0), 4, 1)
    np.testing.assert_array_equal(params["hi"]["bias"], -params["hf"]["bias"])
    assert all(not params[gate]["bias"].any() for gate in ("hg", "ho"))
