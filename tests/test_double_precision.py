"""``JAX_ENABLE_X64=1``, in a process of its own: precision is settled when JAX starts."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.runs.snapshot import make_item, misfit, take_snapshot
from tests.helpers import environment


@pytest.mark.slow
def test_training_resuming_and_evaluating_are_in_double_precision(tmp_path: Path) -> None:
    """A gradient-based method, one with a memory, and a body with random physics."""
    command = [sys.executable, "-W", "error", "-m", "tests.double_precision", str(tmp_path)]
    done = subprocess.run(
        command, env={**environment(), "JAX_ENABLE_X64": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_a_checkpoint_of_the_other_precision_says_how_to_go_on() -> None:
    item = make_item(take_snapshot({"w": np.ones(2), "n": np.int32(3)}), {}, None)
    here = {"w": jax.ShapeDtypeStruct((2,), jnp.float32), "n": jax.ShapeDtypeStruct((), jnp.int32)}
    assert misfit(item, here) == (
        "it was saved in double precision and this process computes in single: start it with JAX_ENABLE_X64=1"
    )
    single = make_item(take_snapshot({"w": np.ones(2, np.float32), "n": np.int32(3)}), {}, None)
    assert misfit(single, {"w": np.ones(2), "n": np.int32(0)}).endswith("start it with JAX_ENABLE_X64=0")
