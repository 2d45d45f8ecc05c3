"""A gated recurrence whose gates see the input only, so that all steps are taken at once."""

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.networks.memory.protocol import Memory
from metarl_jax.networks.memory.recurrence import linear_recurrence
from metarl_jax.networks.memory.stack import Mixer, faded, slowly, stacked
from metarl_jax.ops.matmul import matmul
from metarl_jax.types import Array, Key, Params, PositiveInt


@checked
def min_gru(hidden_size: PositiveInt, *, num_layers: PositiveInt = 2) -> Memory:
    """Minimal gated recurrent units (Feng et al., 2024), in residual layers with a gate of their own.

    ``h_t = (1 - z_t) h_{t-1} + z_t (W x_t + b)``, ``z_t = sigmoid(W_z x_t + b_z)``. The biases of ``z`` start so that
    memories fade at rates between 0.001 and 0.5 a step (Tallec and Ollivier, 2018).

    Args:
      hidden_size: width of the layers, each of which carries as many numbers.
      num_layers: layers, one on top of another.

    Example:
      >>> [x.shape for x in min_gru(8, num_layers=3).blank(5)]
      [(5, 8), (5, 8), (5, 8)]
    """

    def init(key: Key) -> Params:
        key_kernel, key_bias = jax.random.split(key)
        rate = slowly(key_bias, hidden_size, fastest=0.5)
        return {
            "kernel": jax.random.normal(key_kernel, (hidden_size, 2 * hidden_size)) / hidden_size**0.5,
            "bias": jnp.concatenate([jnp.log(rate / (1.0 - rate)), jnp.zeros(hidden_size)]),
        }

    def mix(params: Params, carry: Array, x: Array, reset: Array | None) -> tuple[Array, Array]:
        gate, new = jnp.split(matmul(x, params["kernel"]) + params["bias"], 2, axis=-1)
        states = linear_recurrence(faded(jax.nn.sigmoid(-gate), reset), jax.nn.sigmoid(gate) * new, carry)
        return states[-1], states

    return stacked(hidden_size, num_layers, Mixer(init, hidden_size, mix))
