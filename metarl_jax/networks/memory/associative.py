"""A memory addressed by content: what came of earlier observations like this one, all at once and undecayed."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.networks.memory.protocol import Memory, Seen, forget
from metarl_jax.networks.mlp import MLP, dense
from metarl_jax.types import Array, Key, Params, PositiveInt

_SHARPNESS = 2.0  # initial standard deviation of the address's weights: observations of length 1 are told apart

SLOT_SIZE = 32
"""Numbers in a value, if nobody says how many."""


class Table(NamedTuple):
    """What is stored; all zeros at first.

    Attributes:
      sums: ``[B, slots, slot_size + 1]`` sum of the values written to each slot, and their weight.
      address: ``[B, slots]`` where the newest observation is, and what comes of it will be written.
    """

    sums: Array
    address: Array


@checked
def associative_memory(*, slots: PositiveInt, slot_size: PositiveInt) -> Memory:
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
      slots: how many addresses there are.
      slot_size: numbers in a value; a slot has one more, the weight of what was written there.

    Returns:
      The memory, which remembers ``slot_size + 1`` numbers. Parameters are ``"address"`` and ``"value"``.

    Example:
      >>> memory = associative_memory(slots=8, slot_size=4)
      >>> params, seen = memory.init(jax.random.key(0), 2, 3), Seen(jnp.zeros((7, 5, 2)), jnp.zeros((7, 5, 3)))
      >>> table, read = memory.read(params, memory.blank(5), seen)
      >>> read.shape, table.sums.shape
      ((7, 5, 5), (5, 8, 5))
    """
    value_net = MLP((2 * slot_size,), slot_size, "relu")

    def init(key: Key, feature_size: int, observation_size: int) -> Params:
        key_address, key_value = jax.random.split(key)
        return {
            "address": _SHARPNESS * jax.random.normal(key_address, (observation_size, slots)),
            "value": value_net.init(key_value, jnp.zeros(feature_size))["params"],
        }

    def blank(batch_size: int) -> Table:
        return Table(jnp.zeros((batch_size, slots, slot_size + 1)), jnp.zeros((batch_size, slots)))

    def read(params: Params, table: Table, seen: Seen) -> tuple[Table, Array]:
        address = nn.softmax(seen.observation @ params["address"])
        value = jnp.asarray(value_net.apply({"params": params["value"]}, seen.features))
        value = jnp.concatenate([value, jnp.ones_like(value[..., :1])], axis=-1)
        written = jnp.concatenate([table.address[None], address[:-1]])
        alike = jnp.tril(jnp.einsum("tbs,ubs->btu", address, written))
        found = jnp.einsum("tbs,bsv->tbv", address, table.sums)
        sums = table.sums
        if seen.reset is not None:
            written, alike, found, sums = _since_reset(seen.reset, written, alike, found, sums)
        found = jnp.einsum("btu,ubv->tbv", alike, value) + found
        sums = sums + jnp.einsum("ubs,ubv->bsv", written, value)
        return Table(sums, address[-1]), found / (1.0 + found[..., -1:])

    return Memory(init, blank, read, slot_size + 1)


@checked
def associative(
    hidden_size: PositiveInt, *, memory_slots: PositiveInt = 32, slot_size: PositiveInt = SLOT_SIZE
) -> Memory:
    """An :func:`associative_memory` alone: a dense layer, ``tanh``, over what is seen and what is recalled.

    Args:
      hidden_size: width of that layer, parameters ``"output"``.
      memory_slots: how many addresses there are.
      slot_size: numbers in a value.

    Example:
      >>> memory = associative(4)
      >>> seen = Seen(jnp.ones((7, 5, 3)), jnp.ones((7, 5, 2)))
      >>> memory.read(memory.init(jax.random.key(0), 3, 2), memory.blank(5), seen)[1].shape
      (7, 5, 4)
    """
    recalled, output = associative_memory(slots=memory_slots, slot_size=slot_size), dense(hidden_size)

    def init(key: Key, feature_size: int, observation_size: int) -> Params:
        key_output, key_recalled = jax.random.split(key)
        inputs = jnp.zeros(feature_size + recalled.size)
        return {
            "output": output.init(key_output, inputs)["params"],
            **recalled.init(key_recalled, feature_size, observation_size),
        }

    def read(params: Params, table: Table, seen: Seen) -> tuple[Table, Array]:
        table, found = recalled.read(params, table, seen)
        inputs = jnp.concatenate([seen.features, found], axis=-1)
        return table, nn.tanh(jnp.asarray(output.apply({"params": params["output"]}, inputs)))

    return Memory(init, recalled.blank, read, hidden_size)


def _since_reset(
    reset: Array, written: Array, alike: Array, found: Array, sums: Array
) -> tuple[Array, Array, Array, Array]:
    """What is left of all these where nothing is known of what came before the last reset.

    Args:
      reset: ``[T, B]``.
      written: ``[T, B, slots]`` where each step's value goes, for those after the last step.
      alike: ``[B, T, T]`` how much each step reads of what each other wrote.
      found: ``[T, B, v]`` what each reads of the table before the first step.
      sums: ``[B, slots, v]`` that table.

    Returns:
      The same four.
    """
    count = jnp.cumsum(reset > 0, axis=0)
    together = (count[:, None] == count[None]) & (reset <= 0)  # what is seen at a reset came of what is forgotten
    return (
        jnp.where(together[-1][..., None], written, 0.0),
        jnp.where(jnp.moveaxis(together, 2, 0), alike, 0.0),
        jnp.where((count == 0)[..., None], found, 0.0),
        forget(count[-1], sums),
    )
