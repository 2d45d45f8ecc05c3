"""Memoryless policies: multi-layer perceptrons over the observation."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from metarl_jax.checks import Traced, checked
from metarl_jax.networks.memoryless import memoryless_policy
from metarl_jax.ops.matmul import dense_dot_general
from metarl_jax.types import ActionSpec, Array, NonNegativeInt, Policy, PositiveFloat, PositiveInt

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": nn.tanh, "relu": nn.relu, "elu": nn.elu, "swish": nn.swish}


class MLP(nn.Module):
    """Dense layers with one activation between them; Glorot-uniform weights, zero biases.

    Attributes:
      hidden_sizes: widths of the hidden layers.
      output_size: width of the linear output layer.
      activation: a key of ``ACTIVATIONS``.

    Example:
      >>> import jax
      >>> net = MLP((8, 8), 2)
      >>> net.apply(net.init(jax.random.key(0), jnp.zeros(3)), jnp.zeros((5, 3))).shape
      (5, 2)
    """

    hidden_sizes: tuple[int, ...]
    output_size: int
    activation: str = "tanh"

    @nn.compact
    def layers(self, x: Array) -> tuple[Array, Array]:
        """Map ``[..., n]`` to ``[..., output_size]`` and the last hidden layer (the input if there is none)."""
        for size in self.hidden_sizes:
            x = ACTIVATIONS[self.activation](dense(size)(x))
        return jnp.asarray(dense(self.output_size)(x)), x

    def __call__(self, x: Array) -> Array:
        """Map ``[..., n]`` to ``[..., output_size]``."""
        output, _ = self.layers(x)
        return output


def dense(size: int, name: str | None = None, gain: float = 1.0) -> nn.Dense:
    """A dense layer: Glorot-uniform weights, a zero bias, second derivatives without copies.

    Args:
      size: its width.
      name: its name among the parameters; numbered if left out.
      gain: what its initial weights are multiplied by.

    Example:
      >>> import jax
      >>> dense(3).init(jax.random.key(0), jnp.zeros(2))["params"]["kernel"].shape
      (2, 3)
    """
    return nn.Dense(
        size,
        kernel_init=nn.initializers.variance_scaling(gain**2, "fan_avg", "uniform"),
        dot_general=dense_dot_general,
        param_dtype=float,
        name=name,
    )


@checked
def mlp_policy(
    observation_shape: tuple[int, ...],
    action: ActionSpec,
    *,
    hidden_sizes: tuple[PositiveInt, ...] = (64, 64),
    activation: Literal["tanh", "relu", "elu", "swish"] = "tanh",
    init_std: Traced[PositiveFloat] = 1.0,
    min_std: Traced[PositiveFloat] = 1e-6,
    critic_hidden_sizes: tuple[PositiveInt, ...] | None = None,
    context_size: NonNegativeInt = 0,
    squash: bool = False,
    state_dependent_std: bool = False,
    shared_torso: bool = False,
    privileged_size: NonNegativeInt = 0,
) -> Policy:
    """A multi-layer perceptron over the observation, without memory.

    Gaussian, squashed by tanh or not, or categorical for discrete actions. Parameters are
    ``{"mean": ..., "log_std": [action_size]}`` (``{"logits": ...}`` when discrete) and, with a critic, ``"value"``: a
    separate network, or layers on top of the policy's.

    Args:
      observation_shape: shape of one observation; flattened.
      action: what the task takes.
      hidden_sizes: widths of the hidden layers.
      activation: the function between layers.
      init_std: initial standard deviation of the action, in units of the policy's output (before squashing).
      min_std: the standard deviation is clamped from below to this wherever it is used, before and after adaptation.
      critic_hidden_sizes: widths of a learned value network; no critic if left out. With ``shared_torso``, widths of
        its layers on top of the policy's.
      context_size: numbers of a ``context`` that is a parameter, zero at first, and an input of the policy beside the
        observation: what CAVIA adapts.
      squash: continuous actions pass a tanh and stay in (-1, 1). Tasks divide by their ``action_scale``, so 1 uses
        their whole range.
      state_dependent_std: the standard deviation is a function of the policy's last hidden layer, ``init_std``
        everywhere at first and at most 1000, instead of one number for each component of the action.
      shared_torso: learn a value that stands on the policy's last hidden layer (and sees its context): linear, or with
        the layers of ``critic_hidden_sizes``. ``critic_lr_scale`` scales the steps of what is the critic's alone.
      privileged_size: how many of the last numbers of a flat observation are for the critic alone; a family's own.

    Raises:
      ValueError: if a standard deviation is not positive, or an option for continuous actions meets discrete ones.

    Example:
      >>> import jax
      >>> from metarl_jax.types import Percept
      >>> policy = mlp_policy((2,), ActionSpec(2), hidden_sizes=(8,))
      >>> params = policy.init(jax.random.key(0))
      >>> percept = Percept(jnp.zeros((5, 2)), jnp.zeros((5, 2)), jnp.zeros(5), jnp.ones(5))
      >>> policy.act(params, (), percept, jax.random.key(1))[0].shape
      (5, 2)
    """
    has_critic = shared_torso or critic_hidden_sizes is not None
    return memoryless_policy(
        MLP(tuple(hidden_sizes), action.size, activation),
        MLP(tuple(critic_hidden_sizes or ()), 1, activation) if has_critic else None,
        observation_shape,
        action,
        init_std=init_std,
        min_std=min_std,
        squash=squash,
        state_dependent_std=state_dependent_std,
        shared_torso=shared_torso,
        context_size=context_size,
        privileged_size=privileged_size,
        head_layer=f"Dense_{len(hidden_sizes)}",
    )
