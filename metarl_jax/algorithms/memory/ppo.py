"""PPO on whole trials (Schulman et al., 2017): its settings, the loss of a policy with a memory, its minibatches."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.memory.views import Chunks, EvaluateTrials
from metarl_jax.checks import Traced, checked
from metarl_jax.ops import trees
from metarl_jax.ops.moments import Moments, add_numbers, no_moments, running_std
from metarl_jax.ops.optimise import minimise_over
from metarl_jax.ops.returns import device_weight, masked_mean, normalize, trial_advantage
from metarl_jax.ops.surrogates import clipped_ratio, ratio
from metarl_jax.ops.value_losses import value_error
from metarl_jax.types import (
    Array,
    Carry,
    Distribution,
    Fraction,
    Info,
    Key,
    NonNegativeFloat,
    Params,
    Percept,
    PositiveFloat,
    PositiveInt,
    PyTree,
    Trajectory,
    require,
)

NormalizeAdvantages = Literal["batch", "minibatch"]


class PPO(NamedTuple):
    """The arguments of :func:`make_ppo`, resolved.

    Attributes:
      entropy_weight: ``(finished updates) -> []``.
      chunks: how trials are cut; None: they are not.
    """

    evaluate: EvaluateTrials
    distribution: Distribution
    optimizer: optax.GradientTransformation
    num_epochs: int
    num_minibatches: int
    clip_eps: Array | float
    entropy_weight: optax.Schedule
    critic_coef: Array | float
    huber_delta: Array | float | None
    value_clip_eps: Array | float | None
    discount: Array | float
    gae_lambda: Array | float
    normalize_rewards: bool
    normalize_advantages: NormalizeAdvantages
    chunks: Chunks | None

    def no_moments(self) -> PyTree:
        """The :class:`Moments` of rewards before the first update; ``()`` if they are not normalised."""
        return no_moments() if self.normalize_rewards else ()


@checked
def make_ppo(
    evaluate: EvaluateTrials,
    distribution: Distribution,
    optimizer: optax.GradientTransformation,
    chunks: Chunks | None = None,
    *,
    num_epochs: PositiveInt = 4,
    num_minibatches: PositiveInt = 4,
    clip_eps: Traced[PositiveFloat] = 0.2,
    entropy_coef: Traced[NonNegativeFloat] = 0.01,
    entropy_decay_updates: PositiveInt | None = None,
    critic_coef: Traced[NonNegativeFloat] = 0.5,
    huber_delta: Traced[PositiveFloat] | None = None,
    value_clip_eps: Traced[PositiveFloat] | None = None,
    discount: Traced[Fraction] = 0.99,
    gae_lambda: Traced[Fraction] = 0.95,
    normalize_rewards: bool = False,
    normalize_advantages: NormalizeAdvantages = "batch",
) -> PPO:
    """The settings of PPO on trials, which every method that trains a memory by it takes.

    Args:
      evaluate: the policy's view of whole trials.
      distribution: the policy's.
      optimizer: any optax transformation.
      chunks: the policy's view of chunks of trials, to learn from these; from whole trials if None.
      num_epochs: passes over each batch of data.
      num_minibatches: optimiser steps per pass, each on its share of this device's trials, or chunks of trials;
        shuffled.
      clip_eps: half-width of the interval the ratio is clipped to.
      entropy_coef: weight of the entropy bonus, per nat.
      entropy_decay_updates: over so many updates the weight falls linearly to zero; constant if left out.
      critic_coef: weight of the critic's error.
      huber_delta: an error of the critic beyond it costs in proportion to its size, so that outliers have a bounded
        gradient, not to its square; all errors cost their square if left out.
      value_clip_eps: no gradient leads the critic further than this from what it predicted when the data were
        collected; no limit if left out.
      discount: reward discount per step, across episodes too.
      gae_lambda: trace decay of the advantage estimates; 1 is Monte Carlo.
      normalize_rewards: in the loss, divide rewards by the running standard deviation of the discounted return, so
        that the critic has to predict numbers near 1; the policy sees rewards as they are.
      normalize_advantages: to mean 0 and standard deviation 1 over all steps of an update (``batch``), or over those of
        each optimiser step (``minibatch``).

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
        huber_delta=huber_delta,
        value_clip_eps=value_clip_eps,
        discount=discount,
        gae_lambda=gae_lambda,
        normalize_rewards=normalize_rewards,
        normalize_advantages=normalize_advantages,
        chunks=chunks,
    )


class Columns(NamedTuple):
    """Steps side by side as the loss takes them, of trials ``[T, N]`` or of chunks ``[L, C N]``; constants.

    Attributes:
      percept: and the next three as in :class:`Trajectory`.
      action: of each step.
      log_prob: under the parameters that collected.
      mask: 1.0 at the steps that count.
      advantage: across episodes.
      value_target: the return that the critic is fitted to.
      value: under the parameters that collected.
      carry: ``[N, ...]`` what these remembered before the first step; None: nothing.
    """

    percept: Percept
    action: Array
    log_prob: Array
    mask: Array
    advantage: Array
    value_target: Array
    value: Array
    carry: Carry | None


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
    columns = _score(settings, params, trials, reward, axis_name)
    loss = ppo_loss(settings, settings.entropy_weight(step), axis_name)
    params, opt_state, infos = minimise_over(
        lambda params, chosen: jax.value_and_grad(loss, has_aux=True)(params, take_columns(columns, chosen)),
        params,
        opt_state,
        settings.optimizer,
        minibatch_indices(key, columns.mask.shape[1], settings.num_epochs, settings.num_minibatches),
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


def _score(settings: PPO, params: Params, trials: Trajectory, reward: Array, axis_name: str | None) -> Columns:
    """Trials with advantages that reach across their episodes, gradients stopped; cut into chunks if so asked."""
    carries = None
    if settings.chunks is None:
        _, value = settings.evaluate(params, trials.percept)
    else:
        value, carries = settings.chunks.recall(params, trials.percept)
    advantage = trial_advantage(reward, value, trials.mask, settings.discount, settings.gae_lambda)
    target = advantage + value
    if settings.normalize_advantages == "batch":
        advantage = normalize(advantage, trials.mask, axis_name)
    columns = Columns(trials.percept, trials.action, trials.log_prob, trials.mask, advantage, target, value, carry=None)
    return jax.lax.stop_gradient(columns if carries is None else _cut(columns, carries))


def _cut(trials: Columns, carries: Carry) -> Columns:
    """Chunks side by side: ``[T, N] -> [T / C, C N]``, each with its carry, of ``[C, N, ...]``."""
    num_chunks = jax.tree.leaves(carries)[0].shape[0]

    def chunks(x: Array) -> Array:
        apart = x.reshape(num_chunks, -1, *x.shape[1:])
        return jnp.moveaxis(apart, 1, 0).reshape(apart.shape[1], -1, *x.shape[2:])

    carry = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), carries)
    return jax.tree.map(chunks, trials)._replace(carry=carry)


def take_columns(columns: Columns, chosen: Array) -> Columns:
    """Some of the columns; ``[T, N, ...] -> [T, len(chosen), ...]``.

    Example:
      >>> columns = Columns(*7 * [jnp.zeros((5, 3))], carry=jnp.zeros((3, 4)))
      >>> jax.tree.map(jnp.shape, take_columns(columns, jnp.array([2, 0])))[-2:]
      ((5, 2), (2, 4))
    """
    carry = jax.tree.map(lambda x: x[chosen], columns.carry)
    return jax.tree.map(lambda x: x[:, chosen], columns._replace(carry=None))._replace(carry=carry)


def ppo_loss(
    settings: PPO, entropy_coef: Array | float, axis_name: str | None = None
) -> Callable[[Params, Columns], tuple[Array, Info]]:
    """``clipped surrogate + critic_coef mean value_error - entropy_coef mean H`` (Schulman et al., 2017).

    Args:
      settings: of :func:`make_ppo`.
      entropy_coef: weight of the entropy bonus.
      axis_name: mapped device axis, or None. Loss, info and gradient are such that their average over devices is that
        of all devices' trials, however many valid steps each of them has.

    Returns:
      ``(params, columns) -> (loss [], info)``.
    """

    def loss(params: Params, sampled: Columns) -> tuple[Array, Info]:
        if settings.chunks is None:
            dist_params, value = settings.evaluate(params, sampled.percept)
        else:
            dist_params, value = settings.chunks.evaluate(params, sampled.carry, sampled.percept)
        log_prob = settings.distribution.log_prob(dist_params, sampled.action)
        advantage = sampled.advantage
        if settings.normalize_advantages == "minibatch":
            advantage = normalize(advantage, sampled.mask, axis_name)
        surrogate = clipped_ratio(log_prob, sampled.log_prob, advantage, sampled.mask, settings.clip_eps)
        errors = value_error(value, sampled.value_target, sampled.value, settings.huber_delta, settings.value_clip_eps)
        value_loss = masked_mean(errors, sampled.mask)
        entropy = masked_mean(settings.distribution.entropy(dist_params), sampled.mask)
        weight = device_weight(sampled.mask, axis_name)
        error = jnp.max(jnp.abs(ratio(jax.lax.stop_gradient(log_prob), sampled.log_prob, sampled.mask) - 1.0))
        info = {"value_loss": weight * value_loss, "outer_ratio_error": trees.pmax(error, axis_name)}
        return weight * (surrogate + settings.critic_coef * value_loss - entropy_coef * entropy), info

    return loss


def minibatch_indices(key: Key, num_columns: int, num_epochs: int, num_minibatches: int) -> Array:
    """Which trials, or chunks of them, each optimiser step sees: every epoch all once, in an order of its own.

    Args:
      key: one key; epoch ``e`` is shuffled by ``fold_in(key, e)``.
      num_columns: ``N``.
      num_epochs: passes over the data.
      num_minibatches: steps per pass.

    Returns:
      ``[num_epochs * num_minibatches, N / num_minibatches]``.

    Raises:
      ValueError: if ``num_minibatches`` does not divide them.

    Example:
      >>> minibatch_indices(jax.random.key(0), 6, 2, 3).shape
      (6, 2)
    """
    require(
        num_columns % num_minibatches == 0,
        "num_minibatches",
        num_minibatches,
        f"must divide the {num_columns} trials of each device (its tasks times training.episodes_per_task), "
        "or chunks of them",
    )
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(num_epochs))
    orders = jax.vmap(lambda key: jax.random.permutation(key, num_columns))(keys)
    return orders.reshape(num_epochs * num_minibatches, -1)
