"""Meta-learning algorithms. ``ALGORITHMS`` names every factory that a config file can ask for.

Each takes the family that tasks come from, the policy that is trained and, unless it has a step of its own, the optax
optimiser of the outer step; then its hyperparameters by name. It gives a :class:`metarl_jax.types.MetaAlgorithm`, or
raises a ``ValueError`` that names the hyperparameter that is out of range.
"""

from collections.abc import Callable

from metarl_jax.algorithms.gradient.anil import anil
from metarl_jax.algorithms.gradient.cavia import cavia
from metarl_jax.algorithms.gradient.emaml import emaml
from metarl_jax.algorithms.gradient.fomaml import fomaml
from metarl_jax.algorithms.gradient.maml import maml
from metarl_jax.algorithms.gradient.meta_sgd import meta_sgd
from metarl_jax.algorithms.gradient.ppo_maml import ppo_maml
from metarl_jax.algorithms.gradient.pretraining import pretraining
from metarl_jax.algorithms.gradient.promp import promp
from metarl_jax.algorithms.gradient.reptile import reptile
from metarl_jax.algorithms.gradient.trpo_maml import trpo_maml
from metarl_jax.algorithms.memory.rl2 import rl2
from metarl_jax.algorithms.memory.trpo_rl2 import trpo_rl2
from metarl_jax.types import MetaAlgorithm

ALGORITHMS: dict[str, Callable[..., MetaAlgorithm]] = {
    "maml": maml,
    "ppo_maml": ppo_maml,
    "trpo_maml": trpo_maml,
    "fomaml": fomaml,
    "emaml": emaml,
    "promp": promp,
    "reptile": reptile,
    "anil": anil,
    "meta_sgd": meta_sgd,
    "cavia": cavia,
    "pretraining": pretraining,
    "rl2": rl2,
    "trpo_rl2": trpo_rl2,
}
