"""Inner update rules: how the gradient of an inner loss moves the adapted parameters.

A rule may have meta-parameters of its own (learned step sizes, the weights of a learned update). They live beside the
policy's, under the name ``inner_rule``, receive meta-gradients like the rest, and are never adapted themselves.

The adapted parameters come as a flat dict from path (``mean/Dense_0/kernel``) to array.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import optax

from metarl_jax.checks import checked
from metarl_jax.ops import trees
from metarl_jax.types import Array, Key, Params, PositiveInt, PyTree

RULE = "inner_rule"
Leaves = dict[str, Array]
RuleName = Literal["sgd", "momentum", "adam", "learned_step_sizes", "learned"]
StepSizePer = Literal["step", "layer", "parameter"]

_MOMENTUM = 0.9
_LOG_RANGE = 10.0


class InnerRule(NamedTuple):
    """An update rule as pure functions.

    Attributes:
      init: ``(adapted leaves, key) -> meta-parameters`` of the rule; ``None`` if it has none.
      start: ``(adapted leaves) -> state`` before the first step on a task.
      step: ``(meta-parameters, leaves, gradient, state, k) -> (leaves, state)``: step ``k``, differentiable.
    """

    init: Callable[[Leaves, Key], PyTree]
    start: Callable[[Leaves], PyTree]
    step: Callable[[PyTree, Leaves, Leaves, PyTree, Array | int], tuple[Leaves, PyTree]]


MakeRule = Callable[[Array], InnerRule]
"""``step sizes [K] -> InnerRule``."""


def optax_rule(transformation: optax.GradientTransformation, step_sizes: Array) -> InnerRule:
    """``phi <- phi - alpha_k T(gradient)`` for any differentiable optax transformation ``T``.

    Args:
      transformation: a direction of ascent from a gradient, such as ``optax.identity()``; where it has a square root,
        give it ``eps_root > 0``, or its derivative at zero is infinite.
      step_sizes: ``[K]`` alpha.

    Returns:
      The rule; it has no meta-parameters.

    Example:
      >>> rule = optax_rule(optax.identity(), jnp.array([0.5]))
      >>> leaves = {"w": jnp.array(1.0)}
      >>> rule.step(None, leaves, {"w": jnp.array(4.0)}, rule.start(leaves), 0)[0]["w"].item()
      -1.0
    """

    def step(_: PyTree, leaves: Leaves, gradient: Leaves, state: PyTree, k: Array | int) -> tuple[Leaves, PyTree]:
        direction, state = transformation.update(gradient, state, leaves)
        return {path: leaves[path] - step_sizes[k] * direction[path] for path in leaves}, state

    return InnerRule(lambda leaves, key: None, transformation.init, step)


@checked
def learned_step_sizes(step_sizes: Array, per: StepSizePer = "parameter", per_step: bool = False) -> InnerRule:
    """Meta-SGD (Li et al., 2017): ``phi <- phi - alpha * gradient`` with a learned ``alpha``.

    What is learned is ``alpha`` divided by the configured step size, so it starts at 1 and an optimiser's step on it
    is relative. It may become negative, as in the paper.

    Args:
      step_sizes: ``[K]`` configured alpha.
      per: one factor for the whole ``step``, for each ``layer`` (array), or for each ``parameter``.
      per_step: learn separate factors for each of the K steps; further steps at meta-test use the last.

    Returns:
      The rule; its meta-parameters are factors by path.

    Example:
      >>> import jax
      >>> rule = learned_step_sizes(jnp.array([0.5]))
      >>> rule.init({"w": jnp.zeros(3)}, jax.random.key(0))["w"].tolist()
      [1.0, 1.0, 1.0]
    """
    copies = (len(step_sizes),) if per_step else ()

    def init(leaves: Leaves, key: Key) -> PyTree:
        if per == "step":
            return jnp.ones(copies)
        return {path: jnp.ones((*copies, *(leaf.shape if per == "parameter" else ()))) for path, leaf in leaves.items()}

    def step(factors: PyTree, leaves: Leaves, gradient: Leaves, state: PyTree, k: Array | int) -> tuple[Leaves, PyTree]:
        def factor(path: str) -> Array:
            every = factors[path] if isinstance(factors, Mapping) else factors
            return every[jnp.minimum(k, every.shape[0] - 1)] if per_step else every

        moved = {path: leaves[path] - step_sizes[k] * factor(path) * gradient[path] for path in leaves}
        return moved, state

    return InnerRule(init, lambda leaves: (), step)


class _Update(nn.Module):
    """A small network for each parameter by itself: ``[..., 2]`` features to a gain and a shift ``[..., 2]``."""

    hidden_size: int

    @nn.compact
    def __call__(self, features: Array) -> Array:
        hidden = nn.tanh(nn.Dense(self.hidden_size, param_dtype=float)(features))
        return nn.Dense(2, kernel_init=nn.initializers.zeros, param_dtype=float)(hidden)


@checked
def learned_update(step_sizes: Array, hidden_size: PositiveInt = 8) -> InnerRule:
    """A learned update rule (Andrychowicz et al., 2016): ``phi <- phi - alpha (gradient (1 + gain) + shift)``.

    Gain and shift come from one small network that is applied to every parameter by itself and sees the logarithm of
    the gradient's size and its sign, as the paper preprocesses them. It starts as plain gradient descent.

    Args:
      step_sizes: ``[K]`` alpha.
      hidden_size: width of the hidden layer.

    Returns:
      The rule; its meta-parameters are the network's weights.

    Example:
      >>> import jax
      >>> rule = learned_update(jnp.array([0.5]))
      >>> leaves, gradient = {"w": jnp.array(1.0)}, {"w": jnp.array(4.0)}
      >>> weights = rule.init(leaves, jax.random.key(0))
      >>> rule.step(weights, leaves, gradient, (), 0)[0]["w"].item()
      -1.0
    """
    network = _Update(hidden_size)

    def features(gradient: Array) -> Array:
        # Where the gradient is tiny its sign is noise: both features fade out, smoothly, so that this differentiates.
        smallest = jnp.exp(-_LOG_RANGE)
        size = jnp.sqrt(jnp.square(gradient) + smallest**2)
        return jnp.stack([jnp.log(size) / _LOG_RANGE, gradient / size], axis=-1)

    def init(leaves: Leaves, key: Key) -> PyTree:
        return network.init(key, jnp.zeros(2))["params"]

    def step(weights: PyTree, leaves: Leaves, gradient: Leaves, state: PyTree, k: Array | int) -> tuple[Leaves, PyTree]:
        def move(leaf: Array, g: Array) -> Array:
            gain, shift = jnp.moveaxis(jnp.asarray(network.apply({"params": weights}, features(g))), -1, 0)
            return leaf - step_sizes[k] * (g * (1.0 + gain) + shift)

        return {path: move(leaves[path], gradient[path]) for path in leaves}, state

    return InnerRule(init, lambda leaves: (), step)


@checked
def make_rule(name: RuleName, step_sizes: Array) -> InnerRule:
    """An update rule by name.

    Args:
      name: ``sgd``; ``momentum`` 0.9; ``adam``, with the ``eps_root`` that its derivative needs;
        ``learned_step_sizes``, for each layer and each step (Antoniou et al., 2019); or ``learned``.
      step_sizes: ``[K]`` alpha.

    Returns:
      The rule.

    Example:
      >>> import jax
      >>> make_rule("sgd", jnp.array([0.1])).init({}, jax.random.key(0)) is None
      True
    """
    rules: dict[RuleName, Callable[[], InnerRule]] = {
        "sgd": lambda: optax_rule(optax.identity(), step_sizes),
        "momentum": lambda: optax_rule(optax.trace(_MOMENTUM), step_sizes),
        "adam": lambda: optax_rule(optax.scale_by_adam(eps_root=1e-8), step_sizes),
        "learned_step_sizes": lambda: learned_step_sizes(step_sizes, per="layer", per_step=True),
        "learned": lambda: learned_update(step_sizes),
    }
    return rules[name]()


def with_rule(params: Params, meta: PyTree) -> Params:
    """Put a rule's meta-parameters beside the policy's; nothing changes if it has none.

    Args:
      params: the policy's, a dict by name.
      meta: from ``InnerRule.init``.

    Returns:
      The meta-parameters of the whole method.

    Example:
      >>> with_rule({"mean": 1.0}, 2.0)
      {'mean': 1.0, 'inner_rule': 2.0}
    """
    return params if meta is None else {**params, RULE: meta}


def rule_params(params: Params) -> PyTree:
    """The rule's meta-parameters among all; None if it has none.

    Args:
      params: from :func:`with_rule`.

    Returns:
      What ``InnerRule.step`` takes first.

    Example:
      >>> rule_params({"mean": 1.0, "inner_rule": 2.0})
      2.0
    """
    return params.get(RULE) if isinstance(params, Mapping) else None


def is_adapted(path: str, adapted: tuple[str, ...] | None) -> bool:
    """Whether inner steps move a parameter: any but the rule's own, or those below one of the named paths.

    Args:
      path: as in ``mean/Dense_0/kernel``.
      adapted: paths; all if None.

    Returns:
      True if it is adapted.

    Example:
      >>> is_adapted("mean/Dense_1/bias", ("mean/Dense_1",)), is_adapted("inner_rule/mean/Dense_1/bias", None)
      (True, False)
    """
    if path.split("/")[0] == RULE:
        return False
    return adapted is None or trees.is_below(path, adapted)
