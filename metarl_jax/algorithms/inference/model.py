"""What a latent is asked to tell of its trial: the reward of every step and, if asked for, where it leads."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.inference.decoders import Decoder, Form, make_decoder
from metarl_jax.algorithms.inference.replay import Experience
from metarl_jax.types import ActionSpec, Array, Key, Params, TaskFamily

RewardModel = Literal["gaussian", "bernoulli"]
Shown = Literal["state", "action", "next_state"]


class Steps(NamedTuple):
    """Steps to be told, ``[S, N, ...]``.

    Attributes:
      state: ``[S, N, n]``, flat.
      action: ``[S, N, k]``; one-hot if discrete.
      next_state: ``[S, N, n]``.
      reward: ``[S, N]``.
      counts: ``[S, N]`` 1.0 for steps that count.
      is_last: ``[S, N]`` 1.0 where the next state is not known, since another episode has begun.
    """

    state: Array
    action: Array
    next_state: Array
    reward: Array
    counts: Array
    is_last: Array


def steps_of(experience: Experience, action: ActionSpec) -> Steps:
    """All steps of trials; ``[T, N, ...]``."""
    percept, mask = experience
    observation = percept.observation.reshape(*percept.done.shape, -1).astype(float)
    taken = percept.previous_action[1:]
    return Steps(
        state=observation[:-1],
        action=jax.nn.one_hot(taken, action.size) if action.discrete else taken,
        next_state=observation[1:],
        reward=percept.previous_reward[1:],
        counts=mask,
        is_last=percept.done[1:],
    )


class Model(NamedTuple):
    """What tells steps, given a latent.

    Attributes:
      init: ``(key) -> params``.
      errors: ``(params, latent [K, N, l], steps [S, N, ...]) -> errors``, each ``[K, S, N]`` by name: the negative
        log-likelihood, up to a constant, and 0 for steps that do not count.
    """

    init: Callable[[Key], Params]
    errors: Callable[[Params, Array, Steps], dict[str, Array]]


def make_model(
    family: TaskFamily,
    latent_size: int,
    *,
    form: Form,
    hidden_sizes: tuple[int, ...],
    reward_model: RewardModel,
    reward_given: tuple[Shown, ...],
    transition_coef: Array | float | None,
) -> Model:
    """Decoders of the reward and, with a weight, of the transition.

    Args:
      family: of the tasks.
      latent_size: ``l``.
      form: of the decoders' networks.
      hidden_sizes: their widths.
      reward_model: ``gaussian``: squared error; ``bernoulli``: whether the reward is positive.
      reward_given: what the decoder of the reward sees of a step.
      transition_coef: weight of the mean squared error of the next state, given state and action; None: not decoded.
    """
    size = int(jnp.prod(jnp.asarray(family.observation_shape)))
    sizes = {"state": size, "action": family.action.size, "next_state": size}
    reward_size = sum(sizes[name] for name in reward_given)
    decoders = {"reward": make_decoder(form, latent_size, reward_size, 1, hidden_sizes)}
    if transition_coef is not None:
        decoders["transition"] = make_decoder(form, latent_size, size + family.action.size, size, hidden_sizes)

    def init(key: Key) -> Params:
        keys = jax.random.split(key, len(decoders))
        return {name: decoder.init(key) for (name, decoder), key in zip(decoders.items(), keys, strict=True)}

    def told(params: Params, name: str, latent: Array, steps: Steps, given: tuple[str, ...]) -> Array:
        shown = jnp.concatenate([getattr(steps, part) for part in given], axis=-1)
        return decoders[name].decode(params[name], latent, shown)

    def errors(params: Params, latent: Array, steps: Steps) -> dict[str, Array]:
        reward = told(params, "reward", latent, steps, reward_given)[..., 0]
        known = steps.counts * (1.0 - steps.is_last)
        found = {"reward": _reward_error(reward_model, reward, steps.reward)}
        found["reward"] *= known if "next_state" in reward_given else steps.counts
        if transition_coef is not None:
            next_state = told(params, "transition", latent, steps, ("state", "action"))
            found["transition"] = transition_coef * known * jnp.mean(jnp.square(next_state - steps.next_state), axis=-1)
        return found

    return Model(init, errors)


def _reward_error(model: RewardModel, output: Array, reward: Array) -> Array:
    if model == "bernoulli":
        return optax.sigmoid_binary_cross_entropy(output, (reward > 0).astype(output.dtype))
    return jnp.square(output - reward)
