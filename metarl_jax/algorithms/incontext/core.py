"""The core that methods of supervised in-context learning share: play trials, make examples of them, fit the policy."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.memory.core import remembering, side_by_side, trials_info
from metarl_jax.ops import trees
from metarl_jax.ops.optimise import keep_if_finite, minimise
from metarl_jax.ops.returns import device_weight, masked_mean
from metarl_jax.types import (
    Array,
    Info,
    Key,
    MetaAlgorithm,
    Params,
    Policy,
    PyTree,
    Task,
    TaskFamily,
    TrainState,
    Trajectory,
)


class Examples(NamedTuple):
    """Actions to predict, of ``N`` trials side by side.

    Attributes:
      shown: what the policy predicts them from; ``[T, N, ...]``.
      action: ``[T, N, ...]``.
      mask: ``[T, N]`` 1.0 where an action counts.
    """

    shown: PyTree
    action: Array
    mask: Array


Teach = Callable[[Params, Task, Key], tuple[Trajectory, Examples]]
"""Play ``B`` trials on one task: all of what was played ``[t, B]``, and the examples made of it ``[T, B]``."""
Predict = Callable[[Params, PyTree], PyTree]
"""``(params, shown [T, N, ...]) -> dist_params [T, N, ...]``."""


def cross_entropy(
    predict: Predict, policy: Policy, num_parts: int, axis_name: str | None = None
) -> Callable[[Params, Examples], tuple[Array, Info]]:
    """Mean negative log-probability of the actions.

    Args:
      predict: the policy's view of what is shown.
      policy: whose distribution it is.
      num_parts: the steps are reported in as many parts; divides ``T``.
      axis_name: mapped device axis, or None. The loss, and with it its gradient, is such that its average over devices
        is that of all devices' examples.

    Returns:
      ``(params, examples) -> (loss [], info)``.
    """

    def loss(params: Params, examples: Examples) -> tuple[Array, Info]:
        dist_params = predict(params, examples.shown)
        surprise = -policy.distribution.log_prob(dist_params, examples.action)
        parts = (x.reshape(num_parts, -1) for x in (jax.lax.stop_gradient(surprise), examples.mask))
        info = {
            "cross_entropy": jax.vmap(partial(masked_mean, axis_name=axis_name))(*parts),
            "policy_entropy": masked_mean(policy.distribution.entropy(dist_params), examples.mask, axis_name),
        }
        return device_weight(examples.mask, axis_name) * masked_mean(surprise, examples.mask), info

    return loss


def supervised(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    teach: Teach,
    predict: Predict,
    observed: Callable[[PyTree], Array],
    *,
    episodes_per_trial: int,
    episodes_per_task: int,
    episodes_played: int,
    collect_at_once: int | None,
) -> MetaAlgorithm:
    """A method that fits a policy with a memory to examples of new trials in every update, one step of the optimiser.

    Args:
      family: where tasks come from.
      policy: what is trained.
      optimizer: of the step.
      teach: makes the examples.
      predict: how the policy answers.
      observed: the observations ``[T, N, ...]`` in what is shown that are answered.
      episodes_per_trial: ``n``, episodes through which the memory lasts when it is tested.
      episodes_per_task: ``B``, trials of each task.
      episodes_played: those of a trial that ``teach`` plays.
      collect_at_once: tasks that are played side by side; all if None.

    Returns:
      The algorithm, without its ``adaptation``. ``update`` reports of the trials that it learned from what RL^2's does
      of its own, and ``cross_entropy`` ``[n]``.
    """

    def update(state: TrainState, tasks: Task, keys: Key, axis_name: str | None = None) -> tuple[TrainState, Info]:
        played, examples = jax.lax.stop_gradient(
            trees.over_tasks(lambda one: teach(state.params, *one), (tasks, keys), collect_at_once)
        )
        examples = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:]), examples)
        loss = jax.value_and_grad(cross_entropy(predict, policy, episodes_per_trial, axis_name), has_aux=True)
        params, opt_state, infos = minimise(
            lambda params: loss(params, examples), state.params, state.opt_state, optimizer, 1, axis_name
        )
        step_info = jax.tree.map(lambda x: x[0], infos)
        if policy.observe is not None:
            params = policy.observe(params, observed(examples.shown), examples.mask, axis_name)
        new_state = state._replace(params=params, opt_state=opt_state)
        kept, step_info = keep_if_finite(state, new_state, step_info, axis_name)
        return kept, {**trials_info(side_by_side(played), episodes_played, axis_name), **step_info}

    return remembering(
        family,
        policy,
        update,
        episodes_per_trial=episodes_per_trial,
        episodes_per_task=episodes_per_task,
        init_opt_state=optimizer.init,
        collect_at_once=collect_at_once,
    )
