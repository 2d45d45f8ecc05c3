"""PPO on whole trials (Schulman et al., 2017): its settings, the loss of a policy with a memory, its minibatches."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.memory.core import EvaluateTrials, take_trials
from metarl_jax.checks import Traced, checked
from metarl_jax.ops import trees
from metarl_jax.ops.moments import Moments, add_numbers, no_moments, running_std
from metarl_jax.ops.optimise import minimise_over
from metarl_jax.ops.returns import device_weight, masked_mean, normalize, trial_advantage
from metarl_jax.ops.surrogates import clipped_ratio, ratio
from metarl_jax.types import (
    Array,
    Batch,
    Distribution,
    Fraction,
    Info,
    Key,
    NonNegativeFloat,
    Params,
    PositiveFloat,
    PositiveInt,
    PyTree,
    Trajectory,
    require,
)


class PPO(NamedTuple):
    """The arguments of :func:`make_ppo`, resolved.

    Attributes:
      entropy_weight: ``(finished updates) -> []``.
    """

    evaluate: EvaluateTrials
    distribution: Distribution
    optimizer: optax.GradientTransformation
    num_epochs: int
    num_minibatches: int
    clip_eps: Array | float
    entropy_weight: optax.Schedule
    critic_coef: Array | float
    discount: Array | float
    gae_lambda: Array | float
    normalize_rewards: bool

    def no_moments(self) -> PyTree:
        """The :class:`Moments` of rewards before the first update; ``()`` if they are not normalised."""
        return no_moments() if self.normalize_rewards else ()


@checked
def make_ppo(
    evaluate: EvaluateTrials,
    distribution: Distribution,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: PositiveInt = 4,
    num_minibatches: PositiveInt = 4,
    clip_eps: Traced[PositiveFloat] = 0.2,
    entropy_coef: Traced[NonNegativeFloat] = 0.01,
    entropy_decay_updates: PositiveInt | None = None,
    critic_coef: Traced[NonNegativeFloat] = 0.5,
    discount: Traced[Fraction] = 0.99,
    gae_lambda: Traced[Fraction] = 0.95,
    normalize_rewards: bool = False,
) -> PPO:
    """The settings of PPO on trials, which every method that trains a memory by it takes.

    Args:
      evaluate: the policy's view of whole trials.
      distribution: the policy's.
      optimizer: any optax transformation.
      num_epochs: passes over each batch of data.
      num_minibatches: optimiser steps per pass, each on its share of this device's trials; whole trials, shuffled.
      clip_eps: half-width of the interval the ratio is clipped to.
      entropy_coef: weight of the entropy bonus, per nat.
      entropy_decay_updates: over so many updates the weight falls linearly to zero; constant if left out.
      critic_coef: weight of the critic's squared error.
      discount: reward discount per step, across episodes too.
      gae_lambda: trace decay of the advantage estimates; 1 is Monte Carlo.
      normalize_rewards: in the loss, divide rewards by the running standard deviation of the discounted return, so
        that the critic has to predict numbers near 1; the policy sees rewards as they are.

    Example:
      >>> from metarl_jax.ops.distributions import categorical
      >>> settings = make_ppo(lambda params, percept: (percept, percept.done), categorical(), optax.adam(1e-3))
      >>> settings.num_epochs, settings.no_moments()
      (4, ())
    """
    entropy_weight = optax.constant_schedule(entropy_coef)
    if entropy_decay_updates is not None:
        entropy_weight = optax.linear_schedule(entropy_coef, 0.0, entropy_decay_updates)
    return PPO(
        evaluate=evaluate,
        distribution=distribution,
        optimizer=optimizer,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
        clip_eps=clip_eps,
        entropy_weight=entropy_weight,
        critic_coef=critic_coef,
        discount=discount,
        gae_lambda=gae_lambda,
        normalize_rewards=normalize_rewards,
    )


def ppo_epochs(
    settings: PPO,
    params: Params,
    opt_state: PyTree,
    moments: PyTree,
    trials: Trajectory,
    key: Key,
    step: Array,
    axis_name: str | None = None,
) -> tuple[Params, PyTree, PyTree, Info]:
    """Score the trials, then PPO's epochs over minibatches of them.

    Args:
      settings: of :func:`make_ppo`.
      params: those that collected the trials.
      opt_state: of ``settings.optimizer``.
      moments: ``settings.no_moments()`` at first, then what the update before returned.
      trials: of this device, ``[T, N, ...]``.
      key: shuffles them.
      step: ``[]`` finished updates.
      axis_name: mapped device axis, or None.

    Returns:
      Parameters, optimiser state, moments, and the first step's info, where the policy is still the one that collected.
    """
    reward = trials.reward
    if settings.normalize_rewards:
        reward, moments = _normalize_rewards(trials, settings.discount, moments, axis_name)
    batch = _score(settings, params, trials, reward, axis_name)
    loss = ppo_loss(
        settings.evaluate,
        settings.distribution,
        settings.clip_eps,
        settings.entropy_weight(step),
        settings.critic_coef,
        axis_name,
    )
    params, opt_state, infos = minimise_over(
        lambda params, chosen: jax.value_and_grad(loss, has_aux=True)(params, take_trials(batch, chosen)),
        params,
        opt_state,
        settings.optimizer,
        minibatch_indices(key, trials.reward.shape[1], settings.num_epochs, settings.num_minibatches),
        axis_name,
    )
    return params, opt_state, moments, jax.tree.map(lambda x: x[0], infos)


def _normalize_rewards(
    trials: Trajectory, discount: Array | float, moments: Moments, axis_name: str | None
) -> tuple[Array, Moments]:
    """Rewards in units of the running standard deviation of the discounted return, and its new moments."""
    to_come = trial_advantage(trials.reward, jnp.zeros_like(trials.reward), trials.mask, discount, 1.0)
    moments = add_numbers(moments, to_come, trials.mask, axis_name)
    return trials.reward / running_std(moments), moments


def _score(settings: PPO, params: Params, trials: Trajectory, reward: Array, axis_name: str | None) -> Batch:
    """Trials with advantages that reach across their episodes, gradients stopped."""
    _, value = settings.evaluate(params, trials.percept)
    advantage = trial_advantage(reward, value, trials.mask, settings.discount, settings.gae_lambda)
    batch = Batch(trials, normalize(advantage, trials.mask, axis_name), advantage + value)
    return jax.lax.stop_gradient(batch)


def ppo_loss(
    evaluate: EvaluateTrials,
    distribution: Distribution,
    clip_eps: Array | float,
    entropy_coef: Array | float,
    critic_coef: Array | float,
    axis_name: str | None = None,
) -> Callable[[Params, Batch], tuple[Array, Info]]:
    """``clipped surrogate + critic_coef mean (V - target)^2 - entropy_coef mean H`` (Schulman et al., 2017).

    Args:
      evaluate: the policy on whole trials.
      distribution: the policy's.
      clip_eps: half-width of the ratio's interval.
      entropy_coef: weight of the entropy bonus.
      critic_coef: weight of the critic's squared error.
      axis_name: mapped device axis, or None. Loss, info and gradient are such that their average over devices is that
        of all devices' trials, however many valid steps each of them has.

    Returns:
      ``(params, batch [T, N]) -> (loss [], info)``.
    """

    def loss(params: Params, batch: Batch) -> tuple[Array, Info]:
        sampled = batch.trajectory
        dist_params, value = evaluate(params, sampled.percept)
        log_prob = distribution.log_prob(dist_params, sampled.action)
        surrogate = clipped_ratio(log_prob, sampled.log_prob, batch.advantage, sampled.mask, clip_eps)
        value_loss = masked_mean(jnp.square(value - batch.value_target), sampled.mask)
        entropy = masked_mean(distribution.entropy(dist_params), sampled.mask)
        weight = device_weight(sampled.mask, axis_name)
        error = jnp.max(jnp.abs(ratio(jax.lax.stop_gradient(log_prob), sampled.log_prob, sampled.mask) - 1.0))
        info = {"value_loss": weight * value_loss, "outer_ratio_error": trees.pmax(error, axis_name)}
        return weight * (surrogate + critic_coef * value_loss - entropy_coef * entropy), info

    return loss


def minibatch_indices(key: Key, num_trials: int, num_epochs: int, num_minibatches: int) -> Array:
    """Which trials each optimiser step sees: every epoch all of them once, in an order of its own.

    Args:
      key: one key; epoch ``e`` is shuffled by ``fold_in(key, e)``.
      num_trials: ``N``.
      num_epochs: passes over the data.
      num_minibatches: steps per pass.

    Returns:
      ``[num_epochs * num_minibatches, N / num_minibatches]``.

    Raises:
      ValueError: if ``num_minibatches`` does not divide ``num_trials``.

    Example:
      >>> minibatch_indices(jax.random.key(0), 6, 2, 3).shape
      (6, 2)
    """
    require(
        num_trials % num_minibatches == 0,
        "num_minibatches",
        num_minibatches,
        f"must divide the {num_trials} trials of each device (its tasks times training.episodes_per_task)",
    )
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(num_epochs))
    orders = jax.vmap(lambda key: jax.random.permutation(key, num_trials))(keys)
    return orders.reshape(num_epochs * num_minibatches, -1)
