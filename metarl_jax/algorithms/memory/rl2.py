"""RL^2: a recurrent policy learns to learn across the episodes of a trial (Duan et al., 2016), trained by PPO."""

from typing import Any

import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.assembly import collect_chunk
from metarl_jax.algorithms.memory.core import by_episodes, memory_based
from metarl_jax.algorithms.memory.ppo import make_ppo, ppo_epochs
from metarl_jax.algorithms.memory.views import make_chunks, make_evaluate
from metarl_jax.checks import checked, passes_on
from metarl_jax.types import (
    Info,
    Key,
    MetaAlgorithm,
    Policy,
    PositiveInt,
    TaskChunk,
    TaskFamily,
    TrainState,
    Trajectory,
    require,
)


@checked
@passes_on(make_ppo)
@adapts(by_episodes)
def rl2(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    episodes_per_trial: PositiveInt = 2,
    episodes_per_task: PositiveInt = 1,
    bptt_length: PositiveInt | None = None,
    chunk_length: PositiveInt | None = None,
    task_chunk: TaskChunk = None,
    **ppo: Any,
) -> MetaAlgorithm:
    """RL^2 with PPO: the memory of a recurrent policy lasts for a trial of several episodes on one task.

    The policy sees its previous action and reward and where episodes begin; whatever it needs to know of the task it
    has to find out and remember. Advantages run over the whole trial, so exploring in the first episode is credited
    with what is earned in the last.

    Args:
      policy: what is trained; it needs a memory and a critic.
      episodes_per_trial: n, episodes of a trial.
      episodes_per_task: B, trials of each task, side by side; each has its own memory.
      bptt_length: stop gradients through the memory every so many steps; back-propagate through whole trials if left
        out.
      chunk_length: learn from chunks of this many steps, each with what was remembered at its start when the data were
        collected, which gets no gradient; minibatches are of chunks. So time and memory of an optimiser step do not
        grow with the trial. With ``bptt_length`` they do, as whole trials are read again with the parameters of every
        step. Whole trials if left out.
      task_chunk: collect at most this many tasks at a time, to save memory; if left out, all on accelerators and what
        fits the cache on CPUs; ``auto``: as many as fit the memory.
      **ppo: of :func:`metarl_jax.algorithms.memory.ppo.make_ppo`.

    Returns:
      The algorithm; its ``TrainState.aux`` is :class:`Moments` if rewards are normalised, else ``()``.

    Raises:
      ValueError: if the policy has no memory or no critic.

    Example:
      >>> import jax, metarl_jax as mrl
      >>> family = mrl.tasks.bandit_bernoulli()
      >>> policy = mrl.networks.recurrent_policy(family.observation_shape, family.action, hidden_size=8)
      >>> algorithm = rl2(family, policy, optax.adam(1e-3), episodes_per_trial=10)
      >>> state = algorithm.init(jax.random.key(0))
      >>> tasks = jax.vmap(family.sample)(jax.random.split(jax.random.key(1), 8))
      >>> state, info = jax.jit(algorithm.update)(state, tasks, jax.random.split(jax.random.key(2), 8))
      >>> info["return"].shape
      (10,)
    """
    evaluate = make_evaluate(policy, bptt_length)
    require(policy.has_critic, "policy", "without a critic", "the advantages need one: set policy.name to recurrent")
    chunks = None if chunk_length is None else make_chunks(policy, chunk_length, bptt_length)
    settings = make_ppo(evaluate, policy.distribution, optimizer, chunks, **ppo)

    def trial_step(state: TrainState, trials: Trajectory, keys: Key, axis_name: str | None) -> tuple[TrainState, Info]:
        params, opt_state, aux, info = ppo_epochs(
            settings, state.params, state.opt_state, state.aux, trials, keys[0], state.step, axis_name
        )
        return state._replace(params=params, opt_state=opt_state, aux=aux), info

    return memory_based(
        family,
        policy,
        trial_step,
        episodes_per_trial=episodes_per_trial,
        episodes_per_task=episodes_per_task,
        init_opt_state=optimizer.init,
        init_aux=settings.no_moments,
        collect_at_once=collect_chunk(family, task_chunk, episodes_per_task),
    )
