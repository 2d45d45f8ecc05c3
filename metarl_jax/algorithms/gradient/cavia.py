"""CAVIA (Zintgraf et al., 2019): MAML whose inner loop adapts a context vector only."""

from typing import Any

import jax
import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.budget import by_gradient_steps
from metarl_jax.algorithms.gradient.maml import maml
from metarl_jax.checks import checked, passes_on
from metarl_jax.ops import trees
from metarl_jax.types import MetaAlgorithm, Params, Policy, TaskFamily, require

CONTEXT = "context"


@checked
@passes_on(maml)
@adapts(by_gradient_steps)
def cavia(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    **maml_settings: Any,
) -> MetaAlgorithm:
    """Fast context adaptation: inner steps move an extra input of the policy, which starts at zero on every task.

    Args:
      family: where tasks come from.
      policy: one with a context (``policy.context_size``).
      optimizer: the outer optimiser, of everything but the context.
      **maml_settings: of :func:`metarl_jax.algorithms.maml`.

    Returns:
      The algorithm.

    Raises:
      ValueError: if the policy has no context, or a hyperparameter is out of range.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action, context_size=5)
      >>> algorithm = cavia(family, policy, optax.adam(1e-3), inner_lr=1.0)
    """
    paths = trees.by_path(jax.eval_shape(policy.init, jax.random.key(0)))
    require(CONTEXT in paths, "policy", "without a context", "CAVIA adapts a context: set policy.context_size")
    adapted = maml_settings.pop("adapted", None)
    require(adapted in (None, (CONTEXT,)), "adapted", adapted, "CAVIA adapts the context alone: leave this out")
    outer = optax.chain(optax.stateless(_keep_context), optimizer)
    return maml(family, policy, outer, adapted=(CONTEXT,), **maml_settings)


def _keep_context(gradient: Params, params: Params | None) -> Params:
    """No meta-gradient for the context: it is zero before adaptation, always."""
    return {**gradient, CONTEXT: 0.0 * gradient[CONTEXT]}
