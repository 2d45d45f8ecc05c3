"""ANIL (Raghu et al., 2020): MAML whose inner loop adapts the policy's head only."""

import re
from typing import Any

import jax
import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.budget import by_gradient_steps
from metarl_jax.algorithms.gradient.maml import maml
from metarl_jax.checks import checked, passes_on
from metarl_jax.ops import trees
from metarl_jax.types import MetaAlgorithm, Policy, TaskFamily, require

_LAYER = re.compile(r"(mean|logits)/Dense_(\d+)/")


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
      family: where tasks come from.
      policy: what is trained.
      optimizer: the outer optimiser, of all parameters.
      adapted: paths of the parameters that inner steps move; the policy's last layer if left out.
      **maml_settings: of :func:`metarl_jax.algorithms.maml`.

    Returns:
      The algorithm.

    Raises:
      ValueError: if a path names no parameter, or the policy has no layer to be its head.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = anil(family, policy, optax.adam(1e-3), adapted=("mean/Dense_2", "log_std"))
    """
    return maml(family, policy, optimizer, adapted=head(policy) if adapted is None else adapted, **maml_settings)


def head(policy: Policy) -> tuple[str]:
    """The path of a policy's last layer.

    Args:
      policy: with layers ``mean/Dense_n`` or ``logits/Dense_n``.

    Returns:
      One path.

    Raises:
      ValueError: if it has no such layers.

    Example:
      >>> import metarl_jax as mrl
      >>> head(mrl.networks.mlp_policy((2,), mrl.tasks.navigation_finn().action, hidden_sizes=(8,)))
      ('mean/Dense_1',)
    """
    paths = list(trees.by_path(jax.eval_shape(policy.init, jax.random.key(0))))
    layers = [(int(match[2]), match[1]) for path in paths if (match := _LAYER.match(path))]
    require(bool(layers), "adapted", None, f"the head of this policy is not known; name it, out of {', '.join(paths)}")
    number, name = max(layers)
    return (f"{name}/Dense_{number}",)
