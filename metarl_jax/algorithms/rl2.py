"""RL^2: a recurrent policy learns to learn across the episodes of a trial (Duan et al., 2016), trained by PPO."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.gradient_based import collect_chunk
from metarl_jax.algorithms.memory_based import EvaluateTrials, make_evaluate, memory_based, take_trials
from metarl_jax.ops import trees
from metarl_jax.ops.returns import masked_mean, normalize, trial_advantage
from metarl_jax.ops.surrogates import clipped_ratio, ratio
from metarl_jax.optimise import minimise_over
from metarl_jax.types import (
    Array,
    Batch,
    Distribution,
    Fraction,
    Info,
    Key,
    MetaAlgorithm,
    NonNegativeFloat,
    Params,
    Policy,
    PositiveFloat,
    PositiveInt,
    PyTree,
    TaskFamily,
    TrainState,
    Trajectory,
    require,
    require_number,
)


class Moments(NamedTuple):
    """Of all numbers so far, on all devices.

    Attributes:
      how_many: ``[]``.
      mean: ``[]``.
      squares: ``[]`` sum of squared deviations from the mean.
    """

    how_many: Array
    mean: Array
    squares: Array


def no_moments() -> Moments:
    """Moments of nothing yet.

    Example:
      >>> no_moments().how_many.item()
      0.0
    """
    return Moments(*(jnp.zeros(()) for _ in range(3)))


def add_numbers(moments: Moments, x: Array, mask: Array, axis_name: str | None = None) -> Moments:
    """Moments of the numbers so far and of new ones (Chan et al., 1979).

    Args:
      moments: so far.
      x: ``[T, N]``.
      mask: ``[T, N]`` 1 where a number counts.
      axis_name: mapped device axis, or None.

    Returns:
      The moments of both.

    Example:
      >>> moments = add_numbers(no_moments(), jnp.array([[1.0, 3.0]]), jnp.ones((1, 2)))
      >>> moments.mean.item(), running_std(moments).item()
      (2.0, 1.0)
    """
    count = trees.psum(jnp.sum(mask), axis_name)
    mean = masked_mean(x, mask, axis_name)
    squares = count * masked_mean(jnp.square(x - mean), mask, axis_name)
    total = moments.how_many + count
    shift = mean - moments.mean
    share = count / jnp.maximum(total, 1.0)
    return Moments(
        total,
        moments.mean + share * shift,
        moments.squares + squares + jnp.square(shift) * moments.how_many * share,
    )


def running_std(moments: Moments) -> Array:
    """Standard deviation of the numbers so far, at least 1e-4; ``[]``.

    Example:
      >>> round(running_std(no_moments()).item(), 4)
      0.0001
    """
    return jnp.maximum(jnp.sqrt(moments.squares / jnp.maximum(moments.how_many, 1.0)), 1e-4)


def ppo_loss(
    evaluate: EvaluateTrials,
    distribution: Distribution,
    clip_eps: Array | float,
    entropy_coef: Array | float,
    critic_coef: Array | float,
) -> Callable[[Params, Batch], tuple[Array, Info]]:
    """``clipped surrogate + critic_coef mean (V - target)^2 - entropy_coef mean H`` (Schulman et al., 2017).

    Args:
      evaluate: the policy on whole trials.
      distribution: the policy's.
      clip_eps: half-width of the ratio's interval.
      entropy_coef: weight of the entropy bonus.
      critic_coef: weight of the critic's squared error.

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
        info = {
            "value_loss": value_loss,
            "outer_ratio_error": jnp.max(jnp.abs(ratio(log_prob, sampled.log_prob, sampled.mask) - 1.0)),
        }
        return surrogate + critic_coef * value_loss - entropy_coef * entropy, info

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


def rl2(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    episodes_per_trial: PositiveInt = 2,
    episodes_per_task: PositiveInt = 1,
    num_epochs: PositiveInt = 4,
    num_minibatches: PositiveInt = 4,
    clip_eps: PositiveFloat = 0.2,
    entropy_coef: NonNegativeFloat = 0.01,
    critic_coef: NonNegativeFloat = 0.5,
    discount: Fraction = 0.99,
    gae_lambda: Fraction = 0.95,
    bptt_length: PositiveInt | None = None,
    normalize_rewards: bool = False,
    task_chunk: PositiveInt | None = None,
) -> MetaAlgorithm:
    """RL^2 with PPO: the memory of a recurrent policy lasts for a trial of several episodes on one task.

    The policy sees its previous action and reward and where episodes begin; whatever it needs to know of the task it
    has to find out and remember. Advantages run over the whole trial, so exploring in the first episode is credited
    with what is earned in the last.

    Args:
      family: where tasks come from.
      policy: what is trained; it needs a memory and a critic.
      optimizer: the outer optimiser.
      episodes_per_trial: n, episodes of a trial.
      episodes_per_task: B, trials of each task, side by side; each has its own memory.
      num_epochs: passes over each batch of data.
      num_minibatches: optimiser steps per pass, each on its share of this device's trials; whole trials, shuffled.
      clip_eps: half-width of the interval the ratio is clipped to.
      entropy_coef: weight of the entropy bonus, per nat.
      critic_coef: weight of the critic's squared error.
      discount: reward discount per step, across episodes too.
      gae_lambda: trace decay of the advantage estimates; 1 is Monte Carlo.
      bptt_length: stop gradients through the memory every so many steps; back-propagate through whole trials if left
        out.
      normalize_rewards: in the loss, divide rewards by the running standard deviation of the discounted return, so
        that the critic has to predict numbers near 1; the policy sees rewards as they are.
      task_chunk: collect at most this many tasks at a time, to save memory; if left out, all on accelerators and what
        fits the cache on CPUs.

    Returns:
      The algorithm; its ``TrainState.aux`` is :class:`Moments` if rewards are normalised, else ``()``.

    Raises:
      ValueError: if a hyperparameter is out of range, or the policy has no memory or no critic.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.bandit_bernoulli()
      >>> policy = mrl.networks.recurrent_policy(family.observation_shape, family.action, hidden_size=8)
      >>> algorithm = rl2(family, policy, optax.adam(1e-3), episodes_per_trial=10)
      >>> state = algorithm.init(jax.random.key(0))
      >>> tasks = jax.vmap(family.sample)(jax.random.split(jax.random.key(1), 8))
      >>> state, info = jax.jit(algorithm.update)(state, tasks, jax.random.split(jax.random.key(2), 8))
      >>> info["return"].shape
      (10,)
    """
    require_number("num_epochs", num_epochs, at_least=1)
    require_number("num_minibatches", num_minibatches, at_least=1)
    require_number("clip_eps", clip_eps, above=0)
    require_number("entropy_coef", entropy_coef, at_least=0)
    require_number("critic_coef", critic_coef, at_least=0)
    evaluate = make_evaluate(policy, bptt_length)
    require(policy.has_critic, "policy", "without a critic", "the advantages need one: set policy.name to recurrent")
    loss = jax.value_and_grad(
        ppo_loss(evaluate, policy.distribution, clip_eps, entropy_coef, critic_coef), has_aux=True
    )

    def score(params: Params, moments: PyTree, trials: Trajectory, axis_name: str | None) -> tuple[Batch, PyTree]:
        reward = trials.reward
        if normalize_rewards:
            to_come = trial_advantage(reward, jnp.zeros_like(reward), trials.mask, discount, 1.0)
            moments = add_numbers(moments, to_come, trials.mask, axis_name)
            reward = reward / running_std(moments)
        _, value = evaluate(params, trials.percept)
        advantage = trial_advantage(reward, value, trials.mask, discount, gae_lambda)
        batch = Batch(trials, normalize(advantage, trials.mask, axis_name), advantage + value)
        return jax.lax.stop_gradient(batch), moments

    def trial_step(state: TrainState, trials: Trajectory, key: Key, axis_name: str | None) -> tuple[TrainState, Info]:
        batch, aux = score(state.params, state.aux, trials, axis_name)
        params, opt_state, infos = minimise_over(
            lambda params, chosen: loss(params, take_trials(batch, chosen)),
            state.params,
            state.opt_state,
            optimizer,
            minibatch_indices(key, trials.reward.shape[1], num_epochs, num_minibatches),
            axis_name,
        )
        first = jax.tree.map(lambda x: x[0], infos)  # where the policy is still the one that collected
        return state._replace(params=params, opt_state=opt_state, aux=aux), first

    return memory_based(
        family,
        policy,
        trial_step,
        episodes_per_trial=episodes_per_trial,
        episodes_per_task=episodes_per_task,
        init_opt_state=optimizer.init,
        init_aux=no_moments if normalize_rewards else lambda: (),
        collect_at_once=collect_chunk(task_chunk, episodes_per_task),
    )
