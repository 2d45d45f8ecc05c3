"""Meta-learning algorithms. ``ALGORITHMS`` names every factory that a config file can ask for: a row each in
``__init__.pyi``.

Each takes the family that tasks come from, the policy that is trained and, unless it has a step of its own, the optax
optimiser of the outer step; then its hyperparameters by name. It gives a :class:`metarl_jax.types.MetaAlgorithm`, or
raises a ``ValueError`` that names the hyperparameter that is out of range.
"""

import lazy_loader

from metarl_jax.lazy import Lazily

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
ALGORITHMS = Lazily({name: name for name in __all__}, __getattr__)
__all__ += ["ALGORITHMS"]
__dir__ = __all__.copy
