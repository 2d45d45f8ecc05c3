"""Any policy, seeing observations in units of how they have varied so far."""

from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.ops import trees
from metarl_jax.ops.moments import Moments, add_arrays, no_moments, running_std
from metarl_jax.types import (
    Array,
    Belief,
    Carry,
    Context,
    Key,
    Params,
    Percept,
    Policy,
    PyTree,
    Trajectory,
    require,
)

MOMENTS = "observation_moments"
"""The moments' key among the parameters."""
CLIP = 10.0
"""Standard deviations from the mean beyond which an observation is cut off."""


@checked
def normalised_policy(policy: Policy, observation_shape: tuple[int, ...]) -> Policy:
    """Show a policy ``(observation - mean) / standard deviation``, each number by itself, cut off at :data:`CLIP`.

    Mean and deviation are those of all valid steps of all updates so far, of all tasks and devices, before and after
    adaptation; the first update sees observations as they are, but for that cut. They are parameters that no gradient
    reaches and no step moves, inner or outer: :func:`with_observed` moves them once, at the end of an update. So
    whatever holds parameters holds them: checkpoints, warm starts, exports. Of an image ``[height, width, planes]``
    each plane has one mean and deviation.

    Args:
      policy: any, whose parameters are a dict.
      observation_shape: shape of one observation; privileged numbers are normalised, too.

    Returns:
      The policy, with ``"observation_moments"`` beside its parameters.

    Raises:
      ValueError: if the policy's parameters are no dict, or it counts observations already.

    Example:
      >>> from metarl_jax.networks.mlp import mlp_policy
      >>> from metarl_jax.types import ActionSpec
      >>> policy = normalised_policy(mlp_policy((2,), ActionSpec(3)), (2,))
      >>> params = policy.init(jax.random.key(0))
      >>> policy.observe(params, jnp.array([[1.0, 2.0], [3.0, 2.0]]), jnp.ones(2), None)[MOMENTS].mean.tolist()
      [2.0, 2.0]
    """
    is_blank = policy.observe is None
    require(is_blank, "normalize_observations", True, "this policy counts what it observes by itself: leave this out")
    is_image = len(observation_shape) == 3

    def init(key: Key) -> Params:
        params = policy.init(key)
        remedy = f"the policy's parameters must be a dict, beside whose entries the moments go, not {type(params)}"
        require(isinstance(params, Mapping), "normalize_observations", True, remedy)
        return {**params, MOMENTS: no_moments(observation_shape[-1:] if is_image else observation_shape)}

    def observe(params: Params, observation: Array, mask: Array, axis_name: str | None) -> Params:
        counted: Moments = params[MOMENTS]
        leading = mask.shape + (observation_shape[:-1] if is_image else ())
        counts = jnp.broadcast_to(mask.reshape(*mask.shape, *[1] * (len(leading) - mask.ndim)), leading)
        flat = observation.astype(float).reshape(*leading, counted.mean.size)
        same = Moments(counted.how_many, counted.mean.ravel(), counted.squares.ravel())
        after = add_arrays(same, flat, counts, axis_name)
        return {**params, MOMENTS: jax.tree.map(lambda new, old: new.reshape(old.shape), after, counted)}

    def seen(params: Params, percept: Percept) -> tuple[Params, Percept]:
        observation = _normalise(params[MOMENTS], percept.observation)
        own = {name: part for name, part in params.items() if name != MOMENTS}
        return own, percept._replace(observation=observation)

    def act(params: Params, carry: Carry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, Carry]:
        own, percept = seen(params, percept)
        return policy.act(own, carry, percept, key)

    def evaluate(params: Params, carry: Carry, percept: Percept) -> tuple[PyTree, Array]:
        own, percept = seen(params, percept)
        return policy.evaluate(own, carry, percept)

    def unroll(params: Params, carry: Carry, percept: Percept) -> tuple[PyTree, Array, Carry]:
        own, percept = seen(params, percept)
        assert policy.unroll is not None  # else there is no unroll here
        return policy.unroll(own, carry, percept)

    def from_context(params: Params, context: Context, observation: Array) -> PyTree:
        assert policy.from_context is not None  # else there is no from_context here
        own, outcome = seen(params, context.outcome)
        before, now = (_normalise(params[MOMENTS], x) for x in (context.observation, observation))
        return policy.from_context(own, Context(before, outcome, context.valid), now)

    return policy._replace(
        init=init,
        act=act,
        evaluate=evaluate,
        unroll=None if policy.unroll is None else unroll,
        observe=observe,
        from_context=None if policy.from_context is None else from_context,
        belief=None if policy.belief is None else _normalised_belief(policy.belief, seen),
    )


def _normalised_belief(belief: Belief, seen: Callable[[Params, Percept], tuple[Params, Percept]]) -> Belief:
    """Both halves of a policy with a belief, on what the whole one sees."""

    def infer(params: Params, percept: Percept) -> PyTree:
        return belief.infer(*seen(params, percept))

    def decide(params: Params, percept: Percept, believed: PyTree) -> tuple[PyTree, Array]:
        return belief.decide(*seen(params, percept), believed)

    return belief._replace(infer=infer, decide=decide)


def with_observed(
    policy: Policy, params: Params, trajectories: Iterable[Trajectory], axis_name: str | None = None
) -> Params:
    """The parameters of a policy that has counted these observations, too; as they are if it counts none.

    Args:
      policy: what collected.
      params: after an update's step.
      trajectories: all that was collected, with any leading axes.
      axis_name: mapped device axis, or None.
    """
    if policy.observe is not None:
        for trajectory in trajectories:
            seen = trees.widen(trajectory.percept.observation)
            params = policy.observe(params, seen, trajectory.mask, axis_name)
    return params


def _normalise(moments: Moments, observation: Array) -> Array:
    moments = jax.lax.stop_gradient(moments)
    std = jnp.where(moments.how_many > 0, running_std(moments), 1.0)
    return jnp.clip((observation.astype(float) - moments.mean) / std, -CLIP, CLIP)
