"""What a latent is asked to tell of its trial: the reward of every step and, if asked for, where it leads."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.inference.decoders import Form, make_decoder
from metarl_jax.algorithms.inference.replay import Experience
from metarl_jax.networks.memoryless import num_public
from metarl_jax.types import ActionSpec, Array, Key, Params, TaskFamily

RewardModel = Literal["gaussian", "bernoulli"]
Given = Literal["state", "action", "next_state"]


class Steps(NamedTuple):
    """Steps of trials, to be told; ``[S, N, ...]``.

    Attributes:
      state: ``[S, N, n]``, flat.
      action: ``[S, N, k]``; one-hot if discrete.
      next_state: ``[S, N, n]``.
      reward: ``[S, N]``.
      counts: ``[S, N]`` 1.0 at the steps that count.
      is_last: ``[S, N]`` 1.0 where the next state is not known, since the next episode begins.
    """

    state: Array
    action: Array
    next_state: Array
    reward: Array
    counts: Array
    is_last: Array


def steps_of(experience: Experience, action: ActionSpec) -> Steps:
    """All steps of trials; ``[T, N, ...]``.

    Args:
      experience: the trials.
      action: what a task takes.
    """
    percept, mask = experience
    observation = percept.observation.reshape(*percept.done.shape, -1).astype(mask.dtype)
    taken = percept.previous_action[1:]
    return Steps(
        state=observation[:-1],
        action=jax.nn.one_hot(taken, action.size, dtype=mask.dtype) if action.discrete else taken,
        next_state=observation[1:],
        reward=percept.previous_reward[1:],
        counts=mask,
        is_last=percept.done[1:],
    )


class Model(NamedTuple):
    """What tells steps, given a latent.

    Attributes:
      init: ``(key) -> params``.
      errors: ``(params, latent [K, N, l], steps [S, N, ...]) -> errors``, each ``[K, S, N]``, by name: the negative
        log-likelihood up to a constant; 0 for steps that do not count.
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
    reward_given: tuple[Given, ...],
    transition_coef: Array | float | None,
) -> Model:
    """Decoders of the reward and, with a weight, of the transition.

    Args:
      family: of the tasks.
      latent_size: ``l``.
      form: of the decoders' networks.
      hidden_sizes: widths of their layers.
      reward_model: ``gaussian``: squared error; ``bernoulli``: whether the reward is positive.
      reward_given: what the decoder of the reward is given of a step, beside the latent.
      transition_coef: weight of the mean squared error of the next state, given state and action; None: not decoded.
    """
    size = num_public(family.observation_shape, family.privileged_size)
    sizes = {"state": size, "action": family.action.size, "next_state": size}
    given = {"reward": reward_given} if transition_coef is None else {"reward": reward_given, "transition": _BEFORE}
    decoders = {
        name: make_decoder(
            form, latent_size, sum(sizes[part] for part in parts), 1 if name == "reward" else size, hidden_sizes
        )
        for name, parts in given.items()
    }

    def init(key: Key) -> Params:
        keys = jax.random.split(key, len(decoders))
        return {name: decoder.init(key) for (name, decoder), key in zip(decoders.items(), keys, strict=True)}

    def errors(params: Params, latent: Array, steps: Steps) -> dict[str, Array]:
        def told(name: str) -> Array:
            shown = jnp.concatenate([getattr(steps, part)[..., : sizes[part]] for part in given[name]], axis=-1)
            return decoders[name].decode(params[name], latent, shown)

        known = steps.counts * (1.0 - steps.is_last)
        counts = known if "next_state" in reward_given else steps.counts
        found = {"reward": counts * _reward_error(reward_model, told("reward")[..., 0], steps.reward)}
        if transition_coef is not None:
            missed = jnp.mean(jnp.square(told("transition") - steps.next_state[..., :size]), axis=-1)
            found["transition"] = transition_coef * known * missed
        return found

    return Model(init, errors)


_BEFORE: tuple[Given, ...] = ("state", "action")


def _reward_error(model: RewardModel, output: Array, reward: Array) -> Array:
    if model == "bernoulli":
        return optax.sigmoid_binary_cross_entropy(output, (reward > 0).astype(output.dtype))
    return jnp.square(output - reward)
