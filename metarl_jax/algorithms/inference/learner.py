"""How the inference is learned: steps of Adam on trials from the replay."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.inference.elbo import DECODER, Elbo, negative_elbo
from metarl_jax.algorithms.inference.novelty import NOVELTY, Novelty
from metarl_jax.algorithms.inference.replay import Experience, recall
from metarl_jax.ops.distributions import GaussianParams
from metarl_jax.ops.optimise import minimise_over
from metarl_jax.ops.returns import device_weight, masked_mean
from metarl_jax.types import Array, Info, Key, Params, Percept, PyTree


class Learner(NamedTuple):
    """What learns to infer.

    Attributes:
      infer: ``(params, percept [T + 1, N, ...]) -> belief``.
      elbo: what it maximises.
      novelty: whose predictor is trained along with it, on the same beliefs; None without one.
      optimizer: by which.
      num_steps: in each update.
    """

    infer: Callable[[Params, Percept], GaussianParams]
    elbo: Elbo
    novelty: Novelty | None
    optimizer: optax.GradientTransformation
    num_steps: int


def clipped_adam(
    learning_rate: Array | float, max_grad_norm: Array | float | None, decay_steps: int | None
) -> optax.GradientTransformation:
    """Adam, on gradients clipped to a length, by a step size that falls linearly to zero; neither if None."""
    clip = optax.identity() if max_grad_norm is None else optax.clip_by_global_norm(max_grad_norm)
    if decay_steps is None:
        return optax.chain(clip, optax.adam(learning_rate))
    return optax.chain(clip, optax.adam(optax.linear_schedule(learning_rate, 0.0, decay_steps)))


def learn(
    learner: Learner,
    params: Params,
    others: Params,
    opt_state: PyTree,
    replay: Experience,
    keys: Key,
    update: Array,
    axis_name: str | None = None,
) -> tuple[Params, PyTree, Info]:
    """Take the steps of an update, each on one kept trial of every column.

    Args:
      learner: see there.
      params: of what infers.
      others: of the rest of the policy, constants: what it counts of observations is among them.
      opt_state: of ``learner.optimizer``.
      replay: ``[N, R, ...]``, the trials of this update among them.
      keys: ``[N]``, of the columns: what is drawn does not depend on the devices that share them.
      update: ``[]`` how many updates there were before.
      axis_name: mapped device axis, or None.

    Returns:
      Parameters, optimiser state, and the first step's info: ``elbo`` and its parts.
    """

    def loss(params: Params, experience: Experience, keys: Key) -> tuple[Array, Info]:
        belief = learner.infer({**others, **params}, experience.percept)
        bound, info = negative_elbo(learner.elbo, params[DECODER], belief, experience, keys, axis_name)
        if learner.novelty is None:
            return bound, info
        error = learner.novelty.error(params[NOVELTY], *jax.tree.map(lambda x: x[1:], (experience.percept, belief)))
        return bound + device_weight(experience.mask, axis_name) * masked_mean(error, experience.mask), info

    def value_and_grad(params: Params, keys: Key) -> tuple[tuple[Array, Info], Params]:
        key_trial, key_loss = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        return jax.value_and_grad(loss, has_aux=True)(params, recall(replay, key_trial, update), key_loss)

    keys_of_steps = jax.vmap(lambda key: jax.random.split(key, learner.num_steps), out_axes=1)(keys)
    params, opt_state, infos = minimise_over(
        value_and_grad, params, opt_state, learner.optimizer, keys_of_steps, axis_name
    )
    first = jax.tree.map(lambda x: x[0], infos)
    return params, opt_state, {name: x for name, x in first.items() if name not in ("loss", "grad_norm")}
