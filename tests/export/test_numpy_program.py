"""A function of JAX and its program for numpy give the same numbers, operation by operation."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from metarl_jax.export import policy as numpy_side
from metarl_jax.export.program import NotInNumpy, write_program
from metarl_jax.ops.matmul import matmul

X = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4)).astype(np.float32)
N = np.arange(-6, 6, dtype=np.int32).reshape(3, 4)


def evaluate(function, *arrays, generator=None):
    """By numpy, after a way through JSON; the operations beside the results."""
    names, constants = [f"input {i}" for i in range(len(arrays))], {}
    program = json.loads(json.dumps(write_program(function, names, arrays, constants), allow_nan=False))
    results = numpy_side.run(program, {**constants, **dict(zip(names, arrays, strict=True))}, generator)
    return results, {equation[0] for equation in program["equations"]}


def one_by_one(x, n):
    """Every operation of the table, alone."""
    unary = (
        *(jnp.abs, jnp.arccos, jnp.arcsin, jnp.arctan, jnp.arctanh, jnp.arcsinh, jnp.cbrt, jnp.ceil, jnp.cos, jnp.cosh),
        *(jnp.exp, jnp.exp2, jnp.expm1, jnp.floor, jnp.isfinite, jnp.log, jnp.log1p, jnp.negative, jnp.sin, jnp.sinh),
        *(jnp.sqrt, jnp.square, jnp.tan, jnp.tanh, jnp.sign, lax.erf, lax.erf_inv, lax.erfc, lax.logistic, lax.rsqrt),
        *(lambda x: jnp.arccosh(1.0 + x), lambda x: lax.integer_pow(x, 3), lambda x: lax.integer_pow(x, -2)),
    )
    binary = (
        *(jnp.add, jnp.arctan2, jnp.divide, jnp.equal, jnp.greater, jnp.greater_equal, jnp.less, jnp.less_equal),
        *(jnp.maximum, jnp.minimum, jnp.multiply, jnp.nextafter, jnp.not_equal, jnp.power, jnp.subtract, lax.rem),
    )
    whole = (lax.div, lax.rem, jnp.bitwise_and, jnp.bitwise_or, jnp.bitwise_xor, jnp.maximum)
    return [
        *(f(x) for f in unary),
        *(f(x - 0.5, x[::-1] - 0.5) for f in binary if f is not jnp.power),
        jnp.power(x, x[::-1]),
        *(f(n, jnp.full_like(n, 4)) for f in whole),
        ~n,
        lax.shift_left(n, jnp.full_like(n, 2)),
        lax.shift_right_logical(n.view(jnp.uint32), jnp.full((3, 4), 2, jnp.uint32)),
        jnp.argmax(x, 1),
        jnp.argmin(x, 0),
        lax.bitcast_convert_type(x, jnp.uint32),
        lax.broadcast_in_dim(x[0], (2, 4), (1,)),
        lax.clamp(0.3, x, 0.6),
        jnp.concatenate([x, x], 1),
        n.astype(float),
        lax.copy_p.bind(x),
        lax.cumsum(x, 1),
        lax.cumsum(x, 0, reverse=True),
        jnp.einsum("ij,ikj->ki", x, jnp.stack([x, 2 * x], 1)),
        lax.dynamic_slice(x, (n[2, 2], n[2, 0]), (2, 2)),
        lax.iota(jnp.int32, 5),
        matmul(x, x.T),
        lax.optimization_barrier((x, n))[1],
        jnp.pad(x, 1),
        lax.pad(x, 7.0, ((-1, 2, 2), (3, -2, 1))),
        lax.pad(x, 7.0, ((0, -1, 0), (-2, -1, 3))),
        lax.pad(x[:0], 7.0, ((2, 0, 1), (0, 0, 0))),
        (x > 0.5).all(1),
        (x > 0.5).any(1),
        x.max(0),
        x.min(1),
        x.prod(1),
        x.sum(),
        x.reshape(4, 3),
        x[::-1],
        jnp.where(x > 0.5, x, n),
        x[1:, ::2],
        *jnp.split(x, 2, 1),
        lax.squeeze(x[:1], (0,)),
        lax.stop_gradient(x),
        jnp.tile(x, (2, 1)),
        *jnp.unstack(x, axis=1),
        x.T,
    ]


def test_every_operation_gives_the_number_that_jax_gives() -> None:
    results, seen = evaluate(one_by_one, X, N)
    for got, wanted in zip(results, jax.jit(one_by_one)(X, N), strict=True):
        assert np.asarray(got).dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-6)
    random = {"random_fold_in", "random_split", "random_wrap"}
    assert set(numpy_side.OPERATIONS) - seen - random == {"add_any"}  # of derivatives alone


def test_loops_and_branches_are_programs_within_a_program() -> None:
    def function(x, n):
        def step(carry, row):
            (kept, total), steps = carry
            return ((kept * 0.5 + row * n[2, 1], total + row[0]), steps + 1), kept.sum()

        ((carry, _), _), rows = lax.scan(step, ((x[0], 0.0), 0), x, reverse=True)
        grown = lax.while_loop(lambda c: c.sum() < n[2, 3], lambda c: c * (1.0 + x[0]), carry)
        return carry, rows, grown, lax.switch(n[2, 0], (jnp.sin, jnp.cos, lambda x: x + n[0, 0]), x)

    results, seen = evaluate(function, X, N)
    assert {"scan", "while", "cond"} <= seen
    for got, wanted in zip(results, jax.jit(function)(X, N), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_a_program_within_a_program_sees_what_the_function_closes_over() -> None:
    body = {"inputs": [0, 1], "equations": [["add", [0, "constants/0"], [2], {}]], "outputs": [2, 1]}
    settings = {"jaxpr": body, "length": 3, "reverse": False, "num_consts": 0, "num_carry": 1}
    program = {"equations": [["scan", ["x", "rows"], [3, 4], settings]], "outputs": [3, 4]}
    values = {"x": np.float32(1.0), "rows": X, "constants/0": np.float32(2.0)}
    carry, rows = numpy_side.run(program, values, None)
    assert carry == 7.0
    np.testing.assert_array_equal(rows, X)


class Bits:
    """In the place of a generator: the bits that JAX draws with a key."""

    def __init__(self, key: jax.Array) -> None:
        self.key = key

    def integers(self, high, size, dtype, endpoint):
        assert (high, endpoint) == (np.iinfo(dtype).max, True)
        return np.asarray(jax.random.bits(self.key, size, dtype))


@pytest.mark.parametrize(
    "draw", [lambda key: jax.random.normal(key, (50,)), lambda key: jax.random.categorical(key, jnp.zeros((50, 3)))]
)
def test_of_the_same_bits_the_same_random_numbers_are_made(draw) -> None:
    key, constants = jax.random.key(7), {}
    program = write_program(draw, ["key"], (key,), constants)
    (got,) = numpy_side.run(program, {"key": np.zeros((), np.uint8), **constants}, Bits(key))
    np.testing.assert_allclose(got, draw(key), rtol=1e-5, atol=1e-6)


def test_keys_that_are_split_draw_from_the_generator() -> None:
    def function(key):
        keys = jax.random.split(jax.random.fold_in(key, 3), 4)
        return jax.vmap(lambda key: jax.random.uniform(key, (1000,)))(keys)

    program = write_program(function, ["key"], (jax.random.key(0),), {})
    (drawn,) = numpy_side.run(program, {"key": np.zeros((), np.uint8)}, np.random.default_rng(0))
    assert drawn.shape == (4, 1000)
    np.testing.assert_allclose(drawn.mean(1), 0.5, atol=0.04)
    assert abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.15


def test_what_numpy_does_not_know_is_refused_by_name_unless_nobody_needs_it() -> None:
    sort = lambda x: (jnp.sort(x), x + 1.0)  # noqa: E731
    with pytest.raises(NotInNumpy, match=r"policy = 'sort': .*act with the jax\.export artefact"):
        write_program(sort, ["x"], (X,), {})
    results, _ = evaluate(lambda x: sort(x)[1], X)
    np.testing.assert_allclose(results[0], X + 1.0)
    with pytest.raises(NotInNumpy, match="bfloat16"):
        write_program(lambda x: x.astype("bfloat16") * 2, ["x"], (X,), {})


def test_layers_of_other_peoples_networks_are_known() -> None:
    net = nn.Sequential([nn.Dense(5), nn.LayerNorm(), nn.gelu, nn.Dense(5), nn.softplus, nn.Dense(2), nn.leaky_relu])
    params = net.init(jax.random.key(0), X)
    results, _ = evaluate(lambda x: net.apply(params, x), X)
    np.testing.assert_allclose(results[0], net.apply(params, X), rtol=1e-5, atol=1e-6)
