"""E-MAML (Stadie et al., 2018): MAML that credits exploration before adaptation for the return after it."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.assembly import (
    MetaLoss,
    collect_chunk,
    descend,
    gradient_based,
    with_auxiliary_loss,
)
from metarl_jax.algorithms.gradient.budget import by_gradient_steps
from metarl_jax.algorithms.gradient.maml import OuterStages, maml_objective
from metarl_jax.checks import Traced, checked, passes_on
from metarl_jax.inner import Evaluations, InnerLoop, Stages, make_inner_loop
from metarl_jax.ops.returns import episode_return, is_dropped, masked_mean, normalize
from metarl_jax.types import (
    Array,
    Info,
    MetaAlgorithm,
    NonNegativeFloat,
    Params,
    Policy,
    PositiveFloat,
    PositiveInt,
    PyTree,
    TaskChunk,
    TaskFamily,
    TrainState,
)

CreditForm = Literal["sum", "mean"]


@checked
def exploration_loss(evaluations: Evaluations, stages: Stages, credit: Array, form: CreditForm) -> Array:
    """``-credit * sum_k log pi_phi_k(D_k)`` over the inner stages ``k < K``: every inner action shares the outcome.

    The data that adaptation learned from were themselves chosen by the meta-parameters; this is the score-function
    term of that choice, which MAML leaves out. Each stage is scored under the parameters that sampled it.

    Args:
      evaluations: K + 1 evaluations of one task.
      stages: K + 1 batches of one task.
      credit: ``[]`` how good the outcome of adaptation was.
      form: ``sum`` over all inner episodes, per time step (the paper's); ``mean`` over all inner steps and episodes
        (as in the code of Rothfuss et al., 2018, whose credit is smaller, see :func:`outcome_credit`), B times weaker.

    Returns:
      ``[]``.
    """
    inner = list(zip(evaluations[:-1], stages[:-1], strict=True))
    if not inner:
        return jnp.zeros(())
    means = [masked_mean(evaluation.log_prob, batch.trajectory.mask) for evaluation, batch in inner]
    weights = [jnp.sum(~is_dropped(batch.trajectory.mask)) if form == "sum" else 1 for _, batch in inner]
    return -credit * sum(weight * mean for weight, mean in zip(weights, means, strict=True))


def outcome_credit(stages: Stages, axis_name: str | None) -> Array:
    """The return after adaptation, normalised over the meta-batch of all devices; ``[M]``.

    Rothfuss et al. (2018) divide by the standard deviation of single rewards, which makes it 2 to 4 times smaller.

    Args:
      stages: K + 1 batches with a leading task axis ``[M, ...]``.
      axis_name: mapped device axis, or None.

    Returns:
      Mean 0 and standard deviation 1 over all tasks; 0 for one of whose last stage no episode is left.
    """
    last = stages[-1].trajectory
    kept = ~jax.vmap(is_dropped)(last.mask)
    outcome = jax.vmap(masked_mean)(jax.vmap(episode_return)(last.reward, last.mask), kept)
    return normalize(outcome, kept.any(axis=1), axis_name)


@checked
def emaml_loss(
    loop: InnerLoop, outer_stages: OuterStages, form: CreditForm, coef: Array | NonNegativeFloat
) -> MetaLoss:
    """MAML's meta-loss plus :func:`exploration_loss`, on ``(stages, credit)`` of one task.

    Args:
      loop: the inner loop.
      outer_stages: see :func:`metarl_jax.algorithms.gradient.maml.maml_objective`.
      form: see :func:`exploration_loss`.
      coef: weight of the exploration term.

    Returns:
      ``(params, (stages, credit []), aux) -> (loss [], info)``.
    """
    outer_loss = with_auxiliary_loss(loop, maml_objective(outer_stages))

    def meta_loss(params: Params, data: tuple[Stages, Array], aux: PyTree) -> tuple[Array, Info]:
        stages, credit = data
        _, evaluations = loop.replay(params, stages)
        loss, info = outer_loss(evaluations, stages, aux)
        exploration = exploration_loss(evaluations, stages, credit, form)
        return loss + coef * exploration, {**info, "exploration_loss": exploration}

    return meta_loss


@checked
@passes_on(make_inner_loop)
@adapts(by_gradient_steps)
def emaml(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    episodes_per_task: PositiveInt = 20,
    outer_stages: OuterStages = "last",
    credit: CreditForm = "mean",
    credit_coef: Traced[PositiveFloat] = 1.0,
    task_chunk: TaskChunk = None,
    **inner: Any,
) -> MetaAlgorithm:
    """MAML plus the credit of the inner actions for what adaptation achieved.

    Args:
      episodes_per_task: B, episodes per task in each of the K + 1 stages.
      outer_stages: the outer loss scores the ``last`` policy alone, or the mean over the ``adapted`` ones, or over
        ``all``: also the one before adaptation.
      credit: inner log-probabilities are taken as ``sum`` over episodes or as ``mean``.
      credit_coef: weight of the credit beside MAML's loss.
      task_chunk: collect and differentiate at most this many tasks at a time, to save memory; if left out, all on
        accelerators and what fits the cache on CPUs; ``auto``: as many as fit the memory.
      **inner: of :func:`metarl_jax.inner.make_inner_loop`.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = emaml(family, policy, optax.adam(1e-3), episodes_per_task=4)
    """
    loop = make_inner_loop(family, policy, episodes_per_task=episodes_per_task, **inner)
    meta_loss = emaml_loss(loop, outer_stages, credit, credit_coef)

    def outer_step(state: TrainState, stages: Stages, axis_name: str | None) -> tuple[TrainState, Info]:
        data = (stages, outcome_credit(stages, axis_name))
        return descend(meta_loss, data, state, optimizer, 1, task_chunk, axis_name)

    at_once = collect_chunk(family, task_chunk, episodes_per_task)
    return gradient_based(policy, loop, outer_step, optimizer.init, collect_at_once=at_once)
