import collections.abc

import metarl_jax.types

from .gradient.anil import anil as anil
from .gradient.cavia import cavia as cavia
from .gradient.emaml import emaml as emaml
from .gradient.fomaml import fomaml as fomaml
from .gradient.maml import maml as maml
from .gradient.meta_sgd import meta_sgd as meta_sgd
from .gradient.ppo_maml import ppo_maml as ppo_maml
from .gradient.pretraining import pretraining as pretraining
from .gradient.promp import promp as promp
from .gradient.reptile import reptile as reptile
from .gradient.trpo_maml import trpo_maml as trpo_maml
from .incontext.ad import ad as ad
from .incontext.dpt import dpt as dpt
from .inference.varibad import varibad as varibad
from .memory.rl2 import rl2 as rl2
from .memory.trpo_rl2 import trpo_rl2 as trpo_rl2

ALGORITHMS: collections.abc.Mapping[str, collections.abc.Callable[..., metarl_jax.types.MetaAlgorithm]]
