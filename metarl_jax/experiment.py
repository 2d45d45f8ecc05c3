"""From a config to the objects that it names."""

from typing import Any, NamedTuple

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.config import Config, hyperparameters, make_optimizer
from metarl_jax.config.schema import ORACLE
from metarl_jax.networks import POLICIES
from metarl_jax.tasks import FAMILIES
from metarl_jax.tasks.oracle import with_oracle
from metarl_jax.types import MetaAlgorithm, Policy, TaskFamily


class Experiment(NamedTuple):
    """A config and what it describes.

    Attributes:
      config: the validated config.
      family: the tasks.
      policy: the policy.
      algorithm: the meta-learning algorithm.
    """

    config: Config
    family: TaskFamily
    policy: Policy
    algorithm: MetaAlgorithm


def build(config: Config, **hyper: Any) -> Experiment:
    """Make the family, the policy and the algorithm that a config names.

    Args:
      config: a validated config.
      **hyper: hyperparameters of the algorithm that take the place of the config's, such as ``num_inner_steps``.

    Returns:
      The experiment.

    Raises:
      ValueError: if a combination of values cannot work, naming the value and the remedy.

    Example:
      >>> from metarl_jax.config import config_from_dict
      >>> config = config_from_dict({"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "maml"}})
      >>> build(config, num_inner_steps=2).family.horizon
      100
    """
    family = FAMILIES[config.tasks.name](**hyperparameters(config.tasks))
    if getattr(config.tasks, ORACLE):
        family = with_oracle(family)
    policy = POLICIES[config.policy.name](family.observation_shape, family.action, **hyperparameters(config.policy))
    optimizer = [] if config.optimizer is None else [make_optimizer(config.optimizer)]
    arguments = {
        **hyperparameters(config.algorithm),
        "episodes_per_task": config.training.episodes_per_task,
        **hyper,
    }
    return Experiment(
        config, family, policy, ALGORITHMS[config.algorithm.name](family, policy, *optimizer, **arguments)
    )
