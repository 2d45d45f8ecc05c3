"""What a meta-iteration consists of, as programs of their own."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax.algorithms.gradient.assembly import gradient_chunk
from metarl_jax.collect.randomness import fold_in_each, stream
from metarl_jax.collect.rollout import rollout
from metarl_jax.config import hyperparameters
from metarl_jax.ops import trees
from metarl_jax.ops.returns import masked_mean
from metarl_jax.runs.build import Experiment, declared_adaptation
from metarl_jax.types import (
    ActionSpec,
    Array,
    Batch,
    Info,
    Key,
    Params,
    PyTree,
    Task,
    TaskFamily,
    TrainState,
    Trajectory,
)

Part = Callable[[TrainState], PyTree]
OfTask = Callable[[Task, Key], PyTree]
Stages = tuple[Batch, ...]
Derivative = Callable[[tuple[Params, Stages]], PyTree]


def tasks_and_keys(experiment: Experiment, step: Array) -> tuple[Task, Key]:
    """A meta-batch of tasks, and a key for each."""
    indices = jnp.arange(experiment.config.training.meta_batch_size)
    keys = fold_in_each(jax.random.fold_in(stream(experiment.config.seed, "training"), step), indices)
    return jax.vmap(experiment.family.sample)(keys), keys


def update_once(experiment: Experiment, state: TrainState) -> tuple[TrainState, Info]:
    """One meta-iteration on one device, tasks drawn and all; to be compiled."""
    return experiment.algorithm.update(state, *tasks_and_keys(experiment, state.step))


def make_parts(experiment: Experiment) -> dict[str, Part]:
    """Parts of an update's work that hold each other, smallest first.

    Args:
      experiment: what is trained.

    Returns:
      By name: the ``physics`` of all stages; the ``rollout``, in which the policy acts; if the method adapts by
      gradient steps, the ``scored`` stages, with advantages; if it adapts in training, all of ``adapt``.

    Raises:
      ConfigError: if the method does not declare how it adapts.
    """
    config, family, policy, algorithm, *_ = experiment
    adaptation, num_episodes = declared_adaptation(config, algorithm), config.training.episodes_per_task

    def blind(_: Params, task: Task, key: Key) -> PyTree:
        return play_blindly(family, task, key, num_episodes)

    def acting(params: Params, task: Task, key: Key) -> PyTree:
        return _sums(rollout(family, policy, params, task, key, num_episodes))

    parts: dict[str, Part] = {
        "physics": partial(_over_stages, experiment, blind),
        "rollout": partial(_over_stages, experiment, acting),
    }
    collect = adaptation.with_budget(0, num_episodes, "constant").collect
    if algorithm.collect is not None and collect is not None:

        def scoring(params: Params, task: Task, key: Key) -> PyTree:
            _, (batch,) = collect(params, task, key)
            return _sums(batch.trajectory), batch.advantage.sum(), batch.value_target.sum()

        parts["scored"] = partial(_over_stages, experiment, scoring)
    if adaptation.trained > 0:
        parts["adapt"] = partial(_adapt, experiment)
    return parts


def _sums(played: Trajectory) -> PyTree:
    """Little, but of everything that an episode computes, so that XLA leaves nothing out."""
    return jax.tree.map(jnp.sum, (played.reward, played.log_prob, played.percept.observation))


def _over_stages(experiment: Experiment, of_stage: Callable[[Params, Task, Key], PyTree], state: TrainState) -> PyTree:
    """As many stages as an update has, of all its tasks, all with the parameters before adaptation."""
    tasks, keys = tasks_and_keys(experiment, state.step)

    def one_stage(k: Array) -> PyTree:
        def of_task(one: tuple[Task, Key]) -> PyTree:
            return of_stage(state.params, one[0], jax.random.fold_in(one[1], k))

        return trees.over_tasks(of_task, (tasks, keys), experiment.algorithm.tasks_at_once)

    num_stages = declared_adaptation(experiment.config, experiment.algorithm).stages_per_update
    return jax.lax.map(one_stage, jnp.arange(num_stages))


def _adapt(experiment: Experiment, state: TrainState) -> PyTree:
    algorithm = experiment.algorithm

    def of_task(one: tuple[Task, Key]) -> PyTree:
        return algorithm.adapt(state.params, *one)

    return trees.over_tasks(of_task, tasks_and_keys(experiment, state.step), algorithm.tasks_at_once)


def play_blindly(family: TaskFamily, task: Task, key: Key, num_episodes: int) -> tuple[Array, Array]:
    """The environment alone: whole episodes, each of one random action that is held; nothing ends them early.

    Args:
      family: where the task comes from.
      task: one task.
      key: of everything random.
      num_episodes: ``B``.

    Returns:
      The sums of rewards and of observations, ``[T]`` each.

    Example:
      >>> from metarl_jax.tasks.navigation.goals import navigation_finn
      >>> family = navigation_finn(horizon=5)
      >>> play_blindly(family, family.sample(jax.random.key(0)), jax.random.key(1), 3)[0].shape
      (5,)
    """
    key_reset, key_action, key_steps = jax.random.split(key, 3)
    start, _ = jax.vmap(family.reset, in_axes=(None, 0))(task, jax.random.split(key_reset, num_episodes))
    action = _random_actions(family.action, key_action, num_episodes)

    def step(state: PyTree, t: Array) -> tuple[PyTree, tuple[Array, Array]]:
        keys = jax.random.split(jax.random.fold_in(key_steps, t), num_episodes)
        state, observation, reward, _ = jax.vmap(family.step, in_axes=(None, 0, 0, 0))(task, state, action, keys)
        return state, (jnp.sum(reward), jnp.sum(observation))

    return jax.lax.scan(step, start, jnp.arange(family.horizon))[1]


def _random_actions(action: ActionSpec, key: Key, number: int) -> Array:
    if action.discrete:
        return jax.random.randint(key, (number,), 0, action.size)
    return jax.random.uniform(key, (number, action.size), minval=-1.0)


def blank_stages(experiment: Experiment) -> Stages | None:
    """Stages of a meta-batch, ``[M, ...]``, all of ones: what a derivative costs does not depend on the numbers.

    Args:
      experiment: what is trained.

    Returns:
      The stages; None of a method without gradient steps.
    """
    algorithm, family = experiment.algorithm, experiment.family
    collect = algorithm.collect
    if collect is None or algorithm.replay is None:
        return None

    def stages(key: Key) -> Stages:
        return collect(algorithm.init(key).params, family.sample(key), key)[1]

    shape = (experiment.config.training.meta_batch_size,)
    one = jax.eval_shape(stages, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.ones(shape + leaf.shape, leaf.dtype), one)


def make_derivatives(experiment: Experiment) -> dict[str, Derivative]:
    """Derivatives of the policy gradient's loss on the last stage, of each task of a meta-batch.

    Args:
      experiment: of a method with ``replay``.

    Returns:
      By name, functions of the parameters and stages ``[M, ...]``: the ``gradient``; a Hessian-vector
      product (``hvp``); if training adapts, the meta-gradient of ``first_order``, which holds the inner steps for
      constants, and of ``second_order``, which is exact unless the method itself is of first order.
    """
    algorithm, config = experiment.algorithm, experiment.config
    adaptation = declared_adaptation(config, algorithm)
    plain = adaptation.with_budget(0, config.training.episodes_per_task, "constant").replay
    replay = algorithm.replay
    assert plain is not None
    assert replay is not None

    def loss(params: Params, stages: Stages) -> Array:
        return _loss(plain(params, stages[-1:])[1], stages)

    def of_adapted(params: Params, stages: Stages) -> Array:
        return _loss(replay(params, stages)[1], stages)

    gradient = jax.grad(loss)
    of_task: dict[str, Callable[[Params, Stages], PyTree]] = {
        "gradient": gradient,
        "hvp": lambda params, stages: jax.jvp(lambda x: gradient(x, stages), (params,), (params,))[1],
    }
    if adaptation.trained > 0:
        of_task["first_order"] = lambda params, stages: gradient(replay(params, stages)[0], stages)
        of_task["second_order"] = jax.grad(of_adapted)
    chunk = gradient_chunk({**hyperparameters(config.algorithm), **experiment.hyper}.get("task_chunk"))
    return {name: partial(_mean_over_tasks, one, chunk) for name, one in of_task.items()}


def _loss(evaluations: Any, stages: Stages) -> Array:
    last = stages[-1]
    return -masked_mean(evaluations[-1].log_prob * last.advantage, last.trajectory.mask)


def _mean_over_tasks(
    of_task: Callable[[Params, Stages], PyTree], chunk: int | None, given: tuple[Params, Stages]
) -> PyTree:
    params, stages = given
    return trees.mean_over_tasks(trees.over_tasks(lambda one: of_task(params, one), stages, chunk))
