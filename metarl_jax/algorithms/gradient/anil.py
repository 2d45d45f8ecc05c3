"""ANIL (Raghu et al., 2020): MAML whose inner loop adapts the policy's head only."""

from typing import Any

import jax
import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.budget import by_gradient_steps
from metarl_jax.algorithms.gradient.maml import maml
from metarl_jax.checks import checked, passes_on
from metarl_jax.ops import trees
from metarl_jax.types import MetaAlgorithm, Policy, TaskFamily, require


@checked
@passes_on(maml)
@adapts(by_gradient_steps)
def anil(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    adapted: tuple[str, ...] | None = None,
    **maml_settings: Any,
) -> MetaAlgorithm:
    """Almost no inner loop: inner steps move the last layer of the policy, or any named subset of its parameters.

    Args:
      optimizer: the outer optimiser, of all parameters.
      adapted: paths of the parameters that inner steps move; the policy's last layer if left out.
      **maml_settings: of :func:`metarl_jax.algorithms.maml`.

    Raises:
      ValueError: if a path names no parameter, or the policy does not declare its head.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = anil(family, policy, optax.adam(1e-3), adapted=("mean/Dense_2", "log_std"))
    """
    return maml(family, policy, optimizer, adapted=head(policy) if adapted is None else adapted, **maml_settings)


def head(policy: Policy) -> tuple[str, ...]:
    """The paths of a policy's last layer, as its ``parts`` declare them.

    Raises:
      ValueError: if they do not; the message lists all paths.

    Example:
      >>> import metarl_jax as mrl
      >>> head(mrl.networks.mlp_policy((2,), mrl.tasks.navigation_finn().action, hidden_sizes=(8,)))
      ('mean/Dense_1',)
    """
    paths = trees.by_path(jax.eval_shape(policy.init, jax.random.key(0)))
    remedy = f"the head of this policy is not known; name it, out of {', '.join(paths)}"
    require(bool(policy.parts.head), "adapted", None, remedy)
    return policy.parts.head
