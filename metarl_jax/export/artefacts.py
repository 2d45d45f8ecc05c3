"""Acting and adapting as functions of flat dicts, and as ``jax.export`` artefacts for any batch on any platform.

What is bfloat16 goes in and comes out as float32, of which numpy knows, and is rounded inside.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from metarl_jax.ops import trees
from metarl_jax.types import Agent, Array, Episodes, Percept, Policy, PyTree, TaskFamily

PLATFORMS = ("cpu", "cuda", "tpu")
Leaves = dict[str, Array]


def leaves_of(tree: PyTree) -> Leaves:
    """The leaves by path, in the order in which JAX takes the entries of a dict."""
    return dict(sorted(trees.by_path(tree).items()))


def readable(dtype: Any) -> np.dtype:
    """The type in which numpy holds what JAX has in another.

    Example:
      >>> readable(jnp.bfloat16), readable(np.int8)
      (dtype('float32'), dtype('int8'))
    """
    return np.dtype("float32" if np.dtype(dtype) == jnp.bfloat16 else dtype)


def is_readable(dtype: Any) -> bool:
    """Whether numpy holds it by itself: real numbers of its own types, or what is :func:`readable` as one.

    Example:
      >>> is_readable(jnp.bfloat16), is_readable(jnp.float8_e5m2)
      (True, False)
    """
    kind = readable(dtype)
    return kind.isbuiltin == 1 and kind.kind in "biuf"


class Carried(NamedTuple):
    """What is exported: who acts, where, and from which parameters and memory.

    Attributes:
      family: says what observations and actions are.
      policy: what acts.
      agent: its parameters, and what it remembers at first, of the first trial.
    """

    family: TaskFamily
    policy: Policy
    agent: Agent

    @property
    def params(self) -> Leaves:
        """The parameters by path."""
        return leaves_of(self.agent.params)

    @property
    def memory(self) -> Leaves:
        """The memory by path, ``[1, ...]``."""
        return leaves_of(jax.tree.map(lambda x: x[:1], self.agent.carry))

    @property
    def percept(self) -> Percept:
        """Shapes and types of what one robot sees, ``[1, ...]``."""
        family, key = self.family, jax.random.key(0)

        def blank() -> Percept:
            _, observation = family.reset(family.sample(key), key)
            nothing = jnp.zeros(1, jnp.int32) if family.action.discrete else jnp.zeros((1, family.action.size))
            return Percept(observation[None], nothing, jnp.zeros(1), jnp.ones(1))

        return jax.eval_shape(blank)


def act(carried: Carried) -> Callable[..., tuple[Array, Array, Leaves]]:
    """Acting as a function of flat dicts.

    Returns:
      ``(params, memory, *percept, key) -> (the most likely action, a random one, memory)``.
    """
    policy, agent, wanted = carried.policy, carried.agent, carried.percept.previous_action.dtype

    def function(params: Leaves, memory: Leaves, *rest: Array) -> tuple[Array, Array, Leaves]:
        *percept, key = rest
        given = (_filled(agent.params, params), _filled(agent.carry, memory))
        seen = Percept(*map(_like, percept, carried.percept))
        random, _, dist_params, carry = policy.act(*given, seen, key)
        likely = policy.distribution.mode(dist_params)
        return likely.astype(wanted), random.astype(wanted), _widened(leaves_of(carry))

    return function


def export_act(carried: Carried) -> bytes:
    """:func:`act` for any number of robots, each with a key of two unsigned integers.

    Returns:
      A serialised ``jax.export.Exported``, for CPUs, CUDA GPUs and TPUs.
    """
    (batch,) = export.symbolic_shape("b")

    def of_robot(params: Leaves, memory: Leaves, *rest: Array) -> tuple[Array, Array, Leaves]:
        *percept, key = rest
        alone = jax.tree.map(lambda x: x[None], (memory, percept))
        done = act(carried)(params, alone[0], *alone[1], jax.random.wrap_key_data(key, impl="threefry2x32"))
        return jax.tree.map(lambda x: x[0], done)

    def lanes(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), readable(leaf.dtype))

    seen, memory = jax.tree.map(lanes, (tuple(carried.percept), carried.memory))
    keys = jax.ShapeDtypeStruct((batch, 2), jnp.uint32)
    of_robots = jax.vmap(of_robot, in_axes=(None, *[0] * (len(seen) + 2)))  # so no network meets a symbolic size
    return _serialise(of_robots, _specs(carried.params), memory, *seen, keys)


def export_adapt(carried: Carried, learn: Callable[[PyTree, Episodes], Agent]) -> bytes:
    """Adaptation to recorded episodes, ``k`` units of ``b`` episodes of at most ``t`` steps.

    Args:
      carried: what adapts.
      learn: of the algorithm (:class:`metarl_jax.types.MetaAlgorithm`).

    Returns:
      ``(params, *Episodes) -> (params, memory)``, serialised likewise.
    """
    agent, percept = carried.agent, carried.percept
    k, t, b = export.symbolic_shape("k, t, b")

    def function(params: Leaves, *episodes: Array) -> tuple[Leaves, Leaves]:
        observation, *rest = episodes
        seen = Episodes(_like(observation, percept.observation), *rest)
        adapted = learn(_filled(agent.params, params), seen)
        return _widened(leaves_of(adapted.params)), _widened(leaves_of(adapted.carry))

    data = [  # in the order of the fields of Episodes
        jax.ShapeDtypeStruct((k, t + 1, b, *percept.observation.shape[1:]), readable(percept.observation.dtype)),
        jax.ShapeDtypeStruct((k, t, b, *percept.previous_action.shape[1:]), percept.previous_action.dtype),
        jax.ShapeDtypeStruct((k, t, b), percept.previous_reward.dtype),
        jax.ShapeDtypeStruct((k, b), jnp.int32),
        jax.ShapeDtypeStruct((k, b), percept.done.dtype),
    ]
    return _serialise(function, _specs(carried.params), *data)


def _specs(leaves: Leaves) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(leaf.shape, readable(leaf.dtype)) for name, leaf in leaves.items()}


def _like(x: Array, wanted: Any) -> Array:
    return x.astype(wanted.dtype)


def _filled(tree: PyTree, leaves: Leaves) -> PyTree:
    """The tree with other numbers, of its own types."""
    return jax.tree.map(_like, trees.replace(tree, leaves), tree)


def _widened(leaves: Leaves) -> Leaves:
    return {name: leaf.astype(readable(leaf.dtype)) for name, leaf in leaves.items()}


def _serialise(function: Callable[..., Any], *specs: Any) -> bytes:
    return bytes(export.export(jax.jit(function), platforms=PLATFORMS)(*specs).serialize())
