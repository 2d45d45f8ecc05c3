"""First-order MAML (Finn et al., 2017): the inner gradient is held constant."""

from typing import Any

import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.budget import by_gradient_steps
from metarl_jax.algorithms.gradient.maml import maml
from metarl_jax.checks import checked, passes_on
from metarl_jax.types import MetaAlgorithm, Policy, TaskFamily


@checked
@passes_on(maml)
@adapts(by_gradient_steps)
def fomaml(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    first_order: bool = True,
    **maml_settings: Any,
) -> MetaAlgorithm:
    """First-order MAML: the outer gradient at the adapted parameters, taken as the gradient of the meta-parameters.

    Args:
      family: where tasks come from.
      policy: what is trained.
      optimizer: the outer optimiser.
      first_order: false makes it :func:`metarl_jax.algorithms.maml`.
      **maml_settings: of :func:`metarl_jax.algorithms.maml`.

    Returns:
      The algorithm.

    Raises:
      ValueError: if a hyperparameter is out of range.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = fomaml(family, policy, optax.adam(1e-3), inner_lr=0.1)
    """
    return maml(family, policy, optimizer, first_order=first_order, **maml_settings)
