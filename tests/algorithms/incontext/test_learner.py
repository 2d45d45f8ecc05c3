"""How learners explore: what they never do stays above what a mask forbids."""

import jax.numpy as jnp

from metarl_jax.algorithms.incontext.learner import epsilon_greedy


def test_what_is_never_done_has_a_finite_log_probability():
    """So that a mask, which takes 1e9 off invalid actions, leaves a valid one to take, whatever was best."""
    logits = epsilon_greedy(jnp.array([True, False, False]), 0.0, 1, jnp.array(1))
    masked = jnp.where(jnp.array([False, True, True]), logits, -1e9)
    assert jnp.isfinite(logits).all()
    assert jnp.argmax(masked) == 1
