"""An agent that acts one step at a time, in an environment that somebody else steps."""

from functools import partial

import jax
import jax.numpy as jnp

from metarl_jax.collect.rollout import by_mode
from metarl_jax.types import Agent, Array, Carry, Key, Params, Percept, Policy, TaskFamily, require


class Actor:
    """An adapted agent with a memory that is carried for the user: the only object of this package that changes.

    Actions are the policy's, as in a :class:`metarl_jax.types.Trajectory`: what ``family.step`` takes, before the
    family scales and clips them. Observations come one at a time, or ``[B, ...]`` for ``B`` episodes side by side, as
    they do at the first call; each has a memory of its own, which starts as the first trial of adaptation left it.

    Args:
      family: says what observations and actions are.
      policy: what acts.
      agent: what ``algorithm.adapt`` returned; ``Agent(params, policy.initial_carry(1))`` has not adapted.
      key: draws the actions; in the first episode those of :func:`metarl_jax.rollout` with this key.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn()
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> adapted = Agent(policy.init(jax.random.key(0)), policy.initial_carry(1))
      >>> agent = Actor(family, policy, adapted, jax.random.key(1))
      >>> agent.act([0.1, -0.2], deterministic=True).shape
      (2,)
      >>> agent.observe(reward=-0.5)
    """

    def __init__(self, family: TaskFamily, policy: Policy, agent: Agent, key: Key) -> None:
        self._family, self._policy, self._agent = family, policy, agent
        self._key = jax.random.split(key)[1]
        self._num_steps = 0
        self._shape: tuple[int, ...] | None = None  # of observations, from the first on
        self._last: Percept | None = None  # what the next action is shown beside its observation
        self._carry: Carry = ()
        self._knows_reward = True

    def act(self, observation: Array, *, deterministic: bool = False) -> Array:
        """The next action.

        Args:
          observation: ``[*observation_shape]``, or ``[B, *observation_shape]``.
          deterministic: take the most likely action (:class:`metarl_jax.types.Distribution`) instead of a sampled one.

        Returns:
          ``[action_size]`` or, discrete, ``[]``; with a leading axis ``B`` if observations have one.

        Raises:
          ValueError: if the shape is another, or a policy with a memory was not told what its last action earned.
        """
        observation = jnp.asarray(observation)
        is_single = observation.ndim == len(self._family.observation_shape)
        lanes = observation[None] if is_single else observation
        if self._last is None:
            self._begin(lanes)
            self._shape = observation.shape
        require(
            observation.shape == self._shape, "observation.shape", observation.shape, f"it was {self._shape} before"
        )
        require(
            self._knows_reward, "reward", None, "this policy remembers rewards: call observe(reward, done) after act"
        )
        assert self._last is not None
        key, _ = jax.random.split(jax.random.fold_in(self._key, self._num_steps))
        percept = self._last._replace(observation=lanes)
        action, self._carry = _act(self._policy, deterministic, self._agent.params, self._carry, percept, key)
        self._last = Percept(lanes, action, jnp.zeros(len(lanes)), jnp.zeros(len(lanes)))
        self._num_steps += 1
        self._knows_reward = not jax.tree.leaves(self._carry)
        return action[0] if is_single else action

    def observe(self, reward: Array | float, done: Array | bool = False) -> None:
        """Tell what the last action earned; policies without a memory do not need to know.

        Args:
          reward: one number, or ``[B]``.
          done: whether the episode is over, so that the next observation is the first of another one; likewise.

        Raises:
          ValueError: if there was no action yet, or the shape is neither.
        """
        require(self._last is not None, "reward", reward, "there was no action that could earn it: call act first")
        assert self._last is not None
        shape = self._last.previous_reward.shape
        for name, value in (("reward", reward), ("done", done)):
            require(jnp.shape(value) in ((), shape), name, value, f"give one number, or {shape[0]} of them")
        earned, is_over = (jnp.broadcast_to(jnp.asarray(value, float), shape) for value in (reward, done))
        self._last = self._last._replace(previous_reward=earned, done=is_over)
        self._knows_reward = True

    def _begin(self, lanes: Array) -> None:
        """Nothing done yet, and what adaptation left in memory for everyone."""
        shape, action, num_lanes = self._family.observation_shape, self._family.action, len(lanes)
        remedy = f"give {shape}, or several with one axis before"
        require(lanes.shape[1:] == shape, "observation.shape", lanes.shape, remedy)
        nothing = jnp.zeros(num_lanes, jnp.int32) if action.discrete else jnp.zeros((num_lanes, action.size))
        self._last = Percept(lanes, nothing, jnp.zeros(num_lanes), jnp.ones(num_lanes))
        self._carry = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], (num_lanes, *x.shape[1:])), self._agent.carry)


@partial(jax.jit, static_argnums=(0, 1))
def _act(
    policy: Policy, deterministic: bool, params: Params, carry: Carry, percept: Percept, key: Key
) -> tuple[Array, Carry]:
    action, _, _, carry = (by_mode(policy) if deterministic else policy).act(params, carry, percept, key)
    return action, carry
