"""What a policy remembers with. ``MEMORIES`` names every memory that a config file can ask for; a new one is a row."""

from collections.abc import Callable, Mapping
from typing import Literal

from metarl_jax.networks.memory.associative import associative
from metarl_jax.networks.memory.cells import gru, lstm
from metarl_jax.networks.memory.min_gru import min_gru
from metarl_jax.networks.memory.protocol import Memory, Seen
from metarl_jax.networks.memory.s5 import s5
from metarl_jax.networks.memory.splagger import splagger

__all__ = ["MEMORIES", "Memory", "MemoryName", "Seen", "associative", "gru", "lstm", "min_gru", "s5", "splagger"]

MemoryName = Literal["gru", "lstm", "s5", "min_gru", "associative"]
MEMORIES: Mapping[MemoryName, Callable[..., Memory]] = {
    "gru": gru,
    "lstm": lstm,
    "s5": s5,
    "min_gru": min_gru,
    "associative": associative,
}
