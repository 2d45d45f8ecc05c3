"""MAML with a trust-region outer step (Finn et al., 2017; Schulman et al., 2015)."""

from typing import Any, Literal

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.assembly import collect_chunk, gradient_based
from metarl_jax.algorithms.gradient.budget import by_gradient_steps
from metarl_jax.algorithms.gradient.maml import OuterStages, maml_objective
from metarl_jax.algorithms.gradient.trust_region import trust_region_outer_step
from metarl_jax.checks import Traced, checked, passes_on
from metarl_jax.inner import make_inner_loop
from metarl_jax.types import (
    MetaAlgorithm,
    NonNegativeFloat,
    OpenFraction,
    Policy,
    PositiveFloat,
    PositiveInt,
    TaskChunk,
    TaskFamily,
    require,
)


@checked
@passes_on(make_inner_loop)
@adapts(by_gradient_steps)
def trpo_maml(
    family: TaskFamily,
    policy: Policy,
    *,
    episodes_per_task: PositiveInt = 20,
    max_kl: Traced[PositiveFloat] = 0.01,
    max_kl_half_life: Traced[PositiveFloat] | None = None,
    constrain: Literal["adapted", "all_stages"] = "adapted",
    cg_steps: PositiveInt = 10,
    cg_damping: Traced[NonNegativeFloat] = 1e-5,
    backtrack_ratio: Traced[OpenFraction] = 0.8,
    max_backtracks: PositiveInt = 15,
    curvature_every: PositiveInt = 1,
    outer_stages: OuterStages = "last",
    outer_weights: Traced[tuple[NonNegativeFloat, ...]] | None = None,
    baseline: Literal["linear_feature", "zero"] = "linear_feature",
    task_chunk: TaskChunk = None,
    **inner: Any,
) -> MetaAlgorithm:
    """MAML with a trust-region outer step: exact Hessian-vector products, no optimiser.

    Args:
      episodes_per_task: B, episodes per task in each of the K + 1 stages.
      max_kl: trust region on the mean divergence of the adapted policies, in nats.
      max_kl_half_life: updates after which the trust region is half as large; constant if left out.
      constrain: whose divergence the trust region bounds: that of the ``adapted`` policies (as published), or the
        sum over ``all_stages``, which keeps the policy that collects the adaptation data from wandering off.
      cg_steps: conjugate-gradient iterations per update.
      cg_damping: added to the diagonal of the KL Hessian.
      backtrack_ratio: factor between tried step lengths.
      max_backtracks: how many step lengths are tried.
      curvature_every: take the KL Hessian of every n-th task only, which costs an n-th; the line search still bounds
        the divergence over all tasks.
      outer_stages: the outer loss scores the ``last`` policy alone, or the mean over the ``adapted`` ones, or over
        ``all``: also the one before adaptation (then ``constrain`` all stages, too).
      outer_weights: of the stages in the outer loss, one for each; equal ones if left out.
      baseline: ``linear_feature`` (refitted to each batch) or ``zero``.
      task_chunk: collect and differentiate at most this many tasks at a time, to save memory; if left out, all on
        accelerators and what fits the cache on CPUs; ``auto``: as many as fit the memory.
      **inner: of :func:`metarl_jax.inner.make_inner_loop`.

    Example:
      >>> import jax, metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = trpo_maml(family, policy, episodes_per_task=4)
      >>> state = algorithm.init(jax.random.key(0))
      >>> tasks = jax.vmap(family.sample)(jax.random.split(jax.random.key(1), 3))
      >>> state, info = jax.jit(algorithm.update)(state, tasks, jax.random.split(jax.random.key(2), 3))
      >>> bool(info["kl"] <= 0.01)
      True
    """
    require(
        not policy.has_critic,
        "policy",
        "with a critic",
        "the trust region does not bound a critic: leave out policy.critic_hidden_sizes, or choose maml or promp",
    )
    loop = make_inner_loop(family, policy, episodes_per_task=episodes_per_task, baseline=baseline, **inner)
    outer_step = trust_region_outer_step(
        loop,
        policy.distribution,
        objective=maml_objective(outer_stages, outer_weights=outer_weights),
        first_stage=0 if constrain == "all_stages" else -1,
        max_kl=max_kl,
        max_kl_half_life=max_kl_half_life,
        cg_steps=cg_steps,
        cg_damping=cg_damping,
        backtrack_ratio=backtrack_ratio,
        max_backtracks=max_backtracks,
        curvature_every=curvature_every,
        task_chunk=task_chunk,
    )
    return gradient_based(
        policy, loop, outer_step, collect_at_once=collect_chunk(family, task_chunk, episodes_per_task)
    )
