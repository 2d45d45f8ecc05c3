"""Policies. ``POLICIES`` names every factory that a config file can ask for."""

from collections.abc import Callable

from metarl_jax.networks.conv import conv_policy
from metarl_jax.networks.memoryless import memoryless_policy
from metarl_jax.networks.mlp import mlp_policy
from metarl_jax.networks.recurrent import recurrent_policy
from metarl_jax.types import Policy

__all__ = ["POLICIES", "conv_policy", "memoryless_policy", "mlp_policy", "recurrent_policy"]

POLICIES: dict[str, Callable[..., Policy]] = {"mlp": mlp_policy, "conv": conv_policy, "recurrent": recurrent_policy}
