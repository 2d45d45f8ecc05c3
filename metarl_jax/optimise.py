"""Several epochs of one loss with an optax optimiser, on one device or many."""

from collections.abc import Callable

import jax
import optax

from metarl_jax.ops import trees
from metarl_jax.types import Array, Info, Params, PyTree

ValueAndGrad = Callable[[Params], tuple[tuple[Array, Info], Params]]


def minimise(
    value_and_grad: ValueAndGrad,
    params: Params,
    opt_state: PyTree,
    optimizer: optax.GradientTransformation,
    num_epochs: int,
    axis_name: str | None = None,
) -> tuple[Params, PyTree, Info]:
    """Take ``num_epochs`` full-batch steps; the local loss is differentiated, then gradients are averaged.

    Args:
      value_and_grad: ``params -> ((loss [], info), gradient)`` over this device's share of the data.
      params: where to start.
      opt_state: the optimiser's state.
      optimizer: any optax transformation.
      num_epochs: steps on the same data.
      axis_name: mapped device axis, or None.

    Returns:
      Parameters, optimiser state, and an info whose entries have a leading ``[num_epochs]`` axis, each measured
      before that epoch's step: ``loss``, ``grad_norm`` and the entries of ``info``.

    Example:
      >>> import jax.numpy as jnp
      >>> sgd, start = optax.sgd(0.5), jnp.array(1.0)
      >>> loss = jax.value_and_grad(lambda x: (x**2, {}), has_aux=True)
      >>> x, _, info = minimise(loss, start, sgd.init(start), sgd, 2)
      >>> info["loss"].tolist()
      [1.0, 0.0]
    """

    def epoch(carry: tuple[Params, PyTree], _: None) -> tuple[tuple[Params, PyTree], Info]:
        params, opt_state = carry
        (value, info), gradient = value_and_grad(params)
        value, info, gradient = trees.pmean((value, info, gradient), axis_name)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), {
            **info,
            "loss": value,
            "grad_norm": trees.norm(gradient),
        }

    (params, opt_state), infos = jax.lax.scan(epoch, (params, opt_state), length=num_epochs)
    return params, opt_state, infos
