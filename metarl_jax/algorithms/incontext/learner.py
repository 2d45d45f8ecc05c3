"""What the learners that write histories share: a policy whose memory is what it has learned, and how it explores."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metarl_jax.ops.distributions import categorical
from metarl_jax.types import Array, Carry, Key, Percept, Policy, PyTree, TaskFamily, require


def learner(initial_carry: Callable[[int], Carry], step: Callable[[Carry, Percept], tuple[Carry, Array]]) -> Policy:
    """A policy without parameters, of discrete actions.

    Args:
      initial_carry: ``batch size -> carry [B, ...]``, what ``B`` learners know at first.
      step: ``(carry, percept) -> (carry, log-probabilities [A])``, of one learner.

    Example:
      >>> fair = learner(lambda batch_size: jnp.zeros(batch_size), lambda carry, percept: (carry, jnp.zeros(2)))
      >>> percept = Percept(jnp.zeros((3, 1)), jnp.zeros(3, int), jnp.zeros(3), jnp.ones(3))
      >>> fair.evaluate((), fair.initial_carry(3), jax.tree.map(lambda x: x[None], percept))[0].shape
      (1, 3, 2)
    """
    distribution = categorical()

    def act(params: PyTree, carry: Carry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, Carry]:
        carry, logits = jax.vmap(step)(carry, percept)
        chosen = distribution.sample(logits, key)
        return chosen, distribution.log_prob(logits, chosen), logits, carry

    def unroll(params: PyTree, carry: Carry, percept: Percept) -> tuple[PyTree, Array, Carry]:
        carry, logits = jax.lax.scan(jax.vmap(step), carry, percept)
        return logits, jnp.zeros_like(percept.previous_reward), carry

    def evaluate(params: PyTree, carry: Carry, percept: Percept) -> tuple[PyTree, Array]:
        logits, value, _ = unroll(params, carry, percept)
        return logits, value

    return Policy(lambda key: (), initial_carry, act, evaluate, distribution, unroll=unroll)


def require_discrete(family: TaskFamily) -> None:
    """Refuse a family of continuous actions.

    Example:
      >>> from metarl_jax.tasks import dark_room
      >>> require_discrete(dark_room())
    """
    action = family.action
    require(
        action.discrete, "family.action", action, "these learners take discrete actions: give ad a source of your own"
    )


def epsilon_greedy(best: Array, epsilon: Array | float, exploring_episodes: int, episodes: Array) -> Array:
    """Log-probabilities of one of the best actions, or by chance of any.

    Args:
      best: ``[A]`` whether each is one.
      epsilon: chance to act at random in the first episode.
      exploring_episodes: over so many that falls linearly to zero.
      episodes: ``[]`` begun so far.

    Example:
      >>> jnp.exp(epsilon_greedy(jnp.array([True, False]), 0.5, 2, jnp.array(2)))
      Array([0.875, 0.125], dtype=float32)
    """
    exploring = epsilon * jnp.maximum(0.0, 1.0 - (episodes - 1) / exploring_episodes)
    probability = exploring / best.size + (1.0 - exploring) * best / jnp.sum(best)
    return jnp.log(jnp.maximum(probability, jnp.finfo(probability.dtype).tiny))
