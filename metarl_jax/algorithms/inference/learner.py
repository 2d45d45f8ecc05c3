"""How the inference is learned: steps of Adam on trials from the replay."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.inference.elbo import Elbo, negative_elbo
from metarl_jax.algorithms.inference.replay import Experience, recall
from metarl_jax.ops.optimise import minimise_over
from metarl_jax.types import Array, Info, Key, Params, PyTree


class Learner(NamedTuple):
    """What learns to infer.

    Attributes:
      elbo: what it maximises.
      optimizer: by which.
      num_steps: in each update.
    """

    elbo: Elbo
    optimizer: optax.GradientTransformation
    num_steps: int


def make_learner(
    elbo: Elbo, num_steps: int, learning_rate: Array | float, max_grad_norm: Array | float | None
) -> Learner:
    """A learner by Adam, whose gradients are clipped to a length, if there is one."""
    clip = optax.identity() if max_grad_norm is None else optax.clip_by_global_norm(max_grad_norm)
    return Learner(elbo, optax.chain(clip, optax.adam(learning_rate)), num_steps)


def learn(
    learner: Learner,
    params: Params,
    opt_state: PyTree,
    replay: Experience,
    keys: Key,
    update: Array,
    axis_name: str | None = None,
) -> tuple[Params, PyTree, Info]:
    """Take the steps of an update, each on one kept trial of every column.

    Args:
      learner: see there.
      params: of the bound.
      opt_state: of ``learner.optimizer``.
      replay: ``[N, R, ...]``, the trials of this update among them.
      keys: ``[N]``, of the columns: what is drawn does not depend on the devices that share them.
      update: ``[]`` how many updates there were before.
      axis_name: mapped device axis, or None.

    Returns:
      Parameters, optimiser state, and the first step's info: ``elbo`` and its parts.
    """

    def value_and_grad(params: Params, keys: Key) -> tuple[tuple[Array, Info], Params]:
        key_trial, key_loss = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        experience = recall(replay, key_trial, update)
        return jax.value_and_grad(negative_elbo, argnums=1, has_aux=True)(
            learner.elbo, params, experience, key_loss, axis_name
        )

    keys_of_steps = jax.vmap(lambda key: jax.random.split(key, learner.num_steps), out_axes=1)(keys)
    params, opt_state, infos = minimise_over(
        value_and_grad, params, opt_state, learner.optimizer, keys_of_steps, axis_name
    )
    first = jax.tree.map(lambda x: x[0], infos)
    return params, opt_state, {name: x for name, x in first.items() if name not in ("loss", "grad_norm")}
