"""The name under which :mod:`metarl_jax.tasks.adapters.gymnax` is known to code written for version 0.1."""

from metarl_jax.tasks.adapters.gymnax import gymnax_family, load_gymnax

__all__ = ["gymnax_family", "load_gymnax"]
