"""Task families. ``FAMILIES`` names every factory that a config file can ask for: a row each in ``__init__.pyi``."""

import lazy_loader

from metarl_jax.lazy import Lazily

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
FAMILIES = Lazily({name: name for name in __all__}, __getattr__)
__all__ += ["FAMILIES"]
__dir__ = __all__.copy
