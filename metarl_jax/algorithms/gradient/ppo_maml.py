"""MAML with PPO's outer step (Schulman et al., 2017): several epochs on a clipped surrogate."""

from typing import Any

import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.budget import by_gradient_steps
from metarl_jax.algorithms.gradient.maml import maml
from metarl_jax.checks import Traced, checked, passes_on
from metarl_jax.types import MetaAlgorithm, Policy, PositiveFloat, PositiveInt, TaskFamily


@checked
@passes_on(maml)
@adapts(by_gradient_steps)
def ppo_maml(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: PositiveInt = 5,
    clip_eps: Traced[PositiveFloat] = 0.5,
    **maml_settings: Any,
) -> MetaAlgorithm:
    """MAML-PPO: :func:`metarl_jax.algorithms.maml` with several clipped outer steps on each batch of data.

    Args:
      family: where tasks come from.
      policy: what is trained.
      optimizer: the outer optimiser.
      num_epochs: outer optimiser steps on each batch of data.
      clip_eps: half-width of the interval the outer ratio is clipped to.
      **maml_settings: of :func:`metarl_jax.algorithms.maml`.

    Returns:
      The algorithm.

    Raises:
      ValueError: if a hyperparameter is out of range.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = ppo_maml(family, policy, optax.adam(1e-3), inner_lr=0.1)
    """
    return maml(family, policy, optimizer, num_epochs=num_epochs, clip_eps=clip_eps, **maml_settings)
