"""A factory declares how the method that it makes adapts, so that nobody guesses it from the names of its arguments."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

from metarl_jax.checks import arguments
from metarl_jax.types import Adaptation, MetaAlgorithm

P = ParamSpec("P")
Settings = Mapping[str, Any]
"""The arguments of a factory by name: the keywords that it was given, and the defaults of the rest."""
Remake = Callable[..., MetaAlgorithm]
"""``(**changes) -> MetaAlgorithm``: call the factory once more, with these arguments in the place of what was given."""
Describe = Callable[[Settings, Remake], Adaptation]


def adapts(describe: Describe) -> Callable[[Callable[P, MetaAlgorithm]], Callable[P, MetaAlgorithm]]:
    """Declare the adaptation of what a factory makes, in terms of its arguments.

    Args:
      describe: :func:`metarl_jax.algorithms.gradient.budget.by_gradient_steps`,
        :func:`metarl_jax.algorithms.memory.core.by_episodes`, or a function of your own.

    Returns:
      A decorator, which goes below :func:`metarl_jax.checks.checked`.

    Example:
      >>> import optax, metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn()
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> adaptation = mrl.algorithms.maml(family, policy, optax.adam(1e-3), inner_lr=0.5).adaptation
      >>> adaptation.unit, adaptation.trained, adaptation.with_budget(3, 20, "finn").adaptation.step_sizes
      ('gradient step', 1, (0.5, 0.25, 0.25))
    """

    def declare(factory: Callable[P, MetaAlgorithm]) -> Callable[P, MetaAlgorithm]:
        @functools.wraps(factory)
        def call(*given: P.args, **keywords: P.kwargs) -> MetaAlgorithm:
            def remake(**changes: Any) -> MetaAlgorithm:
                return call(*given, **{**keywords, **changes})  # type: ignore[arg-type]

            defaults = {name: argument.parameter.default for name, argument in arguments(call).items()}
            made = factory(*given, **keywords)
            try:
                return made._replace(adaptation=describe({**defaults, **keywords}, remake))
            except KeyError as missing:
                name = getattr(factory, "__name__", "factory")
                raise TypeError(f"{name} has no argument {missing}, by which it is declared to adapt") from None

        return call

    return declare
