"""Functions that are compiled as a whole wherever they are called."""

from functools import partial

import jax

one_program = partial(jax.jit, inline=True)
"""A function that called by itself, as in a notebook, is compiled once and not operation by operation; where it is
traced, its operations are the caller's, as if nothing were around them.

Example:
  >>> import jax.numpy as jnp
  >>> double = one_program(lambda x: 2 * x)
  >>> jax.make_jaxpr(double)(1.0)
  { lambda ; a:f32[]. let b:f32[] = mul 2.0:f32[] a in (b,) }
"""
