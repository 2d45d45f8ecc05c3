"""CAVIA (Zintgraf et al., 2019): MAML whose inner loop adapts a context vector only."""

from typing import Any

import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.budget import by_gradient_steps
from metarl_jax.algorithms.gradient.maml import maml
from metarl_jax.checks import checked, passes_on
from metarl_jax.ops import trees
from metarl_jax.types import MetaAlgorithm, Params, Policy, TaskFamily, require


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
      policy: one with a context (``policy.context_size``).
      optimizer: the outer optimiser, of everything but the context.
      **maml_settings: of :func:`metarl_jax.algorithms.maml`.

    Raises:
      ValueError: if the policy has no context.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action, context_size=5)
      >>> algorithm = cavia(family, policy, optax.adam(1e-3), inner_lr=1.0)
    """
    context = policy.parts.context
    require(bool(context), "policy", "without a context", "CAVIA adapts a context: set policy.context_size")
    adapted = maml_settings.pop("adapted", None)
    require(adapted in (None, context), "adapted", adapted, "CAVIA adapts the context alone: leave this out")
    outer = optax.chain(_hold(context), optimizer)
    return maml(family, policy, outer, adapted=context, **maml_settings)


def _hold(context: tuple[str, ...]) -> optax.GradientTransformation:
    """No meta-gradient for the context: before adaptation it is what it is at first, always."""

    def without(gradient: Params, params: Params | None) -> Params:
        leaves = trees.by_path(gradient).items()
        return trees.replace(gradient, {path: 0.0 * leaf for path, leaf in leaves if trees.is_below(path, context)})

    return optax.stateless(without)
