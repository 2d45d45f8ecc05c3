"""Reptile (Nichol et al., 2018): move towards the parameters that inner steps lead to."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.assembly import (
    OuterStep,
    collect_chunk,
    gradient_based,
    gradient_chunk,
    without_learned_rule,
)
from metarl_jax.algorithms.gradient.budget import by_constant_steps
from metarl_jax.checks import checked, passes_on
from metarl_jax.inner import InnerLoop, Stages, make_inner_loop
from metarl_jax.ops import trees
from metarl_jax.ops.optimise import apply_updates
from metarl_jax.types import Array, Info, MetaAlgorithm, Params, Policy, PositiveInt, TaskChunk, TaskFamily, TrainState


def reptile_outer_step(loop: InnerLoop, optimizer: optax.GradientTransformation, task_chunk: TaskChunk) -> OuterStep:
    """Hand the pseudo-gradient ``theta - mean_i phi_i`` to an optax optimiser; nothing is differentiated twice.

    Args:
      loop: the inner loop.
      optimizer: any optax transformation; plain SGD with step size ``epsilon`` interpolates, as in the paper.
      task_chunk: tasks replayed at once; if None, what suits the backend.

    Returns:
      The outer step. Info: ``grad_norm`` of the pseudo-gradient and ``inner_distance``, the mean length of the tasks'
      inner paths.
    """

    def outer_step(state: TrainState, stages: Stages, axis_name: str | None) -> tuple[TrainState, Info]:
        def of_task(data: Stages) -> tuple[Params, Array]:
            adapted, _ = loop.replay(state.params, data)
            moved = jax.tree.map(jnp.subtract, state.params, adapted)
            return moved, trees.norm(moved)

        moved, distance = trees.mean_over_tasks(
            trees.over_tasks(of_task, stages, gradient_chunk(task_chunk)), axis_name
        )
        updates, opt_state = optimizer.update(moved, state.opt_state, state.params)
        params = apply_updates(state.params, updates)
        info = {"grad_norm": trees.norm(moved), "inner_distance": distance}
        return state._replace(params=params, opt_state=opt_state), info

    return outer_step


@checked
@passes_on(make_inner_loop)
@adapts(by_constant_steps)
def reptile(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    num_inner_steps: PositiveInt = 3,
    episodes_per_task: PositiveInt = 20,
    task_chunk: TaskChunk = None,
    **inner: Any,
) -> MetaAlgorithm:
    """Reptile: ``theta <- theta - optimizer(theta - phi_K)``, where each inner step has fresh data.

    With one inner step this is joint training on all tasks. The paper reports no success in reinforcement learning;
    compare with ``pretraining``.

    Args:
      num_inner_steps: K, gradient steps on each task; more than one.
      episodes_per_task: B, episodes per task in each of the K + 1 stages; the last one only measures.
      task_chunk: collect and replay at most this many tasks at a time, to save memory; if left out, all on
        accelerators and what fits the cache on CPUs; ``auto``: as many as fit the memory.
      **inner: of :func:`metarl_jax.inner.make_inner_loop`.

    Raises:
      ValueError: if the inner rule has parameters to learn.

    Example:
      >>> import metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=10)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = reptile(family, policy, optax.sgd(0.5), episodes_per_task=4)
    """
    loop = make_inner_loop(
        family, policy, num_inner_steps=num_inner_steps, episodes_per_task=episodes_per_task, **inner
    )
    outer_step = reptile_outer_step(loop, optimizer, task_chunk)
    at_once = collect_chunk(family, task_chunk, episodes_per_task)
    algorithm = gradient_based(policy, loop, outer_step, optimizer.init, collect_at_once=at_once)
    return without_learned_rule(algorithm, inner, "no gradient reaches a rule's own parameters in Reptile")
