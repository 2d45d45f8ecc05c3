"""metarl_jax: meta-reinforcement learning in JAX.

From a notebook::

    import jax, metarl_jax as mrl
    run = mrl.load("runs/quickstart")                     # config, family, policy, algorithm, params
    task = run.family.sample(jax.random.key(1))
    adapted, info = jax.jit(run.algorithm.adapt)(run.params, task, jax.random.key(2))
    agent = mrl.Actor(run.family, run.policy, adapted, jax.random.key(3))
    action = agent.act([0.0, 0.0], deterministic=True)    # step by step, in an environment of yours

Every factory in ``mrl.tasks``, ``mrl.networks`` and ``mrl.algorithms`` also works without a config file.
"""

import os
from importlib.metadata import version

import lazy_loader

# XLA logs slow compilations to the terminal as errors; it reads this once, when JAX is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("metarl-jax")
__all__ += ["__version__"]
__dir__ = __all__.copy
