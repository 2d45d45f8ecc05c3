"""Discrete actions from outside: what may be used as an index, and what may not."""

import jax.numpy as jnp

from metarl_jax.types import Array


def checked_choice(action: Array, num_choices: int) -> tuple[Array, Array]:
    """An index that is safe to use, and whether it is what was asked for.

    An action out of range, or not finite, is the policy's error and must show in that episode's reward; indexing with
    it would silently take another entry.

    Args:
      action: ``[]`` a whole number.
      num_choices: how many there are.

    Returns:
      ``(choice, is_valid)``: ``choice`` is in ``0..num_choices - 1`` whatever ``action`` is.

    Example:
      >>> choice, is_valid = checked_choice(jnp.array(7), 5)
      >>> choice.item(), is_valid.item()
      (0, False)
    """
    is_valid = (action >= 0) & (action < num_choices)
    return jnp.where(is_valid, action, 0).astype(int), is_valid
