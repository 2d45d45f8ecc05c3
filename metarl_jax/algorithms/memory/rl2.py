"""RL^2: a recurrent policy learns to learn across the episodes of a trial (Duan et al., 2016), trained by PPO."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.assembly import collect_chunk
from metarl_jax.algorithms.memory.core import EvaluateTrials, by_episodes, make_evaluate, memory_based, take_trials
from metarl_jax.algorithms.memory.ppo import minibatch_indices, ppo_loss
from metarl_jax.checks import Traced, checked
from metarl_jax.ops.moments import Moments, add_numbers, no_moments, running_std
from metarl_jax.ops.optimise import minimise_over
from metarl_jax.ops.returns import normalize, trial_advantage
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
    TaskChunk,
    TaskFamily,
    TrainState,
    Trajectory,
    require,
)


@checked
@adapts(by_episodes)
def rl2(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    episodes_per_trial: PositiveInt = 2,
    episodes_per_task: PositiveInt = 1,
    num_epochs: PositiveInt = 4,
    num_minibatches: PositiveInt = 4,
    clip_eps: Traced[PositiveFloat] = 0.2,
    entropy_coef: Traced[NonNegativeFloat] = 0.01,
    entropy_decay_updates: PositiveInt | None = None,
    critic_coef: Traced[NonNegativeFloat] = 0.5,
    discount: Traced[Fraction] = 0.99,
    gae_lambda: Traced[Fraction] = 0.95,
    bptt_length: PositiveInt | None = None,
    normalize_rewards: bool = False,
    task_chunk: TaskChunk = None,
) -> MetaAlgorithm:
    """RL^2 with PPO: the memory of a recurrent policy lasts for a trial of several episodes on one task.

    The policy sees its previous action and reward and where episodes begin; whatever it needs to know of the task it
    has to find out and remember. Advantages run over the whole trial, so exploring in the first episode is credited
    with what is earned in the last.

    Args:
      policy: what is trained; it needs a memory and a critic.
      episodes_per_trial: n, episodes of a trial.
      episodes_per_task: B, trials of each task, side by side; each has its own memory.
      num_epochs: passes over each batch of data.
      num_minibatches: optimiser steps per pass, each on its share of this device's trials; whole trials, shuffled.
      clip_eps: half-width of the interval the ratio is clipped to.
      entropy_coef: weight of the entropy bonus, per nat.
      entropy_decay_updates: over so many updates the weight falls linearly to zero; constant if left out.
      critic_coef: weight of the critic's squared error.
      discount: reward discount per step, across episodes too.
      gae_lambda: trace decay of the advantage estimates; 1 is Monte Carlo.
      bptt_length: stop gradients through the memory every so many steps; back-propagate through whole trials if left
        out.
      normalize_rewards: in the loss, divide rewards by the running standard deviation of the discounted return, so
        that the critic has to predict numbers near 1; the policy sees rewards as they are.
      task_chunk: collect at most this many tasks at a time, to save memory; if left out, all on accelerators and what
        fits the cache on CPUs; ``auto``: as many as fit the memory.

    Returns:
      The algorithm; its ``TrainState.aux`` is :class:`Moments` if rewards are normalised, else ``()``.

    Raises:
      ValueError: if the policy has no memory or no critic.

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
    evaluate = make_evaluate(policy, bptt_length)
    require(policy.has_critic, "policy", "without a critic", "the advantages need one: set policy.name to recurrent")
    entropy_weight = optax.constant_schedule(entropy_coef)
    if entropy_decay_updates is not None:
        entropy_weight = optax.linear_schedule(entropy_coef, 0.0, entropy_decay_updates)
    settings = _Settings(
        evaluate=evaluate,
        distribution=policy.distribution,
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
    return memory_based(
        family,
        policy,
        partial(_trial_step, settings),
        episodes_per_trial=episodes_per_trial,
        episodes_per_task=episodes_per_task,
        init_opt_state=optimizer.init,
        init_aux=no_moments if normalize_rewards else lambda: (),
        collect_at_once=collect_chunk(family, task_chunk, episodes_per_task),
    )


class _Settings(NamedTuple):
    """What an outer step depends on: the arguments of :func:`rl2`, resolved."""

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


def _trial_step(
    settings: _Settings, state: TrainState, trials: Trajectory, key: Key, axis_name: str | None
) -> tuple[TrainState, Info]:
    """Score the trials, then PPO's epochs over minibatches of them."""
    reward, aux = trials.reward, state.aux
    if settings.normalize_rewards:
        reward, aux = _normalize_rewards(trials, settings.discount, aux, axis_name)
    batch = _score(settings, state.params, trials, reward, axis_name)
    loss = ppo_loss(
        settings.evaluate,
        settings.distribution,
        settings.clip_eps,
        settings.entropy_weight(state.step),
        settings.critic_coef,
        axis_name,
    )
    params, opt_state, infos = minimise_over(
        lambda params, chosen: jax.value_and_grad(loss, has_aux=True)(params, take_trials(batch, chosen)),
        state.params,
        state.opt_state,
        settings.optimizer,
        minibatch_indices(key, trials.reward.shape[1], settings.num_epochs, settings.num_minibatches),
        axis_name,
    )
    first = jax.tree.map(lambda x: x[0], infos)  # where the policy is still the one that collected
    return state._replace(params=params, opt_state=opt_state, aux=aux), first


def _normalize_rewards(
    trials: Trajectory, discount: Array | float, moments: Moments, axis_name: str | None
) -> tuple[Array, Moments]:
    """Rewards in units of the running standard deviation of the discounted return, and its new moments."""
    to_come = trial_advantage(trials.reward, jnp.zeros_like(trials.reward), trials.mask, discount, 1.0)
    moments = add_numbers(moments, to_come, trials.mask, axis_name)
    return trials.reward / running_std(moments), moments


def _score(settings: _Settings, params: Params, trials: Trajectory, reward: Array, axis_name: str | None) -> Batch:
    """Trials with advantages that reach across their episodes, gradients stopped."""
    _, value = settings.evaluate(params, trials.percept)
    advantage = trial_advantage(reward, value, trials.mask, settings.discount, settings.gae_lambda)
    batch = Batch(trials, normalize(advantage, trials.mask, axis_name), advantage + value)
    return jax.lax.stop_gradient(batch)
