"""RL^2 with a trust-region outer step, as published (Duan et al., 2016)."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.assembly import collect_chunk
from metarl_jax.algorithms.memory.core import by_episodes, memory_based
from metarl_jax.algorithms.memory.views import EvaluateTrials, make_evaluate
from metarl_jax.checks import Traced, checked
from metarl_jax.ops import trees
from metarl_jax.ops.baselines import fit_linear_baseline
from metarl_jax.ops.returns import device_weight, masked_mean, normalize, trial_advantage
from metarl_jax.ops.surrogates import likelihood_ratio, ratio
from metarl_jax.ops.trust_region import linearise_policy, trust_region_step
from metarl_jax.types import (
    Array,
    Distribution,
    Fraction,
    Info,
    Key,
    MetaAlgorithm,
    NonNegativeFloat,
    OpenFraction,
    Params,
    Policy,
    PositiveFloat,
    PositiveInt,
    PyTree,
    TaskChunk,
    TaskFamily,
    TrainState,
    Trajectory,
)


@checked
@adapts(by_episodes)
def trpo_rl2(
    family: TaskFamily,
    policy: Policy,
    *,
    episodes_per_trial: PositiveInt = 2,
    episodes_per_task: PositiveInt = 1,
    max_kl: Traced[PositiveFloat] = 0.01,
    cg_steps: PositiveInt = 10,
    cg_damping: Traced[NonNegativeFloat] = 1e-2,
    backtrack_ratio: Traced[OpenFraction] = 0.8,
    max_backtracks: PositiveInt = 15,
    discount: Traced[Fraction] = 0.99,
    gae_lambda: Traced[Fraction] = 1.0,
    bptt_length: PositiveInt | None = None,
    task_chunk: TaskChunk = None,
) -> MetaAlgorithm:
    """RL^2 with a trust region: exact Hessian-vector products through the memory, no optimiser.

    The trust region does not bound a critic, so the baseline is linear in features of the observation, the previous
    reward and the time in the trial, refitted to all trials of an update. The policy's value head is not used.

    Args:
      policy: what is trained; it needs a memory.
      episodes_per_trial: n, episodes of a trial.
      episodes_per_task: B, trials of each task, side by side; each has its own memory.
      max_kl: trust region on the mean divergence of the policy, in nats.
      cg_steps: conjugate-gradient iterations per update.
      cg_damping: added to the diagonal of the KL Hessian.
      backtrack_ratio: factor between tried step lengths.
      max_backtracks: how many step lengths are tried.
      discount: reward discount per step, across episodes too.
      gae_lambda: trace decay of the advantage estimates; 1 is Monte Carlo.
      bptt_length: stop gradients through the memory every so many steps; back-propagate through whole trials if left
        out.
      task_chunk: collect at most this many tasks at a time, to save memory; if left out, all on accelerators and what
        fits the cache on CPUs; ``auto``: as many as fit the memory.

    Raises:
      ValueError: if the policy has no memory.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.bandit_bernoulli()
      >>> policy = mrl.networks.recurrent_policy(family.observation_shape, family.action, hidden_size=4)
      >>> algorithm = trpo_rl2(family, policy, episodes_per_trial=3, cg_steps=2)
      >>> state = algorithm.init(jax.random.key(0))
      >>> tasks = jax.vmap(family.sample)(jax.random.split(jax.random.key(1), 8))
      >>> state, info = jax.jit(algorithm.update)(state, tasks, jax.random.split(jax.random.key(2), 8))
      >>> bool(info["kl"] <= 0.01)
      True
    """
    step = partial(
        _trial_step,
        make_evaluate(policy, bptt_length),
        policy.distribution,
        partial(_advantages, discount=discount, gae_lambda=gae_lambda),
        partial(
            trust_region_step,
            max_kl=max_kl,
            cg_steps=cg_steps,
            cg_damping=cg_damping,
            backtrack_ratio=backtrack_ratio,
            max_backtracks=max_backtracks,
        ),
    )
    return memory_based(
        family,
        policy,
        step,
        episodes_per_trial=episodes_per_trial,
        episodes_per_task=episodes_per_task,
        collect_at_once=collect_chunk(family, task_chunk, episodes_per_task),
    )


def _advantages(
    trials: Trajectory, axis_name: str | None, *, discount: Array | float, gae_lambda: Array | float
) -> Array:
    """Normalised, over a baseline that is fitted to these trials; ``[T, N]``."""
    seen = trials.percept.observation.reshape(*trials.mask.shape, -1)
    features = jnp.concatenate([seen, trials.percept.previous_reward[..., None]], axis=-1)
    target = trial_advantage(trials.reward, jnp.zeros_like(trials.reward), trials.mask, discount, 1.0)
    value = fit_linear_baseline(features, target, trials.mask, axis_name)
    advantage = trial_advantage(trials.reward, value, trials.mask, discount, gae_lambda)
    return jax.lax.stop_gradient(normalize(advantage, trials.mask, axis_name))


def _trial_step(
    evaluate: EvaluateTrials,
    distribution: Distribution,
    advantages: Callable[[Trajectory, str | None], Array],
    search: Callable[..., tuple[Params, Info]],
    state: TrainState,
    trials: Trajectory,
    keys: Key,
    axis_name: str | None,
) -> tuple[TrainState, Info]:
    """Linearise the policy through its memory where it is, then ``search`` along the natural gradient."""
    advantage, weight = advantages(trials, axis_name), device_weight(trials.mask, axis_name)

    def distributions(params: Params) -> PyTree:
        return evaluate(params, trials.percept)[0]

    def surrogate(dist_params: PyTree) -> tuple[Array, Array]:
        log_prob = distribution.log_prob(dist_params, trials.action)
        error = jnp.max(jnp.abs(ratio(log_prob, trials.log_prob, trials.mask) - 1.0))
        return weight * likelihood_ratio(log_prob, trials.log_prob, advantage, trials.mask), error

    def mean_kl(p: PyTree, q: PyTree) -> Array:
        return weight * masked_mean(distribution.kl(p, q), trials.mask)

    def loss_and_kl(params: Params) -> tuple[Array, Array]:
        reached = distributions(params)
        return trees.pmean((surrogate(reached)[0], mean_kl(trials.dist_params, reached)), axis_name)

    here = linearise_policy(distributions, mean_kl, state.params)
    (loss, error), outward = jax.value_and_grad(surrogate, has_aux=True)(here.reference)
    loss, gradient = trees.pmean((loss, here.pullback(outward)), axis_name)
    params, info = search(
        loss_and_kl, lambda v: trees.pmean(here.kl_product(v), axis_name), state.params, loss, gradient
    )
    return state._replace(params=params), {**info, "outer_ratio_error": trees.pmax(error, axis_name)}
