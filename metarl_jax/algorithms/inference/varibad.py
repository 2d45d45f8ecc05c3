"""VariBAD: infer a belief about the task, and act on it (Zintgraf et al., 2020)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.adaptation import adapts
from metarl_jax.algorithms.gradient.assembly import collect_chunk
from metarl_jax.algorithms.inference.decoders import Form
from metarl_jax.algorithms.inference.elbo import Elbo, negative_elbo
from metarl_jax.algorithms.inference.model import RewardModel, Shown, make_model
from metarl_jax.algorithms.inference.replay import blank_replay, experience_of, recall, record
from metarl_jax.algorithms.memory.core import by_episodes, memory_based
from metarl_jax.algorithms.memory.ppo import PPO, make_ppo, ppo_epochs
from metarl_jax.checks import Traced, checked, passes_on
from metarl_jax.collect.rollout import rollout_trial
from metarl_jax.networks.belief import ENCODER
from metarl_jax.ops.optimise import minimise_over
from metarl_jax.types import (
    Array,
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

DECODER = "decoder"


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
    decoder: Form = "joint",
    decoder_sizes: tuple[PositiveInt, ...] = (64, 32),
    reward_model: RewardModel = "gaussian",
    reward_given: tuple[Shown, ...] = ("state", "action", "next_state"),
    transition_coef: Traced[PositiveFloat] | None = None,
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
    """VariBAD: a policy acts on its belief about the task, which a variational autoencoder of trials infers.

    Args:
      meta_batch_size: tasks of an update, over all devices.
    """
    require(policy.belief is not None, "policy", "without a belief", "set policy.name to belief")
    model = make_model(
        family,
        policy.belief.size,
        form=decoder,
        hidden_sizes=decoder_sizes,
        reward_model=reward_model,
        reward_given=reward_given,
        transition_coef=transition_coef,
    )
    elbo = Elbo(policy.belief.infer, model, family.action, kl_weight, num_contexts, num_decoded)
    clip = optax.identity() if inference_max_grad_norm is None else optax.clip_by_global_norm(inference_max_grad_norm)
    learner = optax.chain(clip, optax.adam(inference_lr))
    settings = make_ppo(
        lambda params, seen: policy.belief.decide(params, *seen), policy.distribution, optimizer, **ppo
    )

    def init(key: Key) -> Params:
        key_policy, key_decoder = jax.random.split(key)
        return {**policy.init(key_policy), DECODER: model.init(key_decoder)}

    def init_opt_state(params: Params) -> PyTree:
        inferring, acting = _apart(params)
        return {"policy": optimizer.init(acting), "inference": learner.init(inferring)}

    def init_local() -> PyTree:
        def trials(key: Key):
            params = policy.init(key)
            return experience_of(rollout_trial(family, policy, params, family.sample(key), key, episodes_per_trial, 1)[0])

        shapes = jax.eval_shape(trials, jax.random.key(0))
        return blank_replay(shapes, meta_batch_size * episodes_per_task, replay_updates)

    def trial_step(state, trials, keys, axis_name):
        inferring, acting = _apart(state.params)
        belief = jax.lax.stop_gradient(policy.belief.infer(state.params, trials.percept))
        seen = trials._replace(percept=(trials.percept, belief))
        acting, opt_policy, aux, info = ppo_epochs(
            settings, acting, state.opt_state["policy"], state.aux, seen, keys[0], state.step, axis_name
        )
        local = record(state.local, experience_of(trials), state.step)
        columns = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, 1), (episodes_per_task, inference_steps)))(keys)
        columns = columns.reshape(-1, inference_steps).T

        def value_and_grad(params, keys):
            key_trial, key_loss = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
            experience = recall(local, key_trial, state.step)
            loss = lambda params: negative_elbo(elbo, params, params[DECODER], experience, key_loss, axis_name)
            return jax.value_and_grad(loss, has_aux=True)(params)
        inferring, opt_inf, infos = minimise_over(value_and_grad, inferring, state.opt_state["inference"], learner, columns, axis_name)
        first = jax.tree.map(lambda x: x[0], infos)
        info = {**info, **{k: v for k, v in first.items() if k not in ("loss", "grad_norm")}, "elbo": -first["loss"]}
        return state._replace(params={**acting, **inferring}, opt_state={"policy": opt_policy, "inference": opt_inf}, aux=aux, local=local), info

    return memory_based(
        family,
        policy._replace(init=init),
        trial_step,
        episodes_per_trial=episodes_per_trial,
        episodes_per_task=episodes_per_task,
        init_opt_state=init_opt_state,
        init_aux=settings.no_moments,
        init_local=init_local,
        collect_at_once=collect_chunk(family, task_chunk, episodes_per_task),
    )


def _apart(params: Params) -> tuple[Params, Params]:
    """What infers, and what acts."""
    inferring = {name: params[name] for name in (ENCODER, DECODER)}
    return inferring, {name: part for name, part in params.items() if name not in inferring}
