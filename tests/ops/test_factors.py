"""Factors under ``vmap``: the same numbers, and no thread that waits for ever."""

import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.ops.factors import cholesky_factor, cholesky_solve, orthogonal

MATRICES = jnp.stack([jnp.diag(jnp.arange(1.0, 4.0)) + 0.1 * n for n in range(5)])
MANY_AT_ONCE = """
import jax
from metarl_jax.ops.factors import orthogonal
draw = jax.jit(jax.vmap(lambda key: [orthogonal(key, (64, 64)) for key in jax.random.split(key, 6)]))
for seed in range(10):
    jax.block_until_ready(draw(jax.random.split(jax.random.key(seed), 40)))
print("drawn")
"""


def test_more_batches_at_once_than_threads_do_not_wait_for_each_other() -> None:
    """With flax's own weights this does not end: two threads wait at the first try."""
    environment = {**os.environ, "NPROC": "2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", MANY_AT_ONCE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "drawn\n", done.stderr


def test_solutions_are_those_of_each_matrix() -> None:
    right = jnp.arange(15.0).reshape(5, 3)
    solved = jax.vmap(cholesky_solve)(jax.vmap(cholesky_factor)(MATRICES), right)
    np.testing.assert_allclose(jnp.einsum("bij,bj->bi", MATRICES, solved), right, rtol=1e-5, atol=1e-5)


def test_weights_are_orthogonal_and_those_of_flax() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    drawn = jax.vmap(lambda key: orthogonal(key, (4, 4)))(keys)
    for key, weights in zip(keys, drawn, strict=True):
        np.testing.assert_allclose(weights @ weights.T, np.eye(4), atol=1e-6)
        assert (weights == nn.initializers.orthogonal()(key, (4, 4), float)).all()


@pytest.mark.parametrize(("platform", "is_batch"), [("cpu", False), ("cuda", True)])
def test_only_accelerators_take_a_batch_at_once(platform: str, is_batch: bool) -> None:
    program = jax.jit(jax.vmap(cholesky_factor)).trace(MATRICES).lower(lowering_platforms=(platform,)).as_text()
    (called,) = [line for line in program.splitlines() if "custom_call" in line and "potrf" in line]
    assert ("tensor<5x3x3xf32>" in called) == is_batch
