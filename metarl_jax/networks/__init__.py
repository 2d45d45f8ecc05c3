"""Policies. ``POLICIES`` names every factory that a config file can ask for, of those that ``__init__.pyi`` lists."""

import lazy_loader

from metarl_jax.lazy import Lazily

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
_NAMES = ("mlp", "conv", "recurrent", "belief", "in_context")
POLICIES = Lazily({name: f"{name}_policy" for name in _NAMES}, __getattr__)
__all__ += ["POLICIES"]
__dir__ = __all__.copy
