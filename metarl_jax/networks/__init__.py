"""Policies. ``POLICIES`` names every factory that a config file can ask for."""

from metarl_jax.networks.mlp import mlp_policy

POLICIES = {"mlp": mlp_policy}
