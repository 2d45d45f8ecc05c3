"""A diagonal linear recurrence in each layer: what fades, and how fast, is learned, and is the same at every step."""

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.networks.memory.protocol import Memory
from metarl_jax.networks.memory.recurrence import linear_recurrence
from metarl_jax.networks.memory.stack import Mixer, faded, slowly, stacked
from metarl_jax.ops.matmul import matmul
from metarl_jax.types import Array, Key, Params, PositiveInt


@checked
def s5(hidden_size: PositiveInt, *, num_layers: PositiveInt = 2, state_size: PositiveInt = 64) -> Memory:
    r"""State-space layers (S5; Smith et al., 2023), as Lu et al. (2023) take them for reinforcement learning.

    A layer turns its normalised input ``u`` into ``y_t = Re(C s_t) + D u_t`` with complex states
    ``s_t = a s_{t-1} + (a - 1) / l B u_t``, ``a = exp(l d)``: a diagonal system of eigenvalues ``l``, held from step to
    step for a time ``d`` that each of its states learns, too. Eigenvalues start at ``-1/2 + i pi n`` (S4D-Lin; Gu et
    al., 2022), times between 0.001 and 0.1. In a trial that begins anew the state does as well.

    It sees all steps at once: no product waits for the step before, as those of a GRU do.

    Args:
      hidden_size: width of the layers.
      num_layers: layers, one on top of another.
      state_size: complex numbers that each carries.

    Example:
      >>> [x.shape for x in s5(8, state_size=4).blank(5)]
      [(5, 8), (5, 8)]
    """

    def init(key: Key) -> Params:
        keys = jax.random.split(key, 4)
        return {
            "log_rate": jnp.full(state_size, jnp.log(0.5)),
            "frequency": jnp.pi * jnp.arange(state_size, dtype=float),
            "log_step": jnp.log(slowly(keys[0], state_size)),
            "input": jax.random.normal(keys[1], (hidden_size, 2 * state_size)) / hidden_size**0.5,
            "output": jax.random.normal(keys[2], (2 * state_size, hidden_size)) / state_size**0.5,
            "skip": jax.random.normal(keys[3], (hidden_size,)),
        }

    def mix(params: Params, carry: Array, x: Array, reset: Array | None) -> tuple[Array, Array]:
        eigenvalue = jax.lax.complex(-jnp.exp(params["log_rate"]), params["frequency"])
        change = jnp.expm1(eigenvalue * jnp.exp(params["log_step"]))
        inputs = _paired(matmul(x, params["input"])) * (change / eigenvalue)
        states = linear_recurrence(faded(1.0 + change[None, None], reset), inputs, _paired(carry))
        flat = jnp.concatenate([states.real, states.imag], axis=-1)
        return flat[-1], matmul(flat, params["output"]) + params["skip"] * x

    return stacked(hidden_size, num_layers, Mixer(init, 2 * state_size, mix))


def _paired(x: Array) -> Array:
    """Complex numbers, of real parts and, behind them, as many imaginary ones."""
    return jax.lax.complex(*jnp.split(x, 2, axis=-1))
