"""MAML with an optax outer step (Finn et al., 2017): policy gradient or PPO, second or first order."""

from typing import Any, Literal

import jax.numpy as jnp
import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.assembly import (
    Objective,
    collect_chunk,
    gradient_based,
    optax_outer_step,
    outer_ratio_error,
)
from metarl_jax.algorithms.gradient.budget import by_gradient_steps
from metarl_jax.checks import Traced, checked, is_traced, passes_on
from metarl_jax.inner import Evaluations, Stages, make_inner_loop
from metarl_jax.ops.surrogates import clipped_ratio, likelihood_ratio
from metarl_jax.types import (
    Array,
    Info,
    MetaAlgorithm,
    NonNegativeFloat,
    Policy,
    PositiveFloat,
    PositiveInt,
    PyTree,
    TaskChunk,
    TaskFamily,
    require,
)

OuterStages = Literal["last", "adapted", "all"]


@checked
def maml_objective(
    outer_stages: OuterStages = "last",
    clip_eps: Array | PositiveFloat | None = None,
    outer_weights: tuple[NonNegativeFloat, ...] | None = None,
) -> Objective:
    """``-mean(ratio A)`` on the data of the adapted policy: at the first epoch its gradient is the policy gradient.

    Args:
      outer_stages: ``last`` scores the policy after all K steps (Finn et al., 2017); ``adapted`` the mean over the
        policies after 1..K steps, the multi-step loss of Antoniou et al. (2019); ``all`` also the one before them.
      clip_eps: clip the ratios to this half-width around 1 (PPO); no clipping if None.
      outer_weights: of the stages that are scored, divided by their sum; equal ones if None.

    Returns:
      The objective; it uses no ``aux``.

    Raises:
      ValueError: if weights are given for the last stage alone, or they sum to nothing.
    """
    if outer_weights is not None:
        require(outer_stages != "last", "outer_weights", outer_weights, "are for outer_stages: adapted or all")
        has_weight = is_traced(outer_weights) or sum(outer_weights) > 0
        require(has_weight, "outer_weights", outer_weights, "at least one must be greater than 0")

    def objective(evaluations: Evaluations, stages: Stages, aux: PyTree) -> tuple[Array, Info]:
        first = {"last": len(stages) - 1, "adapted": min(1, len(stages) - 1), "all": 0}[outer_stages]
        losses = []
        for evaluation, batch in zip(evaluations[first:], stages[first:], strict=True):
            data = (evaluation.log_prob, batch.trajectory.log_prob, batch.advantage, batch.trajectory.mask)
            losses.append(likelihood_ratio(*data) if clip_eps is None else clipped_ratio(*data, clip_eps))
        weights = (1.0,) * len(losses) if outer_weights is None else outer_weights
        require(
            len(weights) == len(losses),
            "outer_weights",
            weights,
            f"give one for each of the {len(losses)} scored stages",
        )
        loss = jnp.average(jnp.stack(losses), weights=jnp.array(weights))
        return loss, {"outer_ratio_error": outer_ratio_error(evaluations, stages)}

    return objective


@checked
@passes_on(make_inner_loop)
@adapts(by_gradient_steps)
def maml(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    episodes_per_task: PositiveInt = 20,
    outer_stages: OuterStages = "last",
    outer_weights: Traced[tuple[NonNegativeFloat, ...]] | None = None,
    num_epochs: PositiveInt = 1,
    clip_eps: Traced[PositiveFloat] | None = None,
    max_outer_kl: Traced[PositiveFloat] | None = None,
    task_chunk: TaskChunk = None,
    **inner: Any,
) -> MetaAlgorithm:
    """MAML with an optax outer step on the exact (or first-order) meta-gradient.

    ``theta <- optimizer(grad_theta mean_i L(theta - alpha grad L(theta; D_i); D'_i))``.

    Args:
      policy: what is trained; ``critic`` as baseline needs one with a critic.
      episodes_per_task: B, episodes per task in each of the K + 1 stages.
      outer_stages: the outer loss scores the ``last`` policy alone, or the mean over the ``adapted`` ones, or over
        ``all``: also the one before adaptation.
      outer_weights: of the stages in the outer loss, one for each; equal ones if left out.
      num_epochs: outer optimiser steps on each batch of data.
      clip_eps: clip the outer ratio to this half-width around 1 (PPO); no clipping if left out.
      max_outer_kl: halve an outer step after which the policies of the last stage are farther than this from those that
        collected (mean divergence in nats per action), and the rest of the update's steps; no limit if left out. Each
        halving takes one of the epochs, and a step that is still too long after the last of them is not taken.
        Clipping takes the incentive from a step too far, but does not hold it back: now and then one ruins a policy.
      task_chunk: collect and differentiate at most this many tasks at a time, to save memory; if left out, all on
        accelerators and what fits the cache on CPUs; ``auto``: as many as fit the memory.
      **inner: of :func:`metarl_jax.inner.make_inner_loop`.

    Example:
      >>> import jax, metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = maml(family, policy, optax.adam(1e-3), episodes_per_task=4, inner_lr=0.1)
      >>> state = algorithm.init(jax.random.key(0))
      >>> tasks = jax.vmap(family.sample)(jax.random.split(jax.random.key(1), 3))
      >>> state, info = jax.jit(algorithm.update)(state, tasks, jax.random.split(jax.random.key(2), 3))
      >>> info["return"].shape
      (2,)
    """
    loop = make_inner_loop(family, policy, episodes_per_task=episodes_per_task, **inner)
    objective = maml_objective(outer_stages, clip_eps, outer_weights)
    outer_step = optax_outer_step(loop, objective, optimizer, num_epochs, task_chunk, max_outer_kl)
    at_once = collect_chunk(family, task_chunk, episodes_per_task)
    return gradient_based(policy, loop, outer_step, optimizer.init, collect_at_once=at_once)
