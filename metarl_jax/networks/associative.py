"""A memory addressed by content: what came of earlier observations like this one, all at once and undecayed."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.networks.mlp import MLP
from metarl_jax.types import Array, Key, Params

_SHARPNESS = 2.0


class Table(NamedTuple):
    """What is stored; all zeros at first.

    Attributes:
      sums: ``[B, slots, slot_size + 1]`` sum of the values written to each slot, and how many they were.
      address: ``[B, slots]`` where the newest observation is, and what comes of it will be written.
    """

    sums: Array
    address: Array


class AssociativeMemory(NamedTuple):
    """An associative memory as pure functions.

    Attributes:
      init: ``(key) -> params``.
      blank: ``(batch_size) -> Table``.
      recall: ``(params, table, observation [T, B, n], features [T, B, m]) -> (table, read [T, B, slot_size + 1])``.
      read_size: ``slot_size + 1``.
    """

    init: Callable[[Key], Params]
    blank: Callable[[int], Table]
    recall: Callable[[Params, Table, Array, Array], tuple[Table, Array]]
    read_size: int


def associative_memory(observation_size: int, feature_size: int, *, slots: int, slot_size: int) -> AssociativeMemory:
    r"""Soft slots addressed by the observation: a linear attention whose keys are its queries.

    An observation ``o`` has the address ``k(o) = softmax(W o)``. What is seen one step later (the action, its reward
    and the observation that followed) becomes a value ``v`` and is added to the slots at the address of the step
    before. Reading at ``k(o)`` gives the mean of what followed observations like ``o``, shrunk towards zero as if one
    more value of zero had been stored, and ``n / (n + 1)`` of the (soft) number ``n`` of such visits:
    ``sum_u k_t.k_u v_{u+1} / (1 + n_t)``, ``n_t = sum_u k_t.k_u``.

    Recurrent cells have to learn to store, keep and find a value at the same time; here only what to store and how to
    use it is learned, as keys and queries are the same from the start. As a recurrence it is linear attention
    (Katharopoulos et al., 2020); keyed by the observation it is an episodic memory (Ritter et al., 2018).
    A stretch of ``T`` steps is read in one go, at a cost of ``T^2``.

    Args:
      observation_size: ``n``.
      feature_size: ``m``, numbers of the input that values are made of.
      slots: how many addresses there are.
      slot_size: numbers in a value.

    Returns:
      The memory. Parameters are ``"address"`` and ``"value"``.

    Example:
      >>> memory = associative_memory(3, 2, slots=8, slot_size=4)
      >>> params = memory.init(jax.random.key(0))
      >>> table, read = memory.recall(params, memory.blank(5), jnp.zeros((7, 5, 3)), jnp.zeros((7, 5, 2)))
      >>> read.shape, table.sums.shape
      ((7, 5, 5), (5, 8, 5))
    """
    value_net = MLP((2 * slot_size,), slot_size, "relu")

    def init(key: Key) -> Params:
        key_address, key_value = jax.random.split(key)
        return {
            "address": _SHARPNESS * jax.random.normal(key_address, (observation_size, slots)),
            "value": value_net.init(key_value, jnp.zeros(feature_size))["params"],
        }

    def blank(batch_size: int) -> Table:
        return Table(jnp.zeros((batch_size, slots, slot_size + 1)), jnp.zeros((batch_size, slots)))

    def recall(params: Params, table: Table, observation: Array, features: Array) -> tuple[Table, Array]:
        address = nn.softmax(observation @ params["address"])
        value = jnp.asarray(value_net.apply({"params": params["value"]}, features))
        value = jnp.concatenate([value, jnp.ones_like(value[..., :1])], axis=-1)
        written = jnp.concatenate([table.address[None], address[:-1]])
        alike = jnp.einsum("tbs,ubs->btu", address, written)
        past = jnp.einsum("btu,ubv->tbv", jnp.tril(alike), value)
        found = past + jnp.einsum("tbs,bsv->tbv", address, table.sums)
        sums = table.sums + jnp.einsum("ubs,ubv->bsv", written, value)
        return Table(sums, address[-1]), found / (1.0 + found[..., -1:])

    return AssociativeMemory(init, blank, recall, slot_size + 1)
