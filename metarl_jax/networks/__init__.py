"""Policies. ``POLICIES`` names every factory that a config file can ask for."""

from collections.abc import Callable

from metarl_jax.networks.conv import conv_policy
from metarl_jax.networks.mlp import mlp_policy
from metarl_jax.networks.recurrent import recurrent_policy
from metarl_jax.types import Policy

POLICIES: dict[str, Callable[..., Policy]] = {"mlp": mlp_policy, "conv": conv_policy, "recurrent": recurrent_policy}
