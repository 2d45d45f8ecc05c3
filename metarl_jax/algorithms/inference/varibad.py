"""VariBAD: infer a belief about the task, and act on it (Zintgraf et al., 2020)."""

from functools import partial
from typing import Any

import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.assembly import collect_chunk
from metarl_jax.algorithms.inference.bonuses import SURPRISE, make_bonuses
from metarl_jax.algorithms.inference.decoders import Form
from metarl_jax.algorithms.inference.elbo import Elbo
from metarl_jax.algorithms.inference.learner import Learner, clipped_adam
from metarl_jax.algorithms.inference.method import Method
from metarl_jax.algorithms.inference.model import Given, RewardModel, Weights, make_model
from metarl_jax.algorithms.inference.novelty import NOVELTY, make_novelty
from metarl_jax.algorithms.inference.replay import blank_replay
from metarl_jax.algorithms.memory.core import by_episodes, memory_based
from metarl_jax.algorithms.memory.ppo import make_ppo
from metarl_jax.algorithms.memory.views import memoryless_chunks
from metarl_jax.checks import Traced, checked, passes_on
from metarl_jax.networks.memoryless import num_public
from metarl_jax.types import (
    Array,
    Belief,
    MetaAlgorithm,
    NonNegativeFloat,
    Params,
    Policy,
    PositiveFloat,
    PositiveInt,
    PyTree,
    TaskChunk,
    TaskFamily,
    require,
)


@checked
@passes_on(make_ppo)
@adapts(by_episodes)
def varibad(
    family: TaskFamily,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    meta_batch_size: PositiveInt,
    episodes_per_trial: PositiveInt = 2,
    episodes_per_task: PositiveInt = 1,
    reward_model: RewardModel = "gaussian",
    reward_given: tuple[Given, ...] = ("state", "action", "next_state"),
    reward_coef: Traced[PositiveFloat] | None = 1.0,
    transition_coef: Traced[PositiveFloat] | None = None,
    task_coef: Traced[PositiveFloat] | None = None,
    decoder: Form = "joint",
    decoder_sizes: tuple[PositiveInt, ...] = (64, 32),
    kl_weight: Traced[NonNegativeFloat] = 0.1,
    num_contexts: PositiveInt | None = None,
    num_decoded: PositiveInt | None = None,
    inference_lr: Traced[PositiveFloat] = 1e-3,
    inference_decay_updates: PositiveInt | None = None,
    inference_steps: PositiveInt = 3,
    inference_max_grad_norm: Traced[PositiveFloat] | None = None,
    replay_updates: PositiveInt = 25,
    novelty_coef: Traced[PositiveFloat] | None = None,
    surprise_coef: Traced[PositiveFloat] | None = None,
    bonus_decay_updates: PositiveInt | None = None,
    chunk_length: PositiveInt | None = None,
    task_chunk: TaskChunk = None,
    **ppo: Any,
) -> MetaAlgorithm:
    """VariBAD: a policy that acts on its belief about the task, and a variational autoencoder of trials that infers it.

    The belief is a Gaussian over a latent, from which decoders have to tell the rewards of the whole trial, those to
    come included. Its parameters are the autoencoder's alone: PPO trains what acts on it, with an optimiser of its own,
    and no gradient of the return reaches the inference. That is trained on a replay of trials.

    Args:
      policy: what is trained; it needs a belief.
      meta_batch_size: tasks of an update, over all devices; ``training.meta_batch_size``.
      episodes_per_trial: n, episodes of a trial.
      episodes_per_task: B, trials of each task, side by side.
      reward_model: what is told of a reward: ``gaussian``, its size, by squared error; ``bernoulli``, whether it is
        positive.
      reward_given: what the reward is told from, beside the latent. The next state of an episode's last step is not
        known: without ``next_state`` that reward is told too.
      reward_coef: weight of telling the rewards; not told if null.
      transition_coef: of telling the next state from state and action; not told if left out.
      task_coef: of telling the task's numbers from the latent alone, counted at each step as the others are; needs
        ``tasks.critic_oracle``. With ``reward_coef: null``, belief supervision (Humplik et al., 2019). Not told if left
        out.
      decoder: ``joint``: a network of the latent and the step; ``product``: the inner product of a network of each,
        which is cheaper and suits what differs from cell to cell.
      decoder_sizes: widths of the decoders' hidden layers; relu.
      kl_weight: of the divergence of each belief from the one before, beside the errors of all steps of a trial.
      num_contexts: beliefs of a trial that are decoded, drawn anew each time; all if left out.
      num_decoded: steps of a trial that are told from each; all if left out.
      inference_lr: step size of the inference's Adam.
      inference_decay_updates: over so many updates it falls linearly to zero; constant if left out.
      inference_steps: its steps in each update, each on one kept trial of every trial that an update collects.
      inference_max_grad_norm: its gradients are clipped to this length; not at all if left out.
      replay_updates: how many updates' trials are kept. They are a part of the training state, in memory and in
        checkpoints.
      novelty_coef: weight of a bonus for states with beliefs that were rarely seen, by random network distillation; as
        the next, in units of its running standard deviation. None if left out.
      surprise_coef: weight of a bonus for steps that are told badly from the belief before them.
      bonus_decay_updates: over so many updates both weights fall linearly to zero; constant if left out.
      chunk_length: PPO's minibatches are of stretches of this many steps, of any trials; 1: of steps, as in its
        authors' code. To what acts, a step and its belief are all there is: nothing is lost. Of whole trials if left
        out.
      task_chunk: collect at most this many tasks at a time, to save memory; if left out, all on accelerators and what
        fits the cache on CPUs; ``auto``: as many as fit the memory.
      **ppo: of :func:`metarl_jax.algorithms.memory.ppo.make_ppo`.

    Returns:
      The algorithm. Beside the policy's parameters are those of the ``"decoder"``; ``TrainState.local`` is the replay.

    Raises:
      ValueError: if the policy has no belief, or there is nothing that it has to tell.

    Example:
      >>> import jax, metarl_jax as mrl
      >>> family = mrl.tasks.navigation_finn(horizon=5)
      >>> policy = mrl.networks.belief_policy(family.observation_shape, family.action, hidden_size=8)
      >>> algorithm = varibad(family, policy, optax.adam(1e-3), meta_batch_size=4, replay_updates=3)
      >>> jax.eval_shape(algorithm.init, jax.random.key(0)).local.mask.shape
      (4, 3, 10)
    """
    belief = policy.belief
    require(belief is not None, "policy", "without a belief", "there is nothing to infer: set policy.name to belief")
    assert belief is not None  # for the type checker
    model = make_model(
        family,
        belief.size,
        form=decoder,
        hidden_sizes=decoder_sizes,
        reward_model=reward_model,
        reward_given=reward_given,
        weights=Weights(reward_coef, transition_coef, task_coef),
    )
    size = num_public(family.observation_shape, family.privileged_size)
    novelty = None if novelty_coef is None else make_novelty(size, belief.size)
    decay_steps = None if inference_decay_updates is None else inference_decay_updates * inference_steps
    coefs = {NOVELTY: novelty_coef, SURPRISE: surprise_coef}
    evaluate = partial(_evaluate, belief)
    chunks = None if chunk_length is None else memoryless_chunks(evaluate, chunk_length)
    method = Method(
        belief,
        make_ppo(evaluate, policy.distribution, optimizer, chunks, **ppo),
        Learner(
            belief.infer,
            Elbo(model, family.action, kl_weight, num_contexts, num_decoded),
            novelty,
            clipped_adam(inference_lr, inference_max_grad_norm, decay_steps),
            inference_steps,
        ),
        make_bonuses(coefs, bonus_decay_updates, novelty, model, family.action),
        episodes_per_task,
    )
    num_columns = meta_batch_size * episodes_per_task
    return memory_based(
        family,
        policy._replace(init=partial(method.init_params, policy.init)),
        method.step,
        episodes_per_trial=episodes_per_trial,
        episodes_per_task=episodes_per_task,
        init_opt_state=method.init_opt_state,
        init_aux=method.init_aux,
        init_local=partial(blank_replay, family, policy, episodes_per_trial, num_columns, replay_updates),
        collect_at_once=collect_chunk(family, task_chunk, episodes_per_task),
    )


def _evaluate(belief: Belief, params: Params, shown: Any) -> tuple[PyTree, Array]:
    """The half that acts, on trials whose beliefs are data; ``shown`` is a :class:`Shown` of them."""
    return belief.decide(params, *shown)
