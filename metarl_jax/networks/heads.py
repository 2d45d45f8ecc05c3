"""From a policy's output to a distribution of actions."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from metarl_jax.checks import checked, is_traced
from metarl_jax.ops.distributions import GaussianParams, categorical, gaussian, tanh_gaussian
from metarl_jax.ops.matmul import matmul
from metarl_jax.types import ActionSpec, Array, Distribution, Params, PositiveFloat, PyTree, require

MAX_STD = 1000.0
"""A standard deviation that is a function of the observation is clamped from above to this."""


class ActionHead(NamedTuple):
    """What turns a network's output into a distribution of actions.

    The network's own parameters are ``"mean"``, or ``"logits"`` when discrete; the head adds ``"log_std"`` to
    continuous actions: ``[action_size]``, or a ``kernel`` and a ``bias`` if it depends on the last hidden layer.

    Attributes:
      action: what the task takes.
      init_std: initial standard deviation, before squashing.
      min_std: its floor.
      squash: keep continuous actions in (-1, 1) by a tanh.
      state_dependent_std: the standard deviation is a function of the last hidden layer.

    Example:
      >>> head = action_head(ActionSpec(3), init_std=0.5, min_std=1e-6)
      >>> head.distribute(head.init(hidden_size=8), jnp.zeros((2, 3)), jnp.zeros((2, 8))).log_std.shape
      (2, 3)
    """

    action: ActionSpec
    init_std: float
    min_std: float
    squash: bool
    state_dependent_std: bool

    @property
    def name(self) -> str:
        """The network's key among the parameters."""
        return "logits" if self.action.discrete else "mean"

    @property
    def distribution(self) -> Distribution:
        """The family of distributions."""
        return make_distribution(self.action, self.squash)

    def init(self, hidden_size: int) -> Params:
        """The head's own parameters; ``hidden_size`` is the width of the network's last hidden layer."""
        if self.action.discrete:
            return {}
        everywhere = jnp.full(self.action.size, _log(self.init_std), float)
        if not self.state_dependent_std:
            return {"log_std": everywhere}
        return {"log_std": {"kernel": jnp.zeros((hidden_size, self.action.size)), "bias": everywhere}}

    def distribute(self, params: Params, output: Array, hidden: Array) -> PyTree:
        """Distribution parameters from the output ``[..., action_size]`` and the last hidden layer ``[..., h]``."""
        if self.action.discrete:
            return output
        return GaussianParams(output, jnp.broadcast_to(self._log_std(params["log_std"], hidden), output.shape))

    def _log_std(self, weights: PyTree, hidden: Array) -> Array:
        if not self.state_dependent_std:
            return jnp.maximum(weights, _log(self.min_std))
        log_std = matmul(hidden, weights["kernel"]) + weights["bias"]
        return jnp.clip(log_std, _log(self.min_std), math.log(MAX_STD))


def _log(std: float) -> Array | float:
    """On the host, in double precision, unless it is traced."""
    return jnp.log(std) if is_traced(std) else math.log(std)


@checked
def action_head(
    action: ActionSpec,
    *,
    init_std: PositiveFloat,
    min_std: PositiveFloat,
    squash: bool = False,
    state_dependent_std: bool = False,
) -> ActionHead:
    """Check the options of a head and make it.

    Args:
      action: what the task takes.
      init_std: see :class:`ActionHead`, as the others.
      min_std: floor of the standard deviation.
      squash: keep continuous actions in (-1, 1).
      state_dependent_std: the standard deviation is a function of the last hidden layer.

    Raises:
      ValueError: if a standard deviation is not positive or starts below its floor, or an option for continuous actions
        meets discrete ones.

    Example:
      >>> action_head(ActionSpec(3, discrete=True), init_std=1.0, min_std=1e-6).name
      'logits'
    """
    is_in_order = action.discrete or is_traced((init_std, min_std)) or min_std <= init_std
    require(is_in_order, "min_std", min_std, f"must be at most init_std = {init_std}")
    remedy = "the actions are discrete: leave this out"
    require(not (squash and action.discrete), "squash", squash, remedy)
    require(not (state_dependent_std and action.discrete), "state_dependent_std", state_dependent_std, remedy)
    return ActionHead(action, init_std, min_std, squash, state_dependent_std)


def make_distribution(action: ActionSpec, squash: bool = False) -> Distribution:
    """The family of distributions for what a task takes.

    Args:
      action: what the task takes.
      squash: keep continuous actions in (-1, 1); nothing to discrete ones.

    Returns:
      Categorical for discrete actions, else Gaussian, squashed by tanh or not.

    Example:
      >>> make_distribution(ActionSpec(2), squash=True) == tanh_gaussian()
      True
    """
    if action.discrete:
        return categorical()
    return tanh_gaussian() if squash else gaussian()
