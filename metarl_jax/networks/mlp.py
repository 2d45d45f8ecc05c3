"""Memoryless policies: multi-layer perceptrons over the observation."""

import math
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.ops.distributions import GaussianParams, categorical, gaussian
from metarl_jax.ops.matmul import dense_dot_general
from metarl_jax.types import (
    ActionSpec,
    Array,
    Carry,
    Distribution,
    Key,
    NonNegativeInt,
    Params,
    Percept,
    Policy,
    PositiveFloat,
    PositiveInt,
    PyTree,
    require_number,
)

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": nn.tanh, "relu": nn.relu, "elu": nn.elu, "swish": nn.swish}


class MLP(nn.Module):
    """Dense layers with one activation between them; Glorot-uniform weights, zero biases.

    Attributes:
      hidden_sizes: widths of the hidden layers.
      output_size: width of the linear output layer.
      activation: a key of ``ACTIVATIONS``.

    Example:
      >>> net = MLP((8, 8), 2)
      >>> net.apply(net.init(jax.random.key(0), jnp.zeros(3)), jnp.zeros((5, 3))).shape
      (5, 2)
    """

    hidden_sizes: tuple[int, ...]
    output_size: int
    activation: str = "tanh"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``[..., n]`` to ``[..., output_size]``."""
        for size in self.hidden_sizes:
            x = ACTIVATIONS[self.activation](_dense(size)(x))
        return jnp.asarray(_dense(self.output_size)(x))


def _dense(size: int) -> nn.Dense:
    return nn.Dense(size, kernel_init=nn.initializers.glorot_uniform(), dot_general=dense_dot_general)


def mlp_policy(
    observation_shape: tuple[int, ...],
    action: ActionSpec,
    *,
    hidden_sizes: tuple[PositiveInt, ...] = (64, 64),
    activation: Literal["tanh", "relu", "elu", "swish"] = "tanh",
    init_std: PositiveFloat = 1.0,
    min_std: PositiveFloat = 1e-6,
    critic_hidden_sizes: tuple[PositiveInt, ...] | None = None,
    context_size: NonNegativeInt = 0,
) -> Policy:
    """A multi-layer perceptron over the observation, without memory.

    Gaussian with state-independent standard deviation, or categorical for discrete actions. Parameters are
    ``{"mean": ..., "log_std": [action_size]}`` (``{"logits": ...}`` when discrete) and, with a critic, ``"value"``: a
    separate network.

    Args:
      observation_shape: shape of one observation; flattened.
      action: what the task takes.
      hidden_sizes: widths of the hidden layers.
      activation: the function between layers.
      init_std: initial standard deviation of the action, in units of the policy's output.
      min_std: the standard deviation is clamped from below to this wherever it is used, before and after adaptation.
      critic_hidden_sizes: widths of a learned value network; no critic if left out.
      context_size: numbers of a ``context`` that is a parameter, zero at first, and an input of the policy beside the
        observation: what CAVIA adapts.

    Returns:
      The policy as pure functions.

    Raises:
      ValueError: if a standard deviation is not positive.

    Example:
      >>> policy = mlp_policy((2,), ActionSpec(2), hidden_sizes=(8,))
      >>> params = policy.init(jax.random.key(0))
      >>> percept = Percept(jnp.zeros((5, 2)), jnp.zeros((5, 2)), jnp.zeros(5), jnp.ones(5))
      >>> policy.act(params, (), percept, jax.random.key(1))[0].shape
      (5, 2)
    """
    require_number("init_std", init_std, above=0)
    require_number("min_std", min_std, above=0)
    network = MLP(tuple(hidden_sizes), action.size, activation)
    critic = None if critic_hidden_sizes is None else MLP(tuple(critic_hidden_sizes), 1, activation)
    distribution: Distribution = categorical() if action.discrete else gaussian()

    def init(key: Key) -> Params:
        key_policy, key_value = jax.random.split(key)
        blank = jnp.zeros(math.prod(observation_shape))
        context = jnp.zeros(context_size)
        weights = network.init(key_policy, jnp.concatenate([blank, context]))["params"]
        params = {"logits": weights} if action.discrete else {"mean": weights, "log_std": initial_log_std()}
        if context_size:
            params["context"] = context
        if critic is not None:
            params["value"] = critic.init(key_value, blank)["params"]
        return params

    def initial_log_std() -> Array:
        return jnp.full(action.size, math.log(init_std), float)

    def run(module: MLP, weights: Params, observation: Array, context: Array | None = None) -> Array:
        # All leading axes become one: XLA's CPU loops are faster over two axes than over three.
        leading = observation.shape[: observation.ndim - len(observation_shape)]
        flat = observation.reshape(math.prod(leading), math.prod(observation_shape))
        if context is not None:
            flat = jnp.concatenate([flat, jnp.broadcast_to(context, (len(flat), context_size))], axis=-1)
        return jnp.asarray(module.apply({"params": weights}, flat)).reshape(*leading, -1)

    def distribute(params: Params, observation: Array) -> PyTree:
        if action.discrete:
            return run(network, params["logits"], observation, params.get("context"))
        mean = run(network, params["mean"], observation, params.get("context"))
        log_std = jnp.maximum(params["log_std"], math.log(min_std))
        return GaussianParams(mean, jnp.broadcast_to(log_std, mean.shape))

    def act(params: Params, carry: Carry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, Carry]:
        dist_params = distribute(params, percept.observation)
        chosen = distribution.sample(dist_params, key)
        return chosen, distribution.log_prob(dist_params, chosen), dist_params, carry

    def evaluate(params: Params, carry: Carry, percept: Percept) -> tuple[PyTree, Array]:
        dist_params = distribute(params, percept.observation)
        if critic is None:
            value = jnp.zeros(percept.previous_reward.shape)
        else:
            value = run(critic, params["value"], percept.observation)[..., 0]
        return dist_params, value

    return Policy(init, lambda batch_size: (), act, evaluate, distribution, has_critic=critic is not None)
