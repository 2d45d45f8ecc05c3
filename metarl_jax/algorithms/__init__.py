"""Meta-learning algorithms. ``ALGORITHMS`` names every factory that a config file can ask for."""

from metarl_jax.algorithms.maml import maml
from metarl_jax.algorithms.promp import promp
from metarl_jax.algorithms.trpo_maml import trpo_maml

ALGORITHMS = {
    "maml": maml,
    "trpo_maml": trpo_maml,
    "promp": promp,
}
