"""What a run writes and tells. ``TRACKERS`` names the clients that a config can ask for: a row in ``__init__.pyi``."""

import lazy_loader

from metarl_jax.lazy import Lazily

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
TRACKERS = Lazily({name: name for name in __all__}, __getattr__)
__all__ += ["TRACKERS"]
__dir__ = __all__.copy
