"""Meta-learning algorithms. ``ALGORITHMS`` names every factory that a config file can ask for."""

from collections.abc import Callable

from metarl_jax.algorithms.anil import anil
from metarl_jax.algorithms.cavia import cavia
from metarl_jax.algorithms.emaml import emaml
from metarl_jax.algorithms.fomaml import fomaml
from metarl_jax.algorithms.maml import maml
from metarl_jax.algorithms.meta_sgd import meta_sgd
from metarl_jax.algorithms.ppo_maml import ppo_maml
from metarl_jax.algorithms.pretraining import pretraining
from metarl_jax.algorithms.promp import promp
from metarl_jax.algorithms.reptile import reptile
from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.algorithms.trpo_maml import trpo_maml
from metarl_jax.algorithms.trpo_rl2 import trpo_rl2
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
