"""The transformer as a memory: a step at a time as all at once, within its window and since the last reset."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.networks.attention import Transformer, attention, rotate, turns
from metarl_jax.networks.memory.protocol import Seen
from metarl_jax.networks.memory.transformer import transformer

T, B, FEATURES, HIDDEN, LAYERS = 11, 3, 4, 8, 2


def make(window, **settings):
    memory = transformer(HIDDEN, **{"window": window, "num_layers": LAYERS, "num_heads": 2, **settings})
    return memory, jax.jit(memory.init, static_argnums=(1, 2))(jax.random.key(0), FEATURES, 1)


def draw(seed=1, num_steps=T, has_resets=True):
    """Lanes that are reset at steps of their own; the first at none."""
    features = jax.random.normal(jax.random.key(seed), (num_steps, B, FEATURES))
    reset = jnp.zeros((num_steps, B)).at[jnp.array([4, 7, 2]), jnp.array([1, 1, 2])].set(1.0)
    return Seen(features, jnp.zeros((num_steps, B, 1)), reset if has_resets else None)


def cut(seen, first, last):
    return jax.tree.map(lambda x: x[first:last], seen)


@pytest.mark.parametrize(("window", "has_resets"), [(1, True), (3, True), (4, False), (20, True)])
def test_stretches_of_any_length_give_the_same(window, has_resets):
    """A step at a time, stretches shorter and longer than the window, and the whole: numbers and what is carried."""
    memory, params = make(window)
    seen, read = draw(has_resets=has_resets), jax.jit(memory.read)
    whole = read(params, memory.blank(B), seen)
    for length in (1, 5):
        cache, parts = memory.blank(B), []
        for first in range(0, T, length):
            cache, remembered = read(params, cache, cut(seen, first, first + length))
            parts.append(remembered)
        found = cache, jnp.concatenate(parts)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), found, whole)


def test_it_is_attention_to_the_window_since_the_reset():
    """Against one mask over all pairs of steps, in which positions start elsewhere."""
    window, seen = 3, draw()
    memory, params = make(window)
    t = np.arange(T)
    ago, trial = t[:, None] - t, np.cumsum(seen.reset, axis=0).T
    mask = (ago >= 0) & (ago <= window) & (trial[:, :, None] == trial[:, None, :])

    def attend(past, query, key, value):
        by = turns(t + 1000, HIDDEN // 2)
        return attention(rotate(query, by), rotate(key, by), value, jnp.asarray(mask)[:, None]), past

    net = Transformer(HIDDEN, LAYERS, 2)
    expected, _ = net.apply({"params": params}, jnp.moveaxis(seen.features, 0, 1), ((),) * 2, attend, method=net.read)
    _, found = jax.jit(memory.read)(params, memory.blank(B), seen)
    np.testing.assert_allclose(jnp.moveaxis(found, 0, 1), expected, rtol=1e-4, atol=1e-5)


def test_the_window_slides_and_layers_look_through_it():
    """With two layers and a window of two a step reaches four steps on."""
    memory, params = make(2)
    seen, read = draw(has_resets=False), jax.jit(memory.read)
    other = seen._replace(features=seen.features.at[1, 0].add(1.0))
    left, right = (read(params, memory.blank(B), one)[1] for one in (seen, other))
    differs = np.any(left != right, axis=-1)
    assert not differs[:, 1:].any()
    assert np.flatnonzero(differs[:, 0]).tolist() == [1, 2, 3, 4, 5]


def test_positions_matter():
    """Two steps of the past that change places are another past."""
    memory, params = make(T, num_layers=1)
    seen, read = draw(has_resets=False), jax.jit(memory.read)
    swapped = seen._replace(features=seen.features[jnp.array([1, 0, *range(2, T)])])
    left, right = (read(params, memory.blank(B), one)[1][-1] for one in (seen, swapped))
    assert abs(left - right).max() > 1e-4


def test_numbers_stay_finite_and_exact_in_long_trials():
    """After 5,000 steps of any size a step is what it would be after the window alone."""
    memory, params = make(4, num_layers=1)
    seen = draw(num_steps=5000, has_resets=False)
    seen, read = seen._replace(features=100.0 * seen.features), jax.jit(memory.read)
    cache, remembered = read(params, memory.blank(B), seen)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((cache, remembered)))
    _, last = read(params, memory.blank(B), cut(seen, 4995, 5000))
    np.testing.assert_allclose(remembered[-1], last[-1], rtol=1e-5, atol=1e-5)


def test_heads_that_cannot_share_the_width_are_refused():
    with pytest.raises(ValueError, match="num_heads = 3: hidden_size = 8 must be a multiple of twice as many"):
        make(3, num_heads=3)
