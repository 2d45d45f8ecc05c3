"""Attention by hand, positions that are relative, and blocks that mix what the mask lets them see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.networks.attention import Transformer, attention, rotate, turns

N, HEADS, H = 5, 2, 4
SCHEMES = pytest.mark.parametrize("scheme", ["pre_norm", "t_fixup"])


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def make(scheme="pre_norm", size=HEADS * H, num_layers=2):
    net = Transformer(size, num_layers, HEADS, scheme)
    return net, jax.jit(net.init)(jax.random.key(1), draw(1, N, 3))


@pytest.mark.parametrize("is_causal", [True, False])
def test_attention_by_hand(is_causal):
    """Of each head and query: the values' mean, weighted by the exponential of the products of those that are seen."""
    query, key, value = (np.asarray(draw(HEADS, N, H, seed=i), np.float64) for i in range(3))
    found = attention(*map(jnp.asarray, (query, key, value)), jnp.tril(jnp.ones((N, N), bool)) if is_causal else None)
    for i in range(N):
        for head in range(HEADS):
            seen = slice(0, i + 1 if is_causal else N)
            weights = np.exp(key[head, seen] @ query[head, i] / 2.0)  # the root of H
            expected = weights @ value[head, seen] / weights.sum()
            np.testing.assert_allclose(found[head, i], expected, rtol=1e-4, atol=1e-6)


def test_each_of_a_batch_has_a_mask_of_its_own():
    """With an axis for the heads, of which there are as many as there are in the batch."""
    batch = draw(HEADS, HEADS, N, H)
    masks = jnp.stack([jnp.tril(jnp.ones((N, N), bool)), jnp.ones((N, N), bool)])
    found = attention(batch, batch, batch, masks[:, None])
    for one, mask, x in zip(found, masks, batch, strict=True):
        np.testing.assert_allclose(one, attention(x, x, x, mask), rtol=1e-5, atol=1e-6)


def test_scores_of_any_size_give_finite_weights_and_gradients():
    large = 1e6 * draw(HEADS, N, H)

    def total(x):
        return attention(x, x, x, jnp.tril(jnp.ones((N, N), bool))).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(large)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_rotary_positions_are_relative_and_keep_lengths():
    """Products depend on the difference of two positions, not on where they are; and on that they do depend."""
    x, y = draw(1, 8), draw(1, 8, seed=1)

    def at(x, position):
        return rotate(x, turns(np.array([position]), 8))

    def product(i, j):
        return float((at(x, i) * at(y, j)).sum())

    assert product(3, 1) == pytest.approx(product(100_003, 100_001), abs=1e-5)
    assert product(3, 1) == pytest.approx(product(2, 0), abs=1e-5)
    assert abs(product(3, 1) - product(3, 2)) > 1e-3
    assert float(jnp.linalg.norm(at(x, 77))) == pytest.approx(float(jnp.linalg.norm(x)), rel=1e-5)
    np.testing.assert_array_equal(at(x, 0), x)
    assert at(x.astype(jnp.bfloat16), 3).dtype == jnp.bfloat16


@SCHEMES
def test_without_positions_it_is_of_a_set(scheme):
    """Another order in, the same other order out."""
    net, variables = make(scheme)
    x, order = draw(1, N, 3), jnp.array([3, 0, 4, 1, 2])
    apply = jax.jit(net.apply)
    np.testing.assert_allclose(apply(variables, x[:, order]), apply(variables, x)[:, order], rtol=1e-4, atol=1e-5)


@SCHEMES
def test_what_the_mask_hides_changes_nothing(scheme):
    net, variables = make(scheme)
    x, mask = draw(1, N, 3), jnp.tril(jnp.ones((N, N), bool))
    apply = jax.jit(lambda x: net.apply(variables, x, mask))
    differs = np.any(apply(x) != apply(x.at[0, 2].add(1.0)), axis=-1)[0]
    assert differs.tolist() == [False, False, True, True, True]


def test_t_fixup_has_no_norms_and_starts_smaller():
    """Of Glorot's range: 0.67 / L^(1/4) of it beside queries and keys, (9 L)^(-1/4) in the embedding (L = 4)."""
    net = Transformer(64, 4, HEADS, "t_fixup")
    params = jax.jit(net.init)(jax.random.key(1), draw(1, N, 64))["params"]
    assert set(params) == {"embedding", *(f"block_{i}" for i in range(4))}
    block = params["block_3"]
    assert set(block) == {"query", "key", "value", "mix", "widen", "narrow"}
    expected = {"query": 1.0, "key": 1.0} | dict.fromkeys(("value", "mix", "widen", "narrow"), 0.67 * 4**-0.25)
    for name, layer in {**block, "embedding": params["embedding"]}.items():
        glorot = np.sqrt(6.0 / sum(layer["kernel"].shape))
        gain = expected.get(name, 6**-0.5)
        assert float(abs(layer["kernel"]).max()) == pytest.approx(gain * glorot, rel=0.01)


def test_pre_norm_normalises_what_comes_out():
    net, variables = make()
    y = jax.jit(net.apply)(variables, 100.0 * draw(1, N, 3))
    np.testing.assert_allclose(y.mean(-1), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.std(-1), 1.0, rtol=1e-3)
