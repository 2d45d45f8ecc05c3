"""Multi-task pretraining: the baseline that meta-learning must beat."""

from typing import Any

import optax

from metarl_jax.algorithms.adaptation import Remake, Settings, adapts
from metarl_jax.algorithms.gradient.assembly import without_learned_rule
from metarl_jax.algorithms.gradient.budget import by_constant_steps
from metarl_jax.algorithms.gradient.ppo_maml import ppo_maml
from metarl_jax.checks import Traced, checked, passes_on
from metarl_jax.types import Adaptation, MetaAlgorithm, NonNegativeInt, Policy, PositiveFloat, PositiveInt, TaskFamily


def by_fine_tuning(settings: Settings, remake: Remake) -> Adaptation:
    """Gradient steps, of which training takes none."""
    return by_constant_steps(settings, remake)._replace(trained=0, stages_per_update=1)


@checked
@passes_on(ppo_maml)
@adapts(by_fine_tuning)
def pretraining(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    num_inner_steps: NonNegativeInt = 1,
    num_epochs: PositiveInt = 5,
    clip_eps: Traced[PositiveFloat] = 0.3,
    **maml_settings: Any,
) -> MetaAlgorithm:
    """PPO on all tasks at once, then plain fine-tuning by the same inner steps that MAML takes at meta-test time.

    Args:
      optimizer: the optimiser of pretraining.
      num_inner_steps: gradient steps of fine-tuning; training takes none.
      num_epochs: optimiser steps on each batch of data.
      clip_eps: half-width of the interval the ratio is clipped to.
      **maml_settings: of :func:`metarl_jax.algorithms.maml`.

    Returns:
      The algorithm: ``update`` collects one stage; ``adapt``, ``collect`` and ``replay`` fine-tune.

    Raises:
      ValueError: if the inner rule has parameters to learn.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = pretraining(family, policy, optax.adam(1e-3), inner_lr=0.1)
    """
    settings = {"num_epochs": num_epochs, "clip_eps": clip_eps, **maml_settings}
    testing = ppo_maml(family, policy, optimizer, **{**settings, "num_inner_steps": num_inner_steps})
    without_learned_rule(testing, settings, "pretraining takes no inner step from which to learn it")
    training = ppo_maml(family, policy, optimizer, **{**settings, "num_inner_steps": 0, "inner_lr": 0.0})
    return testing._replace(init=training.init, update=training.update)
