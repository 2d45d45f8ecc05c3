"""Any policy of discrete actions, kept to those that are valid."""

from collections.abc import Callable

import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.types import ActionSpec, Array, Carry, Key, Params, Percept, Policy, PyTree, require

INVALID = -1e9
"""The logit of an invalid action: its probability is 0, and all that is computed of it finite, derivatives too."""


@checked
def masked_policy(policy: Policy, action: ActionSpec, valid_actions: Callable[[Array], Array]) -> Policy:
    """Give the actions that an observation does not allow the logit :data:`INVALID` (Huang and Ontanon, 2022).

    They are never sampled nor the mode, take no part in entropy and divergences, and their own logits get no gradient.
    Where no action is valid, all are as likely.

    Args:
      policy: of discrete actions, whose ``dist_params`` are logits ``[..., n]``.
      action: what the task takes.
      valid_actions: ``(observation [..., *observation_shape]) -> [..., n]`` booleans; a family's own. It is shown what
        the family shows: mask a policy last, after :func:`metarl_jax.networks.normalised_policy`.

    Raises:
      ValueError: if actions are continuous, or, when an observation is looked at, there are not ``n`` booleans.

    Example:
      >>> import jax
      >>> from metarl_jax.networks.mlp import mlp_policy
      >>> spec = ActionSpec(3, discrete=True)
      >>> policy = masked_policy(mlp_policy((3,), spec), spec, lambda observation: observation > 0)
      >>> percept = Percept(jnp.array([[0.0, 1.0, 0.0]]), jnp.zeros(1, int), jnp.zeros(1), jnp.ones(1))
      >>> policy.act(policy.init(jax.random.key(0)), (), percept, jax.random.key(1))[0].tolist()
      [1]
    """
    remedy = "valid_actions says which of several actions are valid: leave it out where they are continuous"
    require(action.discrete, "action.discrete", action.discrete, remedy)
    distribution = policy.distribution

    def mask(logits: Array, percept: Percept) -> Array:
        valid = valid_actions(percept.observation)
        wanted = f"valid_actions must tell of each of {action.size} actions: {logits.shape} booleans"
        require(valid.shape == logits.shape, "valid_actions(observation).shape", valid.shape, wanted)
        return jnp.where(valid, logits, INVALID)

    def act(params: Params, carry: Carry, percept: Percept, key: Key) -> tuple[Array, Array, PyTree, Carry]:
        *_, logits, carry = policy.act(params, carry, percept, key)
        masked = mask(logits, percept)
        chosen = distribution.sample(masked, key)
        return chosen, distribution.log_prob(masked, chosen), masked, carry

    def evaluate(params: Params, carry: Carry, percept: Percept) -> tuple[PyTree, Array]:
        logits, value = policy.evaluate(params, carry, percept)
        return mask(logits, percept), value

    def unroll(params: Params, carry: Carry, percept: Percept) -> tuple[PyTree, Array, Carry]:
        assert policy.unroll is not None  # else there is no unroll here
        logits, value, carry = policy.unroll(params, carry, percept)
        return mask(logits, percept), value, carry

    def decide(params: Params, percept: Percept, believed: PyTree) -> tuple[PyTree, Array]:
        assert policy.belief is not None  # else there is no decide here
        logits, value = policy.belief.decide(params, percept, believed)
        return mask(logits, percept), value

    return policy._replace(
        act=act,
        evaluate=evaluate,
        unroll=None if policy.unroll is None else unroll,
        belief=None if policy.belief is None else policy.belief._replace(decide=decide),
    )
