"""A memory addressed by content: what came of earlier observations like this one, all at once and undecayed."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.networks.mlp import MLP
from metarl_jax.types import Array, Key, Params, PositiveInt

_SHARPNESS = 2.0  # initial standard deviation of the address's weights: observations of length 1 are told apart


class Table(NamedTuple):
    """What is stored; all zeros at first.

    Attributes:
      sums: ``[B, slots, slot_size + 1]`` sum of the values written to each slot, and their weight.
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


@checked
def associative_memory(
    observation_size: PositiveInt, feature_size: PositiveInt, *, slots: PositiveInt, slot_size: PositiveInt
) -> AssociativeMemory:
    r"""Soft slots addressed by the observation: a linear attention whose keys are its queries.

    An observation ``o`` has the address ``k(o) = softmax(W o)``. What is seen one step later (the action, its reward
    and the observation that followed, or that of the next episode's start, which ``done`` tells) becomes a value ``v``
    and is added to the slots at the address of the step before. Reading at ``k(o)`` gives the mean of what followed
    observations like ``o``, shrunk towards zero, and ``n / (1 + n)`` of the weight ``n`` that these had:
    ``sum_u k_t.k_u v_{u+1} / (1 + n_t)``, ``n_t = sum_u k_t.k_u``. Addresses are soft: the weight of one visit is below
    1, and other observations have some, too.

    Recurrent cells have to learn to store, keep and find a value at the same time; here only what to store and how to
    use it is learned, as keys and queries are the same from the start. As a recurrence it is linear attention
    (Katharopoulos et al., 2020); an episodic memory beside a recurrent cell is also in Ritter et al. (2018), who store
    states of the cell.

    It keeps all that it is shown. Episodes that terminate early are shown, frozen, until their horizon, see
    ``rollout_trial``, so it suits episodes of fixed length; and observations that differ, since of one that is always
    the same the address is, too. A stretch of ``T`` steps is read in one go, at a cost of ``T^2`` (the algorithms'
    ``bptt_length`` bounds the stretch); a NaN in it is in all its reads.

    Args:
      observation_size: ``n``.
      feature_size: ``m``, numbers of the input that values are made of.
      slots: how many addresses there are.
      slot_size: numbers in a value; a slot has one more, the weight of what was written there.

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
