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
from typing import TYPE_CHECKING, Any

# XLA logs slow compilations to the terminal as errors; it reads this once, when JAX is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from metarl_jax import algorithms, networks, tasks
from metarl_jax.collect.actor import Actor
from metarl_jax.collect.rollout import rollout

if TYPE_CHECKING:
    from metarl_jax.runs.evaluation import evaluate
    from metarl_jax.runs.notebook import build, save, train
    from metarl_jax.runs.run import Run, load

__version__ = version("metarl-jax")
__all__ = [
    "Actor",
    "Run",
    "__version__",
    "algorithms",
    "build",
    "evaluate",
    "load",
    "networks",
    "rollout",
    "save",
    "tasks",
    "train",
]

_LAZY = {
    "Run": "metarl_jax.runs.run",
    "build": "metarl_jax.runs.notebook",
    "evaluate": "metarl_jax.runs.evaluation",
    "load": "metarl_jax.runs.run",
    "save": "metarl_jax.runs.notebook",
    "train": "metarl_jax.runs.notebook",
}


def __getattr__(name: str) -> Any:
    """Import what reads files only when it is asked for: checkpoints are slow to import."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'metarl_jax' has no attribute {name!r}")
