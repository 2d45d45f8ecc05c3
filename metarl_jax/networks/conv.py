"""Memoryless policies of images: convolutions, then dense layers."""

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from metarl_jax.checks import Traced, checked
from metarl_jax.networks.memoryless import memoryless_policy
from metarl_jax.networks.mlp import ACTIVATIONS, MLP, dense
from metarl_jax.types import ActionSpec, Array, NonNegativeInt, Policy, PositiveFloat, PositiveInt, require


def image_patches(image: Array, size: int) -> Array:
    """All square windows of an image, so that a convolution is a matrix product over their last axis.

    Args:
      image: ``[N, H, W, C]``.
      size: the windows' height and width.

    Returns:
      ``[N, H - size + 1, W - size + 1, size * size * C]``: rows of the window first, channels last.

    Example:
      >>> image_patches(jnp.zeros((5, 10, 10, 4)), 3).shape
      (5, 8, 8, 36)
    """
    height, width = image.shape[1] - size + 1, image.shape[2] - size + 1
    shifted = [image[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifted, axis=-1)


class ConvNet(nn.Module):
    """Convolutions (stride 1, no padding), then dense layers, with one activation between all of them.

    A convolution is a matrix product over patches. So its second derivatives are matrix products too, and a batch of
    tasks with a kernel each is a batched product, not a grouped convolution.

    Attributes:
      image_shape: ``(H, W, C)``.
      channels: of each convolution.
      kernel_size: height and width of all kernels.
      hidden_sizes: widths of the hidden dense layers.
      output_size: width of the linear output layer.
      activation: a key of ``ACTIVATIONS``.

    Example:
      >>> import jax
      >>> net = ConvNet((4, 4, 2), (3,), 3, (8,), 5)
      >>> net.apply(net.init(jax.random.key(0), jnp.zeros((1, 32))), jnp.zeros((7, 32))).shape
      (7, 5)
    """

    image_shape: tuple[int, ...]
    channels: tuple[int, ...]
    kernel_size: int
    hidden_sizes: tuple[int, ...]
    output_size: int
    activation: str = "relu"

    @nn.compact
    def layers(self, x: Array) -> tuple[Array, Array]:
        """Map ``[N, H W C + c]``, images with other numbers behind them, to the output and the last hidden layer."""
        pixels, activation = math.prod(self.image_shape), ACTIVATIONS[self.activation]
        image, others = x[:, :pixels].reshape(-1, *self.image_shape), x[:, pixels:]
        for i, size in enumerate(self.channels):
            image = activation(dense(size, f"Conv_{i}")(image_patches(image, self.kernel_size)))
        x = jnp.concatenate([image.reshape(image.shape[0], -1), others], axis=-1)
        for i, size in enumerate(self.hidden_sizes):
            x = activation(dense(size, f"Dense_{i}")(x))
        return jnp.asarray(dense(self.output_size, f"Dense_{len(self.hidden_sizes)}")(x)), x

    def __call__(self, x: Array) -> Array:
        """Map ``[N, H W C + c]`` to ``[N, output_size]``."""
        output, _ = self.layers(x)
        return output


@checked
def conv_policy(
    observation_shape: tuple[int, ...],
    action: ActionSpec,
    *,
    channels: tuple[PositiveInt, ...] = (16,),
    kernel_size: PositiveInt = 3,
    hidden_sizes: tuple[PositiveInt, ...] = (128,),
    activation: Literal["tanh", "relu", "elu", "swish"] = "relu",
    init_std: Traced[PositiveFloat] = 1.0,
    min_std: Traced[PositiveFloat] = 1e-6,
    critic_hidden_sizes: tuple[PositiveInt, ...] | None = None,
    context_size: NonNegativeInt = 0,
    squash: bool = False,
    state_dependent_std: bool = False,
    shared_torso: bool = False,
) -> Policy:
    """Convolutions and dense layers over planes of pixels, without memory.

    The parameters are those of :func:`metarl_jax.networks.mlp_policy`, with layers ``Conv_0``, ... before ``Dense_0``.

    Args:
      observation_shape: ``(height, width, planes)``.
      action: what the task takes.
      channels: of each convolution (stride 1, no padding).
      kernel_size: height and width of all kernels.
      hidden_sizes: widths of the hidden dense layers.
      activation: the function between layers.
      init_std: initial standard deviation of the action, in units of the policy's output (before squashing).
      min_std: the standard deviation is clamped from below to this wherever it is used, before and after adaptation.
      critic_hidden_sizes: widths of a learned value network's dense layers, after convolutions of its own; no critic if
        left out. With ``shared_torso``, widths of its layers on top of the policy's.
      context_size: numbers of a ``context`` that is a parameter, zero at first, and an input of the first dense layer
        beside the image: what CAVIA adapts.
      squash: continuous actions pass a tanh and stay in (-1, 1).
      state_dependent_std: the standard deviation is a function of the policy's last hidden layer, ``init_std``
        everywhere at first and at most 1000, instead of one number for each component of the action.
      shared_torso: learn a value that stands on the policy's last hidden layer (and sees its context): linear, or with
        the layers of ``critic_hidden_sizes``. ``critic_lr_scale`` scales the steps of what is the critic's alone.

    Raises:
      ValueError: if the observation is not a stack of planes that the kernels fit into, a standard deviation is not
        positive, or an option for continuous actions meets discrete ones.

    Example:
      >>> import jax
      >>> policy = conv_policy((10, 10, 4), ActionSpec(3, discrete=True), hidden_sizes=(16,))
      >>> jax.eval_shape(policy.init, jax.random.key(0))["logits"]["Conv_0"]["kernel"].shape
      (36, 16)
    """
    is_image = len(observation_shape) == 3
    require(is_image, "observation_shape", observation_shape, "conv needs [H, W, C] planes; for vectors choose mlp")
    needed = len(channels) * (kernel_size - 1) + 1
    fits = min(observation_shape[:2]) >= needed
    remedy = (
        f"{len(channels)} of them need planes of {needed} x {needed} or more, not {observation_shape}: use a smaller"
    )
    require(fits, "kernel_size", kernel_size, f"{remedy} kernel, or fewer channels")

    def network(widths: tuple[int, ...], output_size: int) -> ConvNet:
        return ConvNet(tuple(observation_shape), tuple(channels), kernel_size, tuple(widths), output_size, activation)

    critic: ConvNet | MLP | None = None
    if shared_torso:
        critic = MLP(tuple(critic_hidden_sizes or ()), 1, activation)
    elif critic_hidden_sizes is not None:
        critic = network(critic_hidden_sizes, 1)
    return memoryless_policy(
        network(hidden_sizes, action.size),
        critic,
        observation_shape,
        action,
        init_std=init_std,
        min_std=min_std,
        squash=squash,
        state_dependent_std=state_dependent_std,
        shared_torso=shared_torso,
        context_size=context_size,
        head_layer=f"Dense_{len(hidden_sizes)}",
    )
