"""Meta-learning algorithms. ``ALGORITHMS`` names every factory that a config file can ask for."""

from collections.abc import Callable

from metarl_jax.algorithms.maml import maml
from metarl_jax.algorithms.promp import promp
from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.algorithms.trpo_maml import trpo_maml
from metarl_jax.algorithms.trpo_rl2 import trpo_rl2
from metarl_jax.types import MetaAlgorithm

ALGORITHMS: dict[str, Callable[..., MetaAlgorithm]] = {
    "maml": maml,
    "trpo_maml": trpo_maml,
    "promp": promp,
    "rl2": rl2,
    "trpo_rl2": trpo_rl2,
}
