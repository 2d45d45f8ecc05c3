"""What a policy remembers with. ``MEMORIES`` names every memory that a config file can ask for; a new one is a row."""

from collections.abc import Callable, Mapping
from typing import Literal

from metarl_jax.networks.memory.cells import gru, lstm
from metarl_jax.networks.memory.protocol import Memory, Seen

__all__ = ["MEMORIES", "Memory", "MemoryName", "Seen", "gru", "lstm"]

MemoryName = Literal["gru", "lstm"]
MEMORIES: Mapping[MemoryName, Callable[..., Memory]] = {"gru": gru, "lstm": lstm}
