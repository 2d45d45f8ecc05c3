"""ProMP: proximal meta-policy search (Rothfuss et al., 2018)."""

from typing import Any

import jax.numpy as jnp
import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.assembly import (
    Objective,
    OuterStep,
    collect_chunk,
    gradient_based,
    gradient_chunk,
    make_meta_loss,
    optax_outer_step,
)
from metarl_jax.algorithms.gradient.budget import by_gradient_steps
from metarl_jax.algorithms.gradient.maml import maml_objective
from metarl_jax.checks import Traced, checked, passes_on
from metarl_jax.inner import Evaluation, Evaluations, InnerLoop, Stages, make_inner_loop
from metarl_jax.ops import trees
from metarl_jax.ops.returns import masked_mean
from metarl_jax.ops.surrogates import Estimator
from metarl_jax.ops.trust_region import adapt_kl_coefficients
from metarl_jax.types import (
    Array,
    Batch,
    Distribution,
    Info,
    MetaAlgorithm,
    NonNegativeFloat,
    NonNegativeInt,
    Policy,
    PositiveFloat,
    PositiveInt,
    TaskChunk,
    TaskFamily,
    TrainState,
)


@checked
def promp_objective(distribution: Distribution, clip_eps: Array | PositiveFloat) -> Objective:
    """``clipped surrogate on D_K + mean_k eta_k KL(pi_old_k || pi_k) on D_k`` for the inner stages ``k < K``.

    Args:
      distribution: the policy's.
      clip_eps: half-width of the ratio's interval.

    Returns:
      An objective whose ``aux`` is ``eta [K]`` and whose info has ``inner_kl [K]``, in nats.
    """
    clipped = maml_objective(clip_eps=clip_eps)

    def divergence(evaluation: Evaluation, stage: Batch) -> Array:
        sampled = stage.trajectory
        return masked_mean(distribution.kl(sampled.dist_params, evaluation.dist_params), sampled.mask)

    def objective(evaluations: Evaluations, stages: Stages, eta: Array) -> tuple[Array, Info]:
        loss, info = clipped(evaluations, stages, ())
        if len(stages) == 1:
            return loss, info
        inner_kl = jnp.stack([divergence(*pair) for pair in zip(evaluations[:-1], stages[:-1], strict=True)])
        return loss + jnp.mean(eta * inner_kl), {**info, "inner_kl": inner_kl}

    return objective


def _adaptive(
    outer_step: OuterStep, loop: InnerLoop, objective: Objective, target: Array | float, task_chunk: TaskChunk
) -> OuterStep:
    """Adapt the KL coefficients after the step, to the divergences that it led to."""
    meta_loss = make_meta_loss(loop, objective)

    def step(state: TrainState, stages: Stages, axis_name: str | None) -> tuple[TrainState, Info]:
        state, info = outer_step(state, stages, axis_name)

        def divergence(data: Stages) -> Array:
            return meta_loss(state.params, data, state.aux)[1]["inner_kl"]

        kl = trees.mean_over_tasks(trees.over_tasks(divergence, stages, gradient_chunk(task_chunk)), axis_name)
        new_aux = adapt_kl_coefficients(state.aux, kl, target)
        return state._replace(aux=new_aux), {**info, "inner_kl": kl, "kl_coefficient": state.aux}

    return step


@checked
@passes_on(make_inner_loop)
@adapts(by_gradient_steps)
def promp(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    num_inner_steps: NonNegativeInt = 1,
    episodes_per_task: PositiveInt = 20,
    num_epochs: PositiveInt = 5,
    clip_eps: Traced[PositiveFloat] = 0.3,
    kl_coefficient: Traced[NonNegativeFloat] = 5e-4,
    kl_target: Traced[PositiveFloat] | None = None,
    max_outer_kl: Traced[PositiveFloat] | None = None,
    estimator: Estimator = "likelihood_ratio",
    task_chunk: TaskChunk = None,
    **inner: Any,
) -> MetaAlgorithm:
    """ProMP: likelihood-ratio inner steps, several epochs on a clipped outer surrogate, inner KL penalties.

    Args:
      policy: what is trained; ``critic`` as baseline needs one with a critic.
      num_inner_steps: K, gradient steps on each task.
      episodes_per_task: B, episodes per task in each of the K + 1 stages.
      num_epochs: outer optimiser steps on each batch of data.
      clip_eps: half-width of the interval the outer ratio is clipped to.
      kl_coefficient: initial penalty ``eta`` on the divergence of each inner stage's policy.
      kl_target: adapt ``eta`` towards this divergence, in nats; fixed if left out.
      max_outer_kl: halve outer steps after which the policies of the last stage are farther than this from those that
        collected, in nats per action, as :func:`metarl_jax.algorithms.maml` does; no limit if left out.
      estimator: surrogate of the inner loss; the paper's is ``likelihood_ratio``.
      task_chunk: collect and differentiate at most this many tasks at a time, to save memory; if left out, all on
        accelerators and what fits the cache on CPUs; ``auto``: as many as fit the memory.
      **inner: of :func:`metarl_jax.inner.make_inner_loop`.

    Returns:
      The algorithm; its ``TrainState.aux`` is ``eta [K]``.

    Example:
      >>> import jax, metarl_jax as mrl
      >>> family = mrl.tasks.navigation_corner(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = promp(family, policy, optax.adam(1e-3), episodes_per_task=4)
      >>> algorithm.init(jax.random.key(0)).aux.shape
      (1,)
    """
    inner |= {"num_inner_steps": num_inner_steps, "episodes_per_task": episodes_per_task, "estimator": estimator}
    loop = make_inner_loop(family, policy, **inner)
    objective = promp_objective(policy.distribution, clip_eps)
    outer_step = optax_outer_step(loop, objective, optimizer, num_epochs, task_chunk, max_outer_kl)
    if kl_target is not None and num_inner_steps > 0:
        outer_step = _adaptive(outer_step, loop, objective, kl_target, task_chunk)
    return gradient_based(
        policy,
        loop,
        outer_step,
        optimizer.init,
        init_aux=lambda: jnp.full(num_inner_steps, kl_coefficient, float),
        collect_at_once=collect_chunk(family, task_chunk, episodes_per_task),
    )
