"""What a latent is asked to tell of its trial: every step's reward, where it leads, and what the task is."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.inference.decoders import Form, make_decoder
from metarl_jax.algorithms.inference.replay import Experience
from metarl_jax.networks.memoryless import num_public
from metarl_jax.types import ActionSpec, Array, Key, Params, TaskFamily, require

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


class Weights(NamedTuple):
    """Weight of each decoder's error at each step; None: there is no such decoder.

    Attributes:
      reward: of the step's reward.
      transition: of the next state, given state and action; the mean over its numbers.
      task: of the task, given the latent alone; the mean over its numbers.
    """

    reward: Array | float | None = 1.0
    transition: Array | float | None = None
    task: Array | float | None = None


def make_model(
    family: TaskFamily,
    latent_size: int,
    *,
    form: Form,
    hidden_sizes: tuple[int, ...],
    reward_model: RewardModel,
    reward_given: tuple[Given, ...],
    weights: Weights,
) -> Model:
    """Decoders of what has a weight.

    Args:
      family: of the tasks.
      latent_size: ``l``.
      form: of the decoders' networks.
      hidden_sizes: widths of their layers.
      reward_model: ``gaussian``: squared error; ``bernoulli``: whether the reward is positive.
      reward_given: what the decoder of the reward is given of a step, beside the latent.
      weights: of the errors, which but for ``bernoulli`` are squared.

    Raises:
      ValueError: if nothing has a weight, or the task has one and the value does not see it.
    """
    given = {name: weight for name, weight in weights._asdict().items() if weight is not None}
    remedy = "the value has to see the task that is to be told: set tasks.critic_oracle to true"
    require("task" not in given or family.task_size > 0, "task_coef", weights.task, remedy)
    require(bool(given), "reward_coef", weights.reward, "a belief about nothing is none: give it, or another, a weight")
    size = num_public(family.observation_shape, family.privileged_size)
    sizes = {"state": size, "action": family.action.size, "next_state": size}
    told = {
        "reward": _Told(reward_given, 1, partial(_reward_error, reward_model, "next_state" in reward_given)),
        "transition": _Told(("state", "action"), size, partial(_transition_error, size)),
        "task": _Told((), family.task_size, _task_error),
    }
    decoders = {
        name: make_decoder(
            form, latent_size, sum(sizes[part] for part in told[name].given), told[name].num_outputs, hidden_sizes
        )
        for name in given
    }

    def init(key: Key) -> Params:
        keys = jax.random.split(key, len(decoders))
        return {name: decoder.init(key) for (name, decoder), key in zip(decoders.items(), keys, strict=True)}

    def errors(params: Params, latent: Array, steps: Steps) -> dict[str, Array]:
        def error(name: str) -> Array:
            parts = [getattr(steps, part)[..., : sizes[part]] for part in told[name].given]
            shown = jnp.concatenate([steps.state[..., :0], *parts], axis=-1)
            return told[name].error(decoders[name].decode(params[name], latent, shown), steps)

        return {name: weight * error(name) for name, weight in given.items()}

    return Model(init, errors)


class _Told(NamedTuple):
    """What is told from which parts of a step; ``error`` is ``(output [K, S, N, o], steps) -> [K, S, N]``."""

    given: tuple[Given, ...]
    num_outputs: int
    error: Callable[[Array, Steps], Array]


def _reward_error(model: RewardModel, needs_next: bool, output: Array, steps: Steps) -> Array:
    counts, output = _known(steps) if needs_next else steps.counts, output[..., 0]
    if model == "bernoulli":
        return counts * optax.sigmoid_binary_cross_entropy(output, (steps.reward > 0).astype(output.dtype))
    return counts * jnp.square(output - steps.reward)


def _transition_error(size: int, output: Array, steps: Steps) -> Array:
    return _known(steps) * jnp.mean(jnp.square(output - steps.next_state[..., :size]), axis=-1)


def _task_error(output: Array, steps: Steps) -> Array:
    return steps.counts * jnp.mean(jnp.square(output - steps.state[..., -output.shape[-1] :]), axis=-1)


def _known(steps: Steps) -> Array:
    """1.0 at the steps that count and whose next state is known."""
    return steps.counts * (1.0 - steps.is_last)
