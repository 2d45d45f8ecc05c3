"""The name under which :mod:`metarl_jax.tasks.adapters.playground` is known to code written for version 0.1."""

from metarl_jax.tasks.adapters.playground import load_playground, playground_family

__all__ = ["load_playground", "playground_family"]
