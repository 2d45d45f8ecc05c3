"""Recurrent cells: what is remembered from step to step."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.types import Array, Carry, Key, Params, PositiveInt

CellName = Literal["gru", "lstm"]


class Cell(NamedTuple):
    """A recurrent cell as pure functions.

    Attributes:
      init: ``(key, input_size) -> params``.
      blank: ``(batch_size) -> carry``, all zeros.
      step: ``(params, carry, inputs [B, m]) -> (carry, remembered [B, hidden_size])``.
    """

    init: Callable[[Key, int], Params]
    blank: Callable[[int], Carry]
    step: Callable[[Params, Carry, Array], tuple[Carry, Array]]


@checked
def recurrent_cell(name: CellName, hidden_size: PositiveInt) -> Cell:
    """A cell by name: ``gru`` (Cho et al., 2014) or ``lstm`` (Hochreiter and Schmidhuber, 1997).

    Args:
      name: of the cell.
      hidden_size: numbers that it remembers; an LSTM carries twice as many.

    Example:
      >>> import jax
      >>> cell = recurrent_cell("gru", 4)
      >>> carry, remembered = cell.step(cell.init(jax.random.key(0), 3), cell.blank(5), jnp.ones((5, 3)))
      >>> remembered.shape
      (5, 4)
    """
    modules: dict[CellName, Callable[..., Any]] = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}
    module = modules[name](hidden_size, param_dtype=float)

    def blank(batch_size: int) -> Carry:
        zeros = jnp.zeros((batch_size, hidden_size))
        return (zeros, zeros) if name == "lstm" else zeros

    def init(key: Key, input_size: int) -> Params:
        return module.init(key, blank(1), jnp.zeros((1, input_size)))["params"]

    def step(params: Params, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        return module.apply({"params": params}, carry, inputs)

    return Cell(init, blank, step)
