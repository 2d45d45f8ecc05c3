"""Recurrent cells: all steps at once, as accelerators take them, against one by one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.networks.memory.cells import KINDS, recurrent_cell, unroll_at_once

T, B, INPUTS, HIDDEN = 5, 3, 4, 6


@pytest.mark.parametrize("name", KINDS)
def test_steps_at_once_are_those_one_by_one_and_so_are_their_derivatives(name):
    """Values, gradients of parameters, first carry and inputs, and Hessian products through both directions."""
    cell = recurrent_cell(name, HIDDEN)
    keys = jax.random.split(jax.random.key(0), 4)
    params = jax.tree.map(lambda x: x + 0.1, cell.init(keys[0], INPUTS))  # biases are zero at first
    carry = jax.tree.map(lambda x: x + 0.5, cell.blank(B))
    inputs, weights = jax.random.normal(keys[1], (T, B, INPUTS)), jax.random.normal(keys[2], (T, B, HIDDEN))
    at = params, carry, inputs
    along = jax.tree.map(lambda x: jax.random.normal(keys[3], x.shape), at)

    def loss(unroll, at):
        last, remembered = unroll(*at)
        return jnp.sum(weights * jnp.square(remembered)) + sum(map(jnp.sum, jax.tree.leaves(last)))

    def everything(unroll):
        of_loss = partial(loss, unroll)
        pushed = jax.jvp(partial(loss, unroll), (at,), (along,))
        return unroll(*at), pushed, *jax.jvp(jax.grad(of_loss), (at,), (along,)), jax.grad(of_loss)(at)

    one_by_one, at_once = (
        jax.jit(partial(everything, unroll))() for unroll in (cell.unroll, partial(unroll_at_once, KINDS[name]))
    )
    for left, right in zip(jax.tree.leaves(one_by_one), jax.tree.leaves(at_once), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
