"""Calls of the host: found by name in any process, so that programs with them can be kept."""

import ctypes
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.tasks.adapters import host
from metarl_jax.tasks.adapters.host import call_host

SCRIPT = """
import sys
import jax
from metarl_jax.tasks.adapters.host import call_host

hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None)
factor, result = int(sys.argv[1]), (jax.ShapeDtypeStruct((), "float32"),)
print(jax.jit(lambda x: call_host("times", lambda x: (factor * x,), result, x)[0])(2.0), len(hits))
"""


def like(*arrays):
    return tuple(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays)


def test_a_kept_program_calls_the_function_of_the_process_that_runs_it(tmp_path):
    """The second process takes the program of the first out of the cache."""
    settings = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {**os.environ, **settings}
    for factor, said in ((2, "4.0 0"), (3, "6.0 1")):
        command = [sys.executable, "-c", SCRIPT, str(factor)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == said


@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8", "float16", "float32"])
def test_arrays_pass_as_they_are(dtype):
    x, y = jnp.arange(6).astype(dtype).reshape(3, 2), jnp.zeros((2, 0))

    def swapped(x, y):
        return call_host(f"swapped {dtype}", lambda x, y: (y, x), like(y, x), x, y)

    for function in (swapped, jax.vmap(jax.vmap(swapped, in_axes=(0, None)), in_axes=(0, None))):
        back, forth = jax.jit(function)(x, y)
        assert (forth.dtype, back.dtype) == (x.dtype, y.dtype)
        np.testing.assert_array_equal(forth.reshape(x.shape), x)


def test_vmapped_calls_are_one():
    shapes = []

    def count(x):
        shapes.append(x.shape)
        return (x,)

    jax.jit(jax.vmap(jax.vmap(lambda x: call_host("count", count, like(x), x))))(jnp.zeros((2, 3, 4)))
    assert shapes == [(2, 3, 4)]


def test_what_fails_on_the_host_fails_the_program_and_says_why():
    def fail(x):
        raise LookupError("nowhere to be found")

    with pytest.raises(jax.errors.JaxRuntimeError, match="LookupError: nowhere to be found"):
        jax.block_until_ready(jax.jit(lambda x: call_host("fail", fail, like(x), x))(jnp.zeros(2)))
    with pytest.raises(jax.errors.JaxRuntimeError, match="ValueError"):
        jax.block_until_ready(jax.jit(lambda x: call_host("too few", lambda x: (), like(x), x))(jnp.zeros(2)))


def test_an_accelerator_calls_back():
    """There, what is lowered is no foreign function: it would get pointers into the device's memory."""
    program = jax.make_jaxpr(lambda x: call_host("count", lambda x: (x,), like(x), x))(jnp.zeros(2))
    branches = program.jaxpr.eqns[-1].params["branches"]
    assert [branch.eqns[0].primitive.name for branch in branches] == ["ffi_call", "pure_callback"]


def test_a_call_that_asks_something_else_than_the_version_is_a_call():
    """Else a newer XLA that tells more about a call would go on with what was in memory."""
    called, extension = [], host._Extension(kind=host._METADATA + 1)
    call = host._Call(extension=ctypes.addressof(extension))
    assert host._handled(lambda: called.append(1) or ())(ctypes.pointer(call)) is None
    assert called == [1]
