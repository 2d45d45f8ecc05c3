"""A trust-region outer step: natural gradient through the inner steps, and a line search (Schulman et al., 2015)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metarl_jax.algorithms.gradient.assembly import (
    Objective,
    OuterStep,
    count_tasks,
    gradient_chunk,
    make_meta_loss,
    mean_value_and_grad,
    signal_to_noise,
    with_auxiliary_loss,
)
from metarl_jax.checks import checked
from metarl_jax.inner import Evaluations, InnerLoop, Stages
from metarl_jax.ops import trees
from metarl_jax.ops.returns import masked_mean
from metarl_jax.ops.trust_region import linearise_policy, trust_region_step
from metarl_jax.types import (
    Array,
    Distribution,
    Info,
    NonNegativeFloat,
    OpenFraction,
    Params,
    PositiveFloat,
    PositiveInt,
    PyTree,
    TaskChunk,
    TrainState,
    require,
)

Replay = Callable[[Params, Stages], tuple[Params, Evaluations]]
MeanKl = Callable[[tuple[PyTree, ...], tuple[PyTree, ...], Stages], Array]


def make_task_kl(distribution: Distribution) -> MeanKl:
    """``(p, q, stages) -> []``: ``KL(p || q)`` of one task, averaged over valid steps, summed over the stages given.

    Args:
      distribution: the policy's.

    Returns:
      A function of two tuples of distributions ``[T, B, ...]`` and of the batches they belong to.
    """

    def task_kl(p: tuple[PyTree, ...], q: tuple[PyTree, ...], stages: Stages) -> Array:
        per_stage = [
            masked_mean(distribution.kl(p_k, q_k), batch.trajectory.mask)
            for p_k, q_k, batch in zip(p, q, stages, strict=True)
        ]
        return jnp.sum(jnp.stack(per_stage))

    return task_kl


def make_mean_kl(distribution: Distribution) -> MeanKl:
    """:func:`make_task_kl` averaged over tasks, a leading axis ``[M, ...]`` of all three arguments."""
    task_kl = make_task_kl(distribution)
    return lambda p, q, stages: jnp.mean(jax.vmap(task_kl)(p, q, stages))


def make_kl_product(
    loop: InnerLoop,
    distribution: Distribution,
    params: Params,
    stages: Stages,
    first_stage: int = -1,
    task_chunk: TaskChunk = None,
) -> Callable[[PyTree], PyTree]:
    """``v -> J^T F J v``: the Hessian of the policies' mean KL at ``params``, through every inner step.

    With the sampling policies as reference the divergence and its gradient vanish, so the Hessian through adaptation
    is exactly ``J^T F J`` with ``J`` the Jacobian from meta-parameters to action distributions and ``F`` the Hessian
    of the divergence in the distributions' own parameters. No third derivatives, and positive semi-definite.

    All tasks at once are linearised once; each product costs one forward and one backward pass through that linear map.
    A chunk of them is linearised anew in every product: that takes a quarter more arithmetic and the memory of one
    chunk, and on CPUs less time, since what a linear map of all tasks keeps must be read from memory twice.

    Args:
      loop: the inner loop.
      distribution: the policy's.
      params: the meta-parameters that collected ``stages``.
      stages: K + 1 batches with a leading task axis ``[M, ...]``.
      first_stage: the divergence counts from this stage on: -1 for the adapted policies alone, 0 for all.
      task_chunk: tasks differentiated at once; if None, what suits the backend.

    Returns:
      The product, over this device's tasks.
    """
    chunk = gradient_chunk(task_chunk)

    def linearised(replay: Replay, kl: MeanKl, data: Stages) -> Callable[[PyTree], PyTree]:
        def distributions(params: Params) -> tuple[PyTree, ...]:
            _, evaluations = replay(params, data)
            return tuple(evaluation.dist_params for evaluation in evaluations[first_stage:])

        return linearise_policy(distributions, lambda p, q: kl(p, q, data[first_stage:]), params).kl_product

    if chunk is None or chunk >= stages[0].advantage.shape[0]:
        return linearised(jax.vmap(loop.replay, in_axes=(None, 0)), make_mean_kl(distribution), stages)
    task_kl = make_task_kl(distribution)

    def product(v: PyTree) -> PyTree:
        return trees.mean_over_tasks(
            trees.over_tasks(lambda data: linearised(loop.replay, task_kl, data)(v), stages, chunk)
        )

    return product


@checked
def trust_region_outer_step(
    loop: InnerLoop,
    distribution: Distribution,
    *,
    objective: Objective,
    first_stage: int = -1,
    max_kl: Array | PositiveFloat,
    max_kl_half_life: Array | PositiveFloat | None = None,
    cg_steps: PositiveInt,
    cg_damping: Array | NonNegativeFloat,
    backtrack_ratio: Array | OpenFraction,
    max_backtracks: PositiveInt,
    curvature_every: PositiveInt = 1,
    task_chunk: TaskChunk,
) -> OuterStep:
    """Natural-gradient step on the adapted policies' surrogate with a line search on the surrogate and the mean KL.

    Args:
      loop: the inner loop.
      distribution: the policy's.
      objective: the surrogate to lower; the entropy bonus is added to it.
      first_stage: the trust region counts divergences from this stage on: -1 the adapted policies alone, 0 all.
      max_kl: the trust region, mean divergence of the adapted policies in nats.
      max_kl_half_life: updates after which the trust region is half as large; constant if None.
      cg_steps: conjugate-gradient iterations.
      cg_damping: added to the diagonal of the KL Hessian.
      backtrack_ratio: factor between tried step lengths, in (0, 1).
      max_backtracks: how many lengths are tried.
      curvature_every: the KL Hessian is that of every n-th task; the line search measures all of them.
      task_chunk: tasks differentiated at once; if None, what suits the backend.

    Returns:
      The outer step. Info: ``loss``, ``loss_after``, ``kl`` (nats), ``grad_norm``, ``cg_residual`` (relative),
      ``step_fraction`` (0 when the line search rejected every length), ``grad_snr``.
    """
    meta_loss, outer_loss = make_meta_loss(loop, objective), with_auxiliary_loss(loop, objective)
    mean_kl = make_mean_kl(distribution)

    def outer_step(state: TrainState, stages: Stages, axis_name: str | None) -> tuple[TrainState, Info]:
        sampled = tuple(batch.trajectory.dist_params for batch in stages[first_stage:])

        def loss_and_kl(params: Params) -> tuple[Array, Array]:
            _, evaluations = trees.over_tasks(
                lambda data: loop.replay(params, data), stages, gradient_chunk(task_chunk)
            )
            losses, _ = jax.vmap(outer_loss, in_axes=(0, 0, None))(evaluations, stages, state.aux)
            reached = tuple(evaluation.dist_params for evaluation in evaluations[first_stage:])
            divergence = mean_kl(sampled, reached, stages[first_stage:])
            return trees.pmean((jnp.mean(losses), divergence), axis_name)

        value_and_grad = mean_value_and_grad(meta_loss, stages, state.aux, task_chunk)
        (loss, info), gradient = trees.pmean(value_and_grad(state.params), axis_name)
        num_tasks = stages[0].advantage.shape[0]
        require(
            num_tasks % curvature_every == 0,
            "curvature_every",
            curvature_every,
            f"must divide the {num_tasks} tasks of each device, so that any number of devices picks the same tasks",
        )
        some = jax.tree.map(lambda leaf: leaf[::curvature_every], stages)
        local_product = make_kl_product(loop, distribution, state.params, some, first_stage, task_chunk)

        radius = max_kl if max_kl_half_life is None else max_kl * jnp.exp2(-state.step / max_kl_half_life)
        params, step_info = trust_region_step(
            loss_and_kl,
            lambda v: trees.pmean(local_product(v), axis_name),
            state.params,
            loss,
            gradient,
            max_kl=radius,
            cg_steps=cg_steps,
            cg_damping=cg_damping,
            backtrack_ratio=backtrack_ratio,
            max_backtracks=max_backtracks,
        )
        return state._replace(params=params), signal_to_noise({**info, **step_info}, count_tasks(stages, axis_name))

    return outer_step
