"""Layers of linear recurrences against their definitions, written out; and what goes through a running maximum."""

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.networks.memory import Seen, gru, min_gru, s5, splagger

T, B, M = 6, 2, 3


def seen():
    return Seen(jax.random.normal(jax.random.key(3), (T, B, M)), jnp.zeros((T, B, 1)))


def layers(params, x, mix):
    """``[T, M]`` through a stack, written out."""
    x = x @ params["encoder"]["kernel"] + params["encoder"]["bias"]
    for name in sorted(set(params) - {"encoder"}):
        layer = params[name]
        spread = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
        normal = (x - x.mean(axis=-1, keepdims=True)) / spread * layer["norm"]["scale"] + layer["norm"]["bias"]
        y = np.asarray(jax.nn.gelu(mix(layer["mix"], normal)))
        x = x + y / (1 + np.exp(-y @ layer["gate"]["kernel"] - layer["gate"]["bias"]))
    return x


def written_out_s5(params, u):
    eigenvalue = -np.exp(params["log_rate"]) + 1j * params["frequency"]
    decay, half = np.exp(eigenvalue * np.exp(params["log_step"])), len(eigenvalue)
    state, outputs = np.zeros(half, complex), []
    for now in u:
        driven = now @ (params["input"][:, :half] + 1j * params["input"][:, half:])
        state = decay * state + (decay - 1) / eigenvalue * driven
        shown = (state @ (params["output"][:half] - 1j * params["output"][half:])).real
        outputs.append(shown + params["skip"] * now)
    return np.array(outputs)


def written_out_min_gru(params, u):
    state, outputs = np.zeros(len(params["bias"]) // 2), []
    for now in u:
        gate, new = np.split(now @ params["kernel"] + params["bias"], 2)
        gate = 1 / (1 + np.exp(-gate))
        state = (1 - gate) * state + gate * new
        outputs.append(state)
    return np.array(outputs)


def check(memory, written_out):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x + 0.1, memory.init(jax.random.key(0), M, 1))
        _, found = jax.jit(memory.read)(params, memory.blank(B), seen())
        params = jax.tree.map(np.asarray, params)
        for lane in range(B):
            expected = layers(params, np.asarray(seen().features[:, lane]), written_out)
            np.testing.assert_allclose(found[:, lane], expected, rtol=1e-9)


def test_s5_is_a_diagonal_system_held_from_step_to_step():
    check(s5(5, num_layers=2, state_size=3), written_out_s5)


def test_min_gru_mixes_what_it_has_with_what_is_new_by_a_gate_of_the_input():
    check(min_gru(5, num_layers=3), written_out_min_gru)


def test_half_of_splaggers_numbers_are_the_maximum_since_the_last_reset():
    memory, whole = splagger(gru(4)), gru(4)
    params, given = memory.init(jax.random.key(0), M, 1), seen()._replace(reset=jnp.zeros((T, B)).at[3, 1].set(1.0))
    _, found = jax.jit(memory.read)(params, memory.blank(B), given)
    _, plain = jax.jit(whole.read)(params, whole.blank(B), given)
    maxima = np.maximum.accumulate(plain[..., :2], axis=0)
    maxima[3:, 1] = np.maximum.accumulate(plain[3:, 1, :2], axis=0)
    np.testing.assert_array_equal(found, np.concatenate([maxima, plain[..., 2:]], axis=-1))
    assert (maxima != plain[..., :2]).any()
    assert (maxima < 0).any(), "no zero of a blank memory counts"
