"""The inner loop: collect data while adapting, then replay the same adaptation to differentiate it.

``collect`` interacts: it samples K + 1 stages of data, adapting after each of the first K, and is constant as far as
gradients go. ``replay`` repeats the K updates on that data as a deterministic function of the meta-parameters, so an
outer loss built on it can be differentiated exactly, stepped on several times, and checked by finite differences.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import Traced, checked
from metarl_jax.inner import steps
from metarl_jax.inner.rules import MakeRule, RuleName, make_rule
from metarl_jax.inner.scoring import Baseline
from metarl_jax.inner.steps import Evaluation, Evaluations, Stages, Storage
from metarl_jax.ops import trees
from metarl_jax.ops.moments import without_moments
from metarl_jax.ops.surrogates import Estimator, make_surrogate
from metarl_jax.types import (
    AUTO,
    Array,
    Batch,
    Episodes,
    Fraction,
    Key,
    NonNegativeFloat,
    NonNegativeInt,
    Params,
    Policy,
    PositiveFloat,
    PositiveInt,
    Task,
    TaskFamily,
    Trajectory,
    require,
)

StepSizes = float | tuple[float, ...] | Array


class InnerLoop(NamedTuple):
    """Adaptation to one task as two pure functions.

    Attributes:
      init: ``(key) -> params``: the policy's and, beside them, the update rule's if it has any.
      collect: ``(params, task, key) -> (adapted params, K + 1 batches)``. No gradient flows through it.
      replay: ``(params, K + 1 batches) -> (adapted params, K + 1 evaluations)``, where evaluation ``k`` is of batch
        ``k`` under the parameters after ``k`` steps. Differentiable.
      auxiliary_loss: ``(evaluation, batch) -> []``: the weighted squared error of the critic, if there is one, less the
        weighted entropy. It is in the inner loss, and belongs in the outer one.
      test: ``(params, task, key) -> [K + 1, T, B, ...]``: episodes by the policy's mode after 0..K of the steps that
        ``collect`` takes, which do not see them.
      learn: ``(params, k stages of recorded episodes) -> params`` after ``k`` steps; see
        :class:`metarl_jax.types.MetaAlgorithm`.
    """

    init: Callable[[Key], Params]
    collect: Callable[[Params, Task, Key], tuple[Params, Stages]]
    replay: Callable[[Params, Stages], tuple[Params, Evaluations]]
    auxiliary_loss: Callable[[Evaluation, Batch], Array]
    test: Callable[[Params, Task, Key], Trajectory]
    learn: Callable[[Params, Episodes], Params]


@checked
def make_inner_loop(
    family: TaskFamily,
    policy: Policy,
    *,
    inner_lr: Traced[NonNegativeFloat | tuple[NonNegativeFloat, ...]] = 0.1,
    num_inner_steps: NonNegativeInt = 1,
    episodes_per_task: PositiveInt = 20,
    estimator: Estimator = "log_likelihood",
    estimator_decay: Traced[Fraction] = 1.0,
    first_order: bool = False,
    inner_rule: RuleName = "sgd",
    adapted: tuple[str, ...] | None = None,
    discount: Traced[Fraction] = 0.99,
    gae_lambda: Traced[Fraction] = 1.0,
    baseline: Baseline = "linear_feature",
    critic_coef: Traced[NonNegativeFloat] = 0.5,
    critic_lr_scale: Traced[NonNegativeFloat] = 1.0,
    entropy_coef: Traced[NonNegativeFloat] = 0.0,
    time_limit_is_terminal: bool = False,
    max_inner_grad_norm: Traced[PositiveFloat] | None = None,
    remat: bool | Literal["auto"] = False,
    percept_storage: Storage = "full",
    rule: MakeRule | None = None,
) -> InnerLoop:
    """Gradient descent on a surrogate loss as the inner update: ``phi_{k+1} = phi_k - alpha_k grad L(phi_k; D_k)``.

    Every gradient-based method is made of this loop, and takes these arguments.

    Args:
      family: where tasks come from.
      policy: what is adapted; a critic is adapted with it.
      inner_lr: inner step size ``alpha``, or one for each of the K inner steps.
      num_inner_steps: K, gradient steps on each task; 0 gives plain policy gradients over all tasks.
      episodes_per_task: B, episodes collected in each of the K + 1 stages.
      estimator: surrogate of the inner loss, by the Hessian that it estimates: ``log_likelihood`` (biased),
        ``likelihood_ratio`` (low variance), ``dice``, ``loaded_dice``, ``taypo2`` (unbiased).
      estimator_decay: of past log-ratios in ``loaded_dice``: 1 is unbiased, 0 equals ``likelihood_ratio``.
      first_order: ignore second derivatives: hold the inner gradient constant (first-order MAML).
      inner_rule: what makes a step of the gradient: ``sgd``, ``momentum``, ``adam``, ``learned_step_sizes`` (for each
        layer and step, meta-learned, starting at ``inner_lr``) or ``learned`` (a small network whose weights are).
      adapted: paths of the parameters that inner steps move, such as ``mean/Dense_2``; all if left out.
      discount: reward discount per step.
      gae_lambda: trace decay of the advantage estimates; 1 is Monte Carlo.
      baseline: what is subtracted from returns: ``linear_feature`` (refitted to each batch), ``zero``, or ``critic``
        (learned and adapted; the policy must have one).
      critic_coef: weight of the critic's squared error in the inner and the outer loss.
      critic_lr_scale: the critic's inner step size in units of ``inner_lr``; 0 leaves it unadapted.
      entropy_coef: weight of the policy's mean entropy, in nats, against policies that stop exploring: in every inner
        loss, at meta-test time too, and in the outer one, where it is that of the policy after the last step. It has
        no gradient where a standard deviation is at its floor, ``min_std``.
      time_limit_is_terminal: do not bootstrap the critic through the time limit.
      max_inner_grad_norm: shorten longer inner gradients to this norm; no limit if left out.
      remat: recompute each inner step when differentiating instead of storing it: more time, less memory; ``auto``: if
        the tasks do not fit the memory of the devices that train them otherwise.
      percept_storage: keep what the policy saw as it is (``full``), or in ``bfloat16``: half of its memory, for
        gradients that are off by less than a hundredth, since they are taken as if it had seen the rounded numbers.
      rule: an update rule of your own, ``step sizes [K] -> InnerRule``, in the place of ``inner_rule``.

    Returns:
      The loop.

    Raises:
      ValueError: if a size or a step size is out of range, ``baseline`` is ``critic`` and the policy has none, or
        ``adapted`` or one of the policy's ``parts`` names no parameter.

    Example:
      >>> from metarl_jax import tasks, networks
      >>> family = tasks.navigation_finn(horizon=5)
      >>> policy = networks.mlp_policy(family.observation_shape, family.action)
      >>> loop = make_inner_loop(family, policy, estimator="likelihood_ratio", episodes_per_task=3)
      >>> params, stages = loop.collect(loop.init(jax.random.key(0)), family.sample(jax.random.key(1)),
      ...                               jax.random.key(2))
      >>> len(stages)
      2
    """
    _check_baseline(policy, baseline)
    remedy = "only varibad trains what its belief is inferred with: set policy.name to mlp, conv or recurrent"
    require(policy.belief is None, "policy", "with a belief", remedy)
    own = "a rule takes its place, the argument of this name or the method's own: leave inner_rule out"
    require(rule is None or inner_rule == "sgd", "inner_rule", inner_rule, own)
    parts = {f"policy.parts.{name}": paths for name, paths in policy.parts._asdict().items()}
    _check_paths(policy, {"adapted": adapted or (), **parts})
    step_sizes = _step_sizes(inner_lr, num_inner_steps)
    settings = steps.InnerSettings(
        family=family,
        policy=policy,
        rule=make_rule(inner_rule, step_sizes) if rule is None else rule(step_sizes),
        surrogate=make_surrogate(estimator, discount, estimator_decay),
        num_inner_steps=num_inner_steps,
        episodes_per_task=episodes_per_task,
        first_order=first_order,
        adapted=adapted,
        discount=discount,
        gae_lambda=gae_lambda,
        baseline=baseline,
        critic_coef=critic_coef,
        critic_lr_scale=critic_lr_scale,
        entropy_coef=entropy_coef,
        time_limit_is_terminal=time_limit_is_terminal,
        max_inner_grad_norm=max_inner_grad_norm,
        remat=bool(remat) and remat != AUTO,
        percept_storage=percept_storage,
    )
    return InnerLoop(
        init=partial(steps.init, settings),
        collect=partial(steps.collect, settings),
        replay=partial(steps.replay, settings),
        auxiliary_loss=partial(steps.auxiliary_loss, settings),
        test=partial(steps.test, settings),
        learn=partial(steps.learn, settings),
    )


def _check_baseline(policy: Policy, baseline: Baseline) -> None:
    remedy = (
        "needs a policy with a critic: set policy.critic_hidden_sizes or policy.shared_torso, "
        "or choose linear_feature or zero"
    )
    require(baseline != "critic" or policy.has_critic, "baseline", baseline, remedy)


def _check_paths(policy: Policy, named: Mapping[str, tuple[str, ...]]) -> None:
    """Each name, of an argument or of one of the policy's parts, has paths of parameters that there are."""
    if not any(named.values()):
        return
    paths = list(trees.by_path(without_moments(jax.eval_shape(policy.init, jax.random.key(0)))))
    for name, chosen in named.items():
        for one in chosen:
            is_there = any(trees.is_below(path, (one,)) for path in paths)
            require(is_there, name, one, f"is no parameter of the policy; there are {', '.join(paths)}")


def _step_sizes(inner_lr: StepSizes, num_inner_steps: int) -> Array:
    """``[K]`` step sizes from one number or K of them."""
    sizes = jnp.asarray(inner_lr, dtype=float)
    require(
        sizes.ndim == 0 or sizes.shape == (num_inner_steps,),
        "inner_lr",
        inner_lr,
        f"give one step size, or one for each of the {num_inner_steps} inner steps",
    )
    return jnp.broadcast_to(sizes, (num_inner_steps,))
