"""How many gradient steps a method takes on a task, and how long each is: in training, and at meta-test time."""

from typing import Any

import numpy as np

from metarl_jax.algorithms.adaptation import Remake, Settings
from metarl_jax.checks import checked, require
from metarl_jax.types import Adaptation, Array, MetaAlgorithm, NonNegativeFloat, NonNegativeInt, StepSizeRule


def by_gradient_steps(settings: Settings, remake: Remake) -> Adaptation:
    """The adaptation of a factory with the arguments of :func:`metarl_jax.inner.make_inner_loop`.

    Args:
      settings: the factory's arguments.
      remake: calls it again with others.

    Returns:
      What :func:`metarl_jax.algorithms.adaptation.adapts` declares.

    Example:
      >>> adaptation = by_gradient_steps({"inner_lr": 0.1, "num_inner_steps": 1}, lambda **changes: changes)
      >>> adaptation.with_budget(2, 20, "constant")
      {'inner_lr': (0.1, 0.1), 'num_inner_steps': 2, 'episodes_per_task': 20}
    """
    step_size, num_steps = settings["inner_lr"], int(settings["num_inner_steps"])

    def with_budget(num_inner_steps: int, episodes_per_task: int, rule: StepSizeRule) -> MetaAlgorithm:
        step_sizes = meta_test_step_sizes(step_size, num_inner_steps, rule)
        return remake(inner_lr=step_sizes, num_inner_steps=num_inner_steps, episodes_per_task=episodes_per_task)

    trained = meta_test_step_sizes(step_size, num_steps, "constant")
    differentiates = num_steps > 0 and not settings.get("first_order", False)
    return Adaptation(
        "gradient step", num_steps, num_steps + 1, with_budget, trained, second_derivatives=differentiates
    )


def by_constant_steps(settings: Settings, remake: Remake) -> Adaptation:
    """As :func:`by_gradient_steps`, of a method that differentiates none of them."""
    return by_gradient_steps(settings, remake)._replace(second_derivatives=False)


@checked
def meta_test_step_sizes(
    inner_lr: NonNegativeFloat | tuple[NonNegativeFloat, ...], num_inner_steps: NonNegativeInt, rule: StepSizeRule
) -> tuple[Array | float, ...]:
    """The step size of each of K gradient steps at meta-test time.

    Args:
      inner_lr: the training step size, or one for each training step; the last one goes on.
      num_inner_steps: K, gradient steps on each task.
      rule: ``constant`` keeps them; ``finn`` takes the first for the first step and half of it for all after it (Finn
        et al., 2017).

    Returns:
      K step sizes.

    Raises:
      ValueError: if a number is out of range, or there is no step size.

    Example:
      >>> meta_test_step_sizes(0.5, 3, "finn")
      (0.5, 0.25, 0.25)
    """
    given: Any = inner_lr  # an array of step sizes, too
    trained = given if isinstance(given, tuple) else (given,) if np.ndim(given) == 0 else tuple(given)
    require(bool(trained) or num_inner_steps == 0, "inner_lr", inner_lr, "there is none to take a step with: give one")
    if rule == "finn":
        return tuple(trained[0] if k == 0 else trained[0] / 2 for k in range(num_inner_steps))
    return tuple(trained[min(k, len(trained) - 1)] for k in range(num_inner_steps))
