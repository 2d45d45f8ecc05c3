import collections.abc

import metarl_jax.types

from .belief import belief_policy as belief_policy
from .conv import conv_policy as conv_policy
from .masked import masked_policy as masked_policy
from .memoryless import memoryless_policy as memoryless_policy
from .mlp import mlp_policy as mlp_policy
from .normalised import normalised_policy as normalised_policy
from .recurrent import recurrent_policy as recurrent_policy

POLICIES: collections.abc.Mapping[str, collections.abc.Callable[..., metarl_jax.types.Policy]]
