"""MAML with a policy-gradient outer step (Finn et al., 2017), second or first order."""

from typing import Literal

import jax.numpy as jnp
import optax

from metarl_jax.algorithms.gradient_based import (
    Objective,
    collect_chunk,
    gradient_based,
    optax_outer_step,
    outer_ratio_error,
)
from metarl_jax.inner import Baseline, Evaluations, Stages, make_inner_loop
from metarl_jax.ops.surrogates import INNER_SURROGATES, likelihood_ratio
from metarl_jax.types import (
    Array,
    Fraction,
    Info,
    MetaAlgorithm,
    NonNegativeFloat,
    NonNegativeInt,
    Policy,
    PositiveFloat,
    PositiveInt,
    PyTree,
    TaskFamily,
)

OuterStages = Literal["last", "adapted"]


def maml_objective(outer_stages: OuterStages = "last") -> Objective:
    """``-mean(ratio A)`` on the data of the adapted policy: at the first epoch its gradient is the policy gradient.

    Args:
      outer_stages: ``last`` scores the policy after all K steps (Finn et al., 2017); ``adapted`` the mean over the
        policies after 1..K steps, the multi-step loss of Antoniou et al. (2019).

    Returns:
      The objective; it uses no ``aux``.
    """

    def objective(evaluations: Evaluations, stages: Stages, aux: PyTree) -> tuple[Array, Info]:
        first = 1 if outer_stages == "adapted" and len(stages) > 1 else len(stages) - 1
        losses = [
            likelihood_ratio(evaluation.log_prob, batch.trajectory.log_prob, batch.advantage, batch.trajectory.mask)
            for evaluation, batch in zip(evaluations[first:], stages[first:], strict=True)
        ]
        return jnp.mean(jnp.stack(losses)), {"outer_ratio_error": outer_ratio_error(evaluations, stages)}

    return objective


def maml(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    inner_lr: NonNegativeFloat | tuple[NonNegativeFloat, ...] = 0.1,
    num_inner_steps: NonNegativeInt = 1,
    episodes_per_task: PositiveInt = 20,
    outer_stages: OuterStages = "last",
    first_order: bool = False,
    estimator: Literal["log_likelihood", "likelihood_ratio"] = "log_likelihood",
    discount: Fraction = 0.99,
    gae_lambda: Fraction = 1.0,
    baseline: Baseline = "linear_feature",
    critic_coef: NonNegativeFloat = 0.5,
    time_limit_is_terminal: bool = False,
    max_inner_grad_norm: PositiveFloat | None = None,
    remat: bool = False,
    task_chunk: PositiveInt | None = None,
) -> MetaAlgorithm:
    """MAML with an optax outer step on the exact (or first-order) meta-gradient.

    ``theta <- optimizer(grad_theta mean_i L(theta - alpha grad L(theta; D_i); D'_i))``.

    Args:
      family: where tasks come from.
      policy: what is trained; ``critic`` as baseline needs one with a critic.
      optimizer: the outer optimiser.
      inner_lr: inner step size ``alpha``, or one for each inner step.
      num_inner_steps: K; with 0 this is plain policy gradient over all tasks.
      episodes_per_task: B, episodes per task in each of the K + 1 stages.
      outer_stages: the outer loss scores the ``last`` policy alone, or the mean over all ``adapted`` ones.
      first_order: ignore second derivatives (FOMAML).
      estimator: surrogate of the inner loss; ``likelihood_ratio`` estimates more of the Hessian.
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
      The algorithm.

    Raises:
      ValueError: if a hyperparameter is out of range.

    Example:
      >>> import jax, metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = maml(family, policy, optax.adam(1e-3), episodes_per_task=4)
      >>> state = algorithm.init(jax.random.key(0))
      >>> tasks = jax.vmap(family.sample)(jax.random.split(jax.random.key(1), 3))
      >>> state, info = jax.jit(algorithm.update)(state, tasks, jax.random.split(jax.random.key(2), 3))
      >>> info["return"].shape
      (2,)
    """
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
        first_order=first_order,
        critic_coef=critic_coef,
        time_limit_is_terminal=time_limit_is_terminal,
        max_inner_grad_norm=max_inner_grad_norm,
        remat=remat,
    )
    outer_step = optax_outer_step(loop, maml_objective(outer_stages), optimizer, num_epochs=1, task_chunk=task_chunk)
    at_once = collect_chunk(task_chunk, episodes_per_task)
    return gradient_based(policy, loop, outer_step, optimizer.init, collect_at_once=at_once)
