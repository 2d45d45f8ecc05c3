"""ProMP: proximal meta-policy search (Rothfuss et al., 2018)."""

from typing import Literal

import jax.numpy as jnp
import optax

from metarl_jax.algorithms.gradient_based import (
    Objective,
    OuterStep,
    collect_chunk,
    gradient_based,
    gradient_chunk,
    make_meta_loss,
    optax_outer_step,
    outer_ratio_error,
)
from metarl_jax.inner import Baseline, Evaluations, InnerLoop, Stages, make_inner_loop
from metarl_jax.ops import trees
from metarl_jax.ops.returns import masked_mean
from metarl_jax.ops.surrogates import INNER_SURROGATES, clipped_ratio
from metarl_jax.types import (
    Array,
    Distribution,
    Fraction,
    Info,
    MetaAlgorithm,
    NonNegativeFloat,
    NonNegativeInt,
    Policy,
    PositiveFloat,
    PositiveInt,
    TaskFamily,
    TrainState,
    require_number,
)


def promp_objective(distribution: Distribution, clip_eps: Array | float) -> Objective:
    """``clipped surrogate on D_K + mean_k eta_k KL(pi_old_k || pi_k) on D_k`` for the inner stages ``k < K``.

    Args:
      distribution: the policy's.
      clip_eps: half-width of the ratio's interval.

    Returns:
      An objective whose ``aux`` is ``eta [K]`` and whose info has ``inner_kl [K]``, in nats.
    """

    def objective(evaluations: Evaluations, stages: Stages, eta: Array) -> tuple[Array, Info]:
        batch = stages[-1]
        sampled = batch.trajectory
        loss = clipped_ratio(evaluations[-1].log_prob, sampled.log_prob, batch.advantage, sampled.mask, clip_eps)
        info = {"outer_ratio_error": outer_ratio_error(evaluations, stages)}
        if len(stages) == 1:
            return loss, info
        inner_kl = jnp.stack(
            [
                masked_mean(
                    distribution.kl(stage.trajectory.dist_params, evaluation.dist_params), stage.trajectory.mask
                )
                for evaluation, stage in zip(evaluations[:-1], stages[:-1], strict=True)
            ]
        )
        return loss + jnp.mean(eta * inner_kl), {**info, "inner_kl": inner_kl}

    return objective


def adapt_kl_coefficients(eta: Array, kl: Array, target: Array | float) -> Array:
    """Halve ``eta`` where ``kl < target / 1.5``, double it where ``kl > 1.5 target``; ``[K]``.

    Args:
      eta: ``[K]`` coefficients.
      kl: ``[K]`` divergences after all epochs, in nats.
      target: the divergence aimed at, in nats.

    Returns:
      ``[K]`` new coefficients.

    Example:
      >>> adapt_kl_coefficients(jnp.ones(3), jnp.array([0.0, 0.01, 1.0]), 0.01).tolist()
      [0.5, 1.0, 2.0]
    """
    return jnp.where(kl < target / 1.5, eta / 2.0, jnp.where(kl > target * 1.5, eta * 2.0, eta))


def _adaptive(
    outer_step: OuterStep, loop: InnerLoop, objective: Objective, target: Array | float, task_chunk: int | None
) -> OuterStep:
    """Adapt the KL coefficients after the step, to the divergences that it led to."""
    meta_loss = make_meta_loss(loop, objective)

    def step(state: TrainState, stages: Stages, axis_name: str | None) -> tuple[TrainState, Info]:
        state, info = outer_step(state, stages, axis_name)

        def divergence(data: Stages) -> Array:
            return meta_loss(state.params, data, state.aux)[1]["inner_kl"]

        kl = trees.mean_over_tasks(trees.over_tasks(divergence, stages, gradient_chunk(task_chunk)), axis_name)
        info = {**info, "inner_kl": kl, "kl_coefficient": state.aux}
        return state._replace(aux=adapt_kl_coefficients(state.aux, kl, target)), info

    return step


def promp(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    inner_lr: NonNegativeFloat | tuple[NonNegativeFloat, ...] = 0.1,
    num_inner_steps: NonNegativeInt = 1,
    episodes_per_task: PositiveInt = 20,
    num_epochs: PositiveInt = 5,
    clip_eps: PositiveFloat = 0.3,
    kl_coefficient: NonNegativeFloat = 5e-4,
    kl_target: PositiveFloat | None = None,
    estimator: Literal["log_likelihood", "likelihood_ratio"] = "likelihood_ratio",
    discount: Fraction = 0.99,
    gae_lambda: Fraction = 1.0,
    baseline: Baseline = "linear_feature",
    critic_coef: NonNegativeFloat = 0.5,
    time_limit_is_terminal: bool = False,
    max_inner_grad_norm: PositiveFloat | None = None,
    remat: bool = False,
    task_chunk: PositiveInt | None = None,
) -> MetaAlgorithm:
    """ProMP: likelihood-ratio inner steps, several epochs on a clipped outer surrogate, inner KL penalties.

    Args:
      family: where tasks come from.
      policy: what is trained; ``critic`` as baseline needs one with a critic.
      optimizer: the outer optimiser.
      inner_lr: inner step size ``alpha``, or one for each inner step.
      num_inner_steps: K.
      episodes_per_task: B, episodes per task in each of the K + 1 stages.
      num_epochs: outer optimiser steps on each batch of data.
      clip_eps: half-width of the interval the outer ratio is clipped to.
      kl_coefficient: initial penalty ``eta`` on the divergence of each inner stage's policy.
      kl_target: adapt ``eta`` towards this divergence, in nats; fixed if left out.
      estimator: surrogate of the inner loss; the paper's is ``likelihood_ratio``.
      discount: reward discount per step.
      gae_lambda: trace decay of the advantage estimates; 1 is Monte Carlo.
      baseline: ``linear_feature`` (refitted to each batch), ``zero``, or ``critic`` (learned and adapted).
      critic_coef: weight of the critic's squared error in the inner and the outer loss.
      time_limit_is_terminal: do not bootstrap the critic through the time limit.
      max_inner_grad_norm: shorten longer inner gradients to this norm; no limit if left out.
      remat: trade time for memory in the backward pass.
      task_chunk: collect and differentiate at most this many tasks at a time, to save memory; if left out, all on
        accelerators and what fits the cache on CPUs.

    Returns:
      The algorithm; its ``TrainState.aux`` is ``eta [K]``.

    Raises:
      ValueError: if a hyperparameter is out of range.

    Example:
      >>> import jax, metarl_jax as mrl
      >>> family = mrl.tasks.navigation_corner(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = promp(family, policy, optax.adam(1e-3), episodes_per_task=4)
      >>> algorithm.init(jax.random.key(0)).aux.shape
      (1,)
    """
    require_number("clip_eps", clip_eps, above=0)
    require_number("kl_coefficient", kl_coefficient, at_least=0)
    require_number("num_epochs", num_epochs, at_least=1)
    loop = make_inner_loop(
        family,
        policy,
        surrogate=INNER_SURROGATES[estimator],
        inner_lr=inner_lr,
        num_inner_steps=num_inner_steps,
        episodes_per_task=episodes_per_task,
        discount=discount,
        gae_lambda=gae_lambda,
        baseline=baseline,
        critic_coef=critic_coef,
        time_limit_is_terminal=time_limit_is_terminal,
        max_inner_grad_norm=max_inner_grad_norm,
        remat=remat,
    )
    objective = promp_objective(policy.distribution, clip_eps)
    outer_step = optax_outer_step(loop, objective, optimizer, num_epochs, task_chunk)
    if kl_target is not None and num_inner_steps > 0:
        outer_step = _adaptive(outer_step, loop, objective, kl_target, task_chunk)
    return gradient_based(
        policy,
        loop,
        outer_step,
        optimizer.init,
        init_aux=lambda: jnp.full(num_inner_steps, kl_coefficient, float),
        collect_at_once=collect_chunk(task_chunk, episodes_per_task),
    )
