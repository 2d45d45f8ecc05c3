"""VariBAD: infer a belief about the task, and act on it (Zintgraf et al., 2020)."""

from typing import Any, NamedTuple

import jax
import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.assembly import collect_chunk
from metarl_jax.algorithms.inference.decoders import Form
from metarl_jax.algorithms.inference.elbo import DECODER, Elbo
from metarl_jax.algorithms.inference.learner import Learner, learn, make_learner
from metarl_jax.algorithms.inference.model import Given, RewardModel, make_model
from metarl_jax.algorithms.inference.replay import Experience, blank_replay, experience_of, record
from metarl_jax.algorithms.memory.core import by_episodes, memory_based
from metarl_jax.algorithms.memory.ppo import PPO, make_ppo, ppo_epochs
from metarl_jax.checks import Traced, checked, passes_on
from metarl_jax.collect.rollout import rollout_trial
from metarl_jax.networks.belief import ENCODER
from metarl_jax.types import (
    Belief,
    Info,
    Key,
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
    Trajectory,
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
    transition_coef: Traced[PositiveFloat] | None = None,
    decoder: Form = "joint",
    decoder_sizes: tuple[PositiveInt, ...] = (64, 32),
    kl_weight: Traced[NonNegativeFloat] = 0.1,
    num_contexts: PositiveInt | None = None,
    num_decoded: PositiveInt | None = None,
    inference_lr: Traced[PositiveFloat] = 1e-3,
    inference_steps: PositiveInt = 3,
    inference_max_grad_norm: Traced[PositiveFloat] | None = None,
    replay_updates: PositiveInt = 25,
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
      transition_coef: weight of telling the next state from state and action; not told if left out.
      decoder: ``joint``: a network of the latent and the step; ``product``: the inner product of a network of each,
        which is cheaper and suits what differs from cell to cell.
      decoder_sizes: widths of the decoders' hidden layers; relu.
      kl_weight: of the divergence of each belief from the one before, beside the errors of all steps of a trial.
      num_contexts: beliefs of a trial that are decoded, drawn anew each time; all if left out.
      num_decoded: steps of a trial that are told from each; all if left out.
      inference_lr: step size of the inference's Adam.
      inference_steps: its steps in each update, each on one kept trial of every trial that an update collects.
      inference_max_grad_norm: its gradients are clipped to this length; not at all if left out.
      replay_updates: how many updates' trials are kept. They are a part of the training state, in memory and in
        checkpoints.
      task_chunk: collect at most this many tasks at a time, to save memory; if left out, all on accelerators and what
        fits the cache on CPUs; ``auto``: as many as fit the memory.
      **ppo: of :func:`metarl_jax.algorithms.memory.ppo.make_ppo`.

    Returns:
      The algorithm. Beside the policy's parameters are those of the ``"decoder"``; ``TrainState.local`` is the replay.

    Raises:
      ValueError: if the policy has no belief.

    Example:
      >>> import metarl_jax as mrl
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
        transition_coef=transition_coef,
    )
    elbo = Elbo(belief.infer, model, family.action, kl_weight, num_contexts, num_decoded)
    method = _Method(
        belief,
        make_ppo(lambda params, seen: belief.decide(params, *seen), policy.distribution, optimizer, **ppo),
        make_learner(elbo, inference_steps, inference_lr, inference_max_grad_norm),
        episodes_per_task,
    )

    def init_params(key: Key) -> Params:
        key_policy, key_decoder = jax.random.split(key)
        return {**policy.init(key_policy), DECODER: model.init(key_decoder)}

    def init_local() -> Experience:
        def kept(key: Key) -> Experience:
            task, params = family.sample(key), policy.init(key)
            return experience_of(rollout_trial(family, policy, params, task, key, episodes_per_trial, 1)[0])

        return blank_replay(
            jax.eval_shape(kept, jax.random.key(0)), meta_batch_size * episodes_per_task, replay_updates
        )

    return memory_based(
        family,
        policy._replace(init=init_params),
        method.step,
        episodes_per_trial=episodes_per_trial,
        episodes_per_task=episodes_per_task,
        init_opt_state=method.init_opt_state,
        init_aux=method.ppo.no_moments,
        init_local=init_local,
        collect_at_once=collect_chunk(family, task_chunk, episodes_per_task),
    )


class _Method(NamedTuple):
    """What acts and what infers, and how each is trained."""

    belief: Belief
    ppo: PPO
    learner: Learner
    episodes_per_task: int

    def init_opt_state(self, params: Params) -> PyTree:
        inferring, acting = _apart(params)
        return {"policy": self.ppo.optimizer.init(acting), "inference": self.learner.optimizer.init(inferring)}

    def step(self, state: TrainState, trials: Trajectory, keys: Key, axis_name: str | None) -> tuple[TrainState, Info]:
        """PPO with the beliefs that acted, as data; then the inference learns, from these trials and kept ones."""
        inferring, acting = _apart(state.params)
        opt_state = dict(state.opt_state)
        experience = experience_of(trials)
        believed = jax.lax.stop_gradient(self.belief.infer(inferring, trials.percept))
        acting, opt_state["policy"], aux, info = ppo_epochs(
            self.ppo,
            acting,
            opt_state["policy"],
            state.aux,
            trials._replace(percept=(trials.percept, believed)),
            keys[0],
            state.step,
            axis_name,
        )
        replay = record(state.local, experience, state.step)
        inferring, opt_state["inference"], learned = learn(
            self.learner, inferring, opt_state["inference"], replay, self._keys(keys), state.step, axis_name
        )
        new_state = TrainState({**acting, **inferring}, opt_state, aux, state.step, replay)
        return new_state, {**info, **learned}

    def _keys(self, keys: Key) -> Key:
        """One for each trial of each task."""
        of_task = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, 1), self.episodes_per_task))
        return of_task(keys).reshape(-1)


def _apart(params: Params) -> tuple[Params, Params]:
    """What infers, and what acts."""
    inferring = {name: params[name] for name in (ENCODER, DECODER)}
    return inferring, {name: part for name, part in params.items() if name not in inferring}
