"""metarl_jax: meta-reinforcement learning in JAX."""

from metarl_jax import algorithms, networks, tasks

__all__ = ["algorithms", "networks", "tasks"]
