"""A function of JAX and its program for numpy give the same numbers, operation by operation."""

import json
import re

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
    with np.errstate(all="ignore"):
        results = numpy_side.run(program, {**constants, **dict(zip(names, arrays, strict=True))}, generator)
    return results, {equation[0] for equation in program["equations"]}


def one_by_one(x, n):
    """Every operation of the table, alone."""
    unary = (
        *(jnp.abs, jnp.arccos, jnp.arcsin, jnp.arctan, jnp.arctanh, jnp.arcsinh, jnp.cbrt, jnp.ceil, jnp.cos, jnp.cosh),
        *(jnp.exp, jnp.exp2, jnp.expm1, jnp.floor, jnp.isfinite, jnp.log, jnp.log1p, jnp.negative, jnp.sin, jnp.sinh),
        *(jnp.sqrt, jnp.square, jnp.tan, jnp.tanh, jnp.sign, lax.erf, lax.erf_inv, lax.erfc, lax.lgamma),
        *(lax.logistic, lax.rsqrt),
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
        *(~n, n >> 1),
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
        *(lax.cumsum(x, 0, reverse=True), lax.cumprod(x, 1), lax.cummax(x, 0), lax.cummin(x, 1, reverse=True)),
        *(lax.cumlogsumexp(x, 1), lax.cumlogsumexp(x, 0, reverse=True)),
        jnp.einsum("ij,ikj->ki", x, jnp.stack([x, 2 * x], 1)),
        lax.dynamic_slice(x, (n[2, 2], n[2, 0]), (2, 2)),
        lax.dynamic_update_slice(x, x[:2, :2] + 1, (n[2, 2], n[2, 0])),
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
        lax.reduce_xor(n, (1,)),
        lax.reduce_precision(x, 8, 7),
        *(lax.round(10 * (x - 0.5)), jnp.round(jnp.array([0.5, 1.5, -2.5])), lax.round(jnp.array([0.5, -2.5]))),
        *(*lax.sort((n % 3, x), num_keys=1), *lax.sort((n % 2, n % 3, x), dimension=0, num_keys=2)),
        *(*lax.top_k(x, 2), *lax.top_k((n % 3).T, 2)),
        *(jnp.sort(x, descending=True), jnp.argsort(x, axis=0), jnp.median(x), jnp.searchsorted(x[0, :1], x)),
        *(f(x, x[::-1]) for f in (lax.lt_to_p.bind, lax.le_to_p.bind, lax.eq_to_p.bind)),
        x.reshape(4, 3),
        x[::-1],
        jnp.where(x > 0.5, x, n),
        lax.select_n(jnp.arange(12, dtype=jnp.int32).reshape(3, 4) % 3, x, 2 * x, x + 1),
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
    random = {"random_fold_in", "random_split"}
    apart = {"add_any", "bfloat16_from_bits", "scatter-sub"}  # of derivatives, of a type, of newer versions
    assert set(numpy_side.OPERATIONS) - seen - random - BLOCKS == apart


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


def test_a_loop_over_lanes_goes_on_in_those_that_have_not_ended() -> None:
    def grown(x, row):
        return lax.while_loop(lambda c: c[0] < 1.5, lambda c: (c[0] * 1.5, c[1] + 1, c[2] + row), (x, 0, row))

    def function(x):
        return jax.vmap(jax.vmap(grown, (0, None)))(x, x)

    results, _ = evaluate(function, X)
    assert len(np.unique(results[1])) > 2
    for got, wanted in zip(results, jax.jit(function)(X), strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_a_program_within_a_program_sees_what_the_function_closes_over() -> None:
    body = {"inputs": [0, 1], "equations": [["add", [0, "constants/0"], [2], {}]], "outputs": [2, 1]}
    settings = {"jaxpr": body, "length": 3, "reverse": False, "num_consts": 0, "num_carry": 1}
    program = {"equations": [["scan", ["x", "rows"], [3, 4], settings]], "outputs": [3, 4]}
    values = {"x": np.float32(1.0), "rows": X, "constants/0": np.float32(2.0)}
    carry, rows = numpy_side.run(program, values, None)
    assert carry == 7.0
    np.testing.assert_array_equal(rows, X)


LOW = np.iinfo(np.int32).min
EDGES = {
    "shift_right_logical": (lambda n: lax.shift_right_logical(n, jnp.full_like(n, 1)), np.array([-8, LOW, 5, -1])),
    "far shift_right_logical": (lambda n: lax.shift_right_logical(n, n), np.array([-8, 32, 5, 0])),
    "shift_right_arithmetic": (lambda n: lax.shift_right_arithmetic(n, n[::-1]), np.array([255, 8, 1, 128], np.uint8)),
    "reduce_and": (lambda n: lax.reduce_and(n, (0,)), np.array([6, 3])),
    "reduce_or": (lambda n: lax.reduce_or(n, (0,)), np.array([6, 3])),
    "div": (lambda n: lax.div(n, n[::-1]), np.array([7, LOW, 0, -9, LOW, 0, -4, 2, -1, 0])),
    "rem": (lambda n: lax.rem(n, n[::-1]), np.array([7, LOW, 0, -9, LOW, 0, -4, 2, -1, 0])),
    "div of uint8": (lambda n: lax.div(n, n[::-1]), np.array([7, 255, 0], np.uint8)),
    "rem of uint8": (lambda n: lax.rem(n, n[::-1]), np.array([7, 255, 0], np.uint8)),
    "top_k": (lambda x: lax.top_k(x, 7), np.array([-0.0, 0.0, np.nan, -np.nan, np.inf, -np.inf, 0.0], np.float32)),
    "top_k of uint8": (lambda n: lax.top_k(n, 4), np.array([0, 255, 1, 255], np.uint8)),
    "lt_to": (
        lambda x: lax.lt_to_p.bind(jnp.repeat(x, 5), jnp.tile(x, 5)),
        np.array([-0.0, 0.0, np.nan, -np.inf, -np.nan], np.float32),
    ),
    "bfloat16 of float16": (lambda x: lax.bitcast_convert_type(x, jnp.bfloat16), np.array([1.5, -2], np.float16)),
}


@pytest.mark.parametrize("name", EDGES)
def test_at_the_edges_numpy_gives_the_bits_that_jax_gives(name: str) -> None:
    function, x = EDGES[name]
    given = x.astype(np.int32) if x.dtype == np.int64 else x
    for got, wanted in zip(evaluate(function, given)[0], jax.tree.leaves(jax.jit(function)(given)), strict=True):
        exact = np.asarray(wanted, np.float32) if wanted.dtype == jnp.bfloat16 else np.asarray(wanted)
        assert np.asarray(got).dtype == exact.dtype
        assert np.asarray(got).tobytes() == exact.tobytes(), (got, wanted)


def test_what_is_empty_or_has_no_axes_is_evaluated_too() -> None:
    def function(x, n):
        kinds = (x[:0], n[:0], n[:0].astype(jnp.uint8), n[:0] > 0)
        image, kernel = x[None, None], jnp.ones((4, 1, 5, 5))
        return [
            *(reduce(y, (0,)) for reduce in (lax.reduce_max, lax.reduce_min) for y in kinds),
            *(reduce(y, (0,)) for reduce in (lax.reduce_and, lax.reduce_or) for y in kinds[1:]),
            lax.conv_general_dilated(image, kernel, (1, 1), "VALID"),
            lax.conv_general_dilated(image.repeat(2, 1), kernel, (2, 1), "VALID", feature_group_count=2),
            *(nn.max_pool(image[0, ..., None], (5, 2)), nn.avg_pool(image[0, ..., None], (5, 5))),
            *(lax.dynamic_update_slice(x[0, 0], x[1, 1], ()), lax.dynamic_slice(x[0, 0], (), ())),
            *(x[0, 0].at[()].set(3.0), x[0, 0].at[()].add(3.0)),
        ]

    for i, (got, wanted) in enumerate(zip(evaluate(function, X, N)[0], jax.jit(function)(X, N), strict=True)):
        assert (np.asarray(got).dtype, np.shape(got)) == (wanted.dtype, wanted.shape), i
        np.testing.assert_array_equal(got, wanted, err_msg=str(i))


BLOCKS = {"gather", "conv_general_dilated"}
BLOCKS |= {f"reduce_window_{name}" for name in ("max", "min", "sum")}
BLOCKS |= {"scatter", *(f"scatter-{name}" for name in ("add", "max", "min", "mul"))}
IMAGES = np.random.default_rng(1).normal(size=(2, 7, 6, 4)).astype(np.float32)


def test_blocks_of_an_array_are_read_and_written_as_jax_does_inside_and_outside() -> None:
    def function(x, n):
        far, twice = jnp.array([1, 9, -5]), (jnp.array([0, 0, 2]), jnp.array([1, 1, 9]))
        largest = jnp.argmax(x, 1)
        return [
            *(jnp.take(x, far, axis=1, mode=mode) for mode in ("clip", "wrap", "fill")),
            *(y.at[far].get(mode="fill") for y in (n, n.astype(jnp.uint8), n > 0)),
            x.at[far].get(mode="fill", fill_value=3.5),
            *(x[..., jnp.array([2, 0])], x[jnp.array([[0], [2]]), jnp.array([0, 3, 1])], x[largest], x[n[2, 0] % 3]),
            jnp.take_along_axis(x, jnp.argsort(x, 1), 1),
            jax.vmap(lambda row, i: row[i])(x, largest),
            jax.vmap(lambda row, i: lax.dynamic_slice(row, (i,), (2,)), (1, None), 1)(x, n[2, 0]),
            jax.vmap(lambda row, i: row.at[i].set(7.0))(x, largest),
            *(x.at[1].set(0.0), x.at[:, 1:3].set(5.0), x.at[twice].set(2.0), x.at[twice].add(2.0)),
            *(x.at[twice].multiply(2.0), x.at[twice].min(0.3), x.at[twice].max(0.8), x.at[twice].subtract(1.0)),
            x.at[:, far].set(1.0, mode="clip"),
            nn.Embed(3, 3).apply({"params": {"embedding": x[:, :3]}}, n % 3),
        ]

    results, seen = evaluate(function, X, N)
    assert BLOCKS & seen == {name for name in BLOCKS if name.startswith(("gather", "scatter"))}
    for i, (got, wanted) in enumerate(zip(results, jax.jit(function)(X, N), strict=True)):
        assert np.asarray(got).dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-6, err_msg=str(i))


CONVOLUTIONS = [
    {"padding": "SAME", "strides": (2, 1)},
    {"padding": "VALID", "feature_group_count": 2},
    {"padding": "CIRCULAR", "feature_group_count": 4},
    {"padding": ((1, 0), (2, 3)), "kernel_dilation": (2, 1)},
    {"padding": 1, "input_dilation": (1, 2), "strides": 2, "kernel_dilation": 2},
]


def test_convolutions_and_pools_of_every_kind() -> None:
    window = {"window_shape": (3, 2), "strides": (2, 1)}
    nets = [nn.Conv(4, (3, 2), **settings) for settings in CONVOLUTIONS]
    nets += [nn.ConvTranspose(3, (3, 2), (2, 2), transpose_kernel=kind) for kind in (False, True)]
    nets += [nn.ConvLocal(2, (2, 2))]
    params = [jax.jit(net.init)(jax.random.key(0), IMAGES) for net in nets]
    causal = nn.Conv(2, (3,), padding="CAUSAL")
    of_causal = causal.init(jax.random.key(0), IMAGES[0])

    def function(x):
        pools = [pool(x, **window, padding=p) for pool in (nn.max_pool, nn.avg_pool) for p in ("SAME", "VALID")]
        lowest = lax.reduce_window(x, np.inf, lax.min, (1, 2, 3, 1), (1, 2, 1, 1), "SAME", (1, 2, 1, 1), (1, 1, 2, 1))
        whole = nn.max_pool((10 * x).astype(jnp.int32), (2, 2))
        turned = lax.conv_general_dilated(x, x[:3, :2], (1, 1), "SAME", dimension_numbers=("NHWC", "OHWI", "HNWC"))
        outputs = [net.apply(own, x) for net, own in zip(nets, params, strict=True)]
        return [*outputs, causal.apply(of_causal, x[0]), *pools, lowest, whole, turned]

    results, seen = evaluate(function, IMAGES)
    assert BLOCKS & seen >= {name for name in BLOCKS if name.startswith(("conv", "reduce"))}
    for i, (got, wanted) in enumerate(zip(results, jax.jit(function)(IMAGES), strict=True)):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=2e-6, err_msg=str(i))


def test_types_are_converted_as_jax_does_it() -> None:
    def function(x, n):
        return [
            *(x.astype(kind) for kind in ("int8", "uint8", "int32", "uint32", "bool", "float16")),
            x[2:] ** n,
            lax.dot(jnp.full((2, 3), 100, "int8"), jnp.full((3, 2), 100, "int8"), preferred_element_type=jnp.int32),
            *(lax.erf_inv(jnp.array([-1.0, 1.0, 2.0])), lax.lgamma(jnp.array([0.0, 0.3, -2.0, -1.5, 9.0]))),
        ]

    x = np.array([1e10, -1e10, 300.0, -5.5, np.nan, np.inf, -np.inf, 2.0**31], np.float32)
    results, _ = evaluate(function, x, N.ravel()[:6])
    for got, wanted in zip(results, jax.jit(function)(x, N.ravel()[:6]), strict=True):
        assert np.asarray(got).dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_bfloat16_is_float32_that_is_rounded_after_every_operation() -> None:
    """To the bit, where XLA does not leave roundings out."""
    half = jnp.bfloat16
    net = nn.Sequential([nn.Dense(5, dtype=half, param_dtype=half), nn.LayerNorm(dtype=half), nn.gelu])
    params = net.init(jax.random.key(0), X)
    bits = np.array([0x3F80, 0xC0A1], np.uint16)

    def function(x):
        loop = lax.fori_loop(0, 3, lambda i, y: y * x[0, 0].astype(half), jnp.ones((), half))
        rounded = jnp.array([1e39, np.nan, 1 + 2**-8], half)
        return net.apply(params, x), loop, lax.bitcast_convert_type(bits, half), rounded, rounded * x[0, 0].astype(half)

    for got, wanted in zip(evaluate(function, X)[0], function(X), strict=True):
        assert wanted.dtype == half
        np.testing.assert_array_equal(got, np.asarray(wanted, np.float32))


def test_inputs_of_bfloat16_are_rounded_unless_they_are_said_to_be() -> None:
    arguments = (jax.ShapeDtypeStruct((2,), jnp.bfloat16), jax.ShapeDtypeStruct((2,), jnp.bfloat16))

    def function(x, y):
        return lax.map(lambda one: one.astype(jnp.float32), x), y.astype(jnp.float32)

    program = write_program(function, ["x", "y"], arguments, {}, rounded={"y"})
    near = np.array([1.001, 1.5], np.float32)
    rounded, left = numpy_side.run(program, {"x": near, "y": near}, None)
    np.testing.assert_array_equal(rounded, [1.0, 1.5])
    np.testing.assert_array_equal(left, near)


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
    inverse = lambda x: (jnp.linalg.inv(x[:, :3]), x + 1.0)  # noqa: E731
    with pytest.raises(NotInNumpy, match=r"policy = 'lu': .*act with the jax\.export artefact"):
        write_program(inverse, ["x"], (X,), {})
    results, _ = evaluate(lambda x: inverse(x)[1], X)
    np.testing.assert_allclose(results[0], X + 1.0)


def test_what_a_loop_or_a_branch_draws_and_nobody_needs_is_left_out() -> None:
    def function(x, key):
        def step(carry, row):
            state, key = carry
            drawn = row + jax.random.normal(key)
            return (state + row, jax.random.split(key)[0]), (
                drawn,
                lax.cond(row > 0.5, lambda: (drawn, row), lambda: (row, drawn)),
            )

        (state, _), _ = lax.scan(step, (0.0, key), x[0])
        return state + lax.cond(x[0, 0] > 0.5, lambda: (jax.random.normal(key), 2.0), lambda: (1.0, 3.0))[1]

    program = write_program(function, ["x", "key"], (X, KEY), {}, is_random=False)
    (got,) = numpy_side.run(program, {"x": X, "key": np.zeros((), np.uint8)}, None)
    np.testing.assert_allclose(got, function(X, KEY), rtol=1e-6)


KEY = jax.random.key(0)
UNKNOWN = {
    "random_bits": lambda x, key: x + jax.random.normal(key, x.shape),
    "key<fry>": lambda x, key: x + jax.random.normal(KEY, x.shape),
    "random_seed": lambda x, key: x + jax.random.normal(jax.random.key(0), x.shape),
    "complex64": lambda x, key: jnp.abs(x + 1j),
    "float8_e4m3fn": lambda x, key: x.astype(jnp.float8_e4m3fn).astype(jnp.float32),
    "float8_e5m2": lambda x, key: x.astype(jnp.float8_e5m2).astype(jnp.float32),
    "scan(length=0)": lambda x, key: lax.scan(lambda c, row: (c, 2 * row), 0.0, x[:0])[1],
    "scatter(update_jaxpr)": lambda x, key: x.at[1].apply(jnp.sin),
    "reduce_precision(exponent_bits, mantissa_bits)": lambda x, key: lax.reduce_precision(x, 5, 10),
    "bitcast_convert_type of bfloat16": lambda x, key: x.astype(jnp.bfloat16).view(jnp.uint16),
    "pure_callback": lambda x, key: jax.pure_callback(np.sin, x, x),
    "conv_general_dilated(batch_group_count)": lambda x, key: lax.conv_general_dilated(
        x[:2, :1, None].repeat(2, 0), x[:2, :1, None], (1,), "SAME", batch_group_count=2
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_numpy_would_fail_at_or_do_otherwise_is_refused_when_it_is_written(name: str) -> None:
    with pytest.raises(NotInNumpy, match=rf"policy = {re.escape(repr(name))}: .*act with the jax\.export artefact"):
        write_program(UNKNOWN[name], ["x", "key"], (X, KEY), {}, is_random=False)


def test_inputs_of_types_that_numpy_does_not_have_are_refused() -> None:
    with pytest.raises(NotInNumpy, match="policy = 'float8_e5m2': numpy does not know this type"):
        write_program(lambda x: x.astype(jnp.float32), ["x"], (jax.ShapeDtypeStruct((2,), jnp.float8_e5m2),), {})


@pytest.mark.parametrize(
    ("given", "kind"), [("float32", "uint8"), ("uint16", "float32"), ("uint32", "bfloat16"), ("uint8", "bfloat16")]
)
def test_bits_are_not_taken_for_numbers_of_another_size(given: str, kind: str) -> None:
    with pytest.raises(NotInNumpy, match="policy = 'bitcast_convert_type between sizes': "):
        write_program(lambda x: lax.bitcast_convert_type(x, kind), ["x"], (np.ones((4, 2), given),), {})


class Everything(nn.Module):
    """Of images, as people build their networks."""

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Conv(8, (3, 3))(x))
        x = nn.GroupNorm(2)(nn.RMSNorm()(jax.nn.mish(x))).reshape(2, -1, 8)[:, ::8]
        x += nn.MultiHeadDotProductAttention(2)(x, x, mask=nn.make_causal_mask(x[..., 0]))
        cells = (nn.GRUCell(3), nn.OptimizedLSTMCell(3), nn.MGUCell(3), nn.SimpleCell(3))
        x = jnp.concatenate([nn.RNN(cell)(x, seq_lengths=jnp.array([2, 5]))[:, -1] for cell in cells], -1)
        smooth = (nn.gelu, nn.silu, nn.softplus, nn.elu, nn.selu, nn.celu, nn.log_sigmoid, nn.soft_sign, nn.softmax)
        hard = (nn.relu6, nn.hard_sigmoid, nn.hard_swish, nn.hard_tanh, nn.leaky_relu, nn.PReLU(), nn.glu)
        x = jnp.concatenate([nn.LayerNorm()(function(x)) for function in (*smooth, *hard)], -1)
        return nn.DenseGeneral((2, 3))(x)


def test_layers_of_other_peoples_networks_are_known() -> None:
    net = Everything()
    params = jax.jit(net.init)(jax.random.key(0), IMAGES)
    results, _ = evaluate(lambda x: net.apply(params, x), IMAGES)
    np.testing.assert_allclose(results[0], jax.jit(net.apply)(params, IMAGES), rtol=1e-5, atol=5e-6)
