"""Meta-SGD (Li et al., 2017): MAML that learns its inner step sizes."""

from functools import partial
from typing import Any

import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.budget import by_gradient_steps
from metarl_jax.algorithms.gradient.maml import maml
from metarl_jax.checks import checked, passes_on
from metarl_jax.inner.rules import StepSizePer, learned_step_sizes
from metarl_jax.types import MetaAlgorithm, Policy, TaskFamily, require


@checked
@passes_on(maml)
@adapts(by_gradient_steps)
def meta_sgd(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    step_size_per: StepSizePer = "parameter",
    step_size_per_step: bool = False,
    **maml_settings: Any,
) -> MetaAlgorithm:
    """MAML with learned inner step sizes, ``phi = theta - alpha * grad L(theta)`` with ``alpha`` meta-learned too.

    The step sizes start at ``inner_lr``; see :func:`metarl_jax.inner.rules.learned_step_sizes`.

    Args:
      family: where tasks come from.
      policy: what is trained.
      optimizer: the outer optimiser, of the initial parameters and of the step sizes.
      step_size_per: learn one step size for the whole ``step``, for each ``layer`` (array), or for each ``parameter``.
      step_size_per_step: learn separate ones for each inner step.
      **maml_settings: of :func:`metarl_jax.algorithms.maml`.

    Returns:
      The algorithm; ``params["inner_rule"]`` holds the step sizes in units of ``inner_lr``.

    Raises:
      ValueError: if a hyperparameter is out of range.

    Example:
      >>> import jax, metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = meta_sgd(family, policy, optax.adam(1e-3), inner_lr=0.1)
      >>> algorithm.init(jax.random.key(0)).params["inner_rule"]["log_std"].tolist()
      [1.0, 1.0]
    """
    require(
        "rule" not in maml_settings,
        "rule",
        maml_settings.get("rule"),
        "meta_sgd has its own: leave it out, or use maml",
    )
    rule = partial(learned_step_sizes, per=step_size_per, per_step=step_size_per_step)
    return maml(family, policy, optimizer, rule=rule, **maml_settings)
