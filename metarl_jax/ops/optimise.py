"""Several epochs of one loss with an optax optimiser, on one device or many; no step that is not finite."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.ops import trees
from metarl_jax.ops.moments import keep_moments
from metarl_jax.types import Array, Info, Params, PyTree, TrainState

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
    return minimise_over(
        lambda params, _: value_and_grad(params),
        params,
        opt_state,
        optimizer,
        None,
        axis_name,
        num_steps=num_epochs,
    )


def minimise_over(
    value_and_grad: Callable[[Params, PyTree], tuple[tuple[Array, Info], Params]],
    params: Params,
    opt_state: PyTree,
    optimizer: optax.GradientTransformation,
    batches: PyTree,
    axis_name: str | None = None,
    num_steps: int | None = None,
) -> tuple[Params, PyTree, Info]:
    """Take one step on each of several batches in turn; :func:`minimise` is the case of one batch, repeated.

    Args:
      value_and_grad: ``(params, batch) -> ((loss [], info), gradient)`` over this device's share of the batch.
      params: where to start.
      opt_state: the optimiser's state.
      optimizer: any optax transformation.
      batches: pytree with a leading axis of steps: the data, or what picks them.
      axis_name: mapped device axis, or None.
      num_steps: the length of that axis, if ``batches`` is empty.

    Returns:
      Parameters, optimiser state, and an info as :func:`minimise` gives, with a leading axis of steps.

    Example:
      >>> import jax.numpy as jnp
      >>> sgd, start = optax.sgd(0.5), jnp.array(1.0)
      >>> loss = jax.value_and_grad(lambda x, target: ((x - target) ** 2, {}), has_aux=True)
      >>> minimise_over(loss, start, sgd.init(start), sgd, jnp.array([3.0, 5.0]))[0].item()
      5.0
    """

    def step(carry: tuple[Params, PyTree], batch: PyTree) -> tuple[tuple[Params, PyTree], Info]:
        params, opt_state = carry
        info, gradient = _averaged(value_and_grad(params, batch), axis_name)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (apply_updates(params, updates), opt_state), info

    (params, opt_state), infos = jax.lax.scan(step, (params, opt_state), batches, length=num_steps)
    return params, opt_state, infos


def apply_updates(params: Params, updates: Params) -> Params:
    """The parameters after an optimiser's step, which leaves :class:`metarl_jax.ops.moments.Moments` alone.

    Example:
      >>> apply_updates({"w": jnp.array(1.0)}, {"w": jnp.array(0.5)})["w"].item()
      1.5
    """
    return keep_moments(params, optax.apply_updates(params, updates))


def _averaged(evaluated: tuple[tuple[Array, Info], Params], axis_name: str | None) -> tuple[Info, Params]:
    """Info, with ``loss`` and ``grad_norm``, and gradient, averaged over devices."""
    (value, info), gradient = trees.pmean(evaluated, axis_name)
    return {**info, "loss": value, "grad_norm": trees.norm(gradient)}, gradient


class _Descent(NamedTuple):
    """Where :func:`minimise_within` is: ``scale * update`` away from ``kept``, the last point seen to be within."""

    kept: Params
    update: Params
    scale: Array
    opt_state: PyTree
    first: Info
    last: Info


def minimise_within(
    value_and_grad: ValueAndGrad,
    params: Params,
    opt_state: PyTree,
    optimizer: optax.GradientTransformation,
    num_epochs: int,
    is_within: Callable[[Info], Array],
    axis_name: str | None = None,
) -> tuple[Params, PyTree, Info, Info]:
    """As :func:`minimise`, but halve a step that leads out of bounds or to what is not finite, and all those after it.

    A halving takes an epoch, but is no step of the optimiser or its schedule. One more evaluation than there are epochs
    tells whether the last step was within bounds: if not, it is not taken.

    Args:
      value_and_grad: ``params -> ((loss [], info), gradient)`` over this device's share of the data.
      params: where to start; always within bounds.
      opt_state: the optimiser's state.
      optimizer: any optax transformation.
      num_epochs: steps on the same data, halvings included; with less than 2 no halved step is ever taken.
      is_within: ``info -> []`` boolean, of the info averaged over devices.
      axis_name: mapped device axis, or None.

    Returns:
      Parameters, optimiser state, and two infos with ``loss`` and ``grad_norm``: at the start, and at the end, which
      has ``step_scale`` too: 1 if no step was halved.

    Example:
      >>> sgd, start = optax.sgd(0.25), jnp.array(8.0)
      >>> loss = jax.value_and_grad(lambda x: (x**2, {"x": x}), has_aux=True)
      >>> x, _, _, last = minimise_within(loss, start, sgd.init(start), sgd, 4, lambda info: info["x"] > 1.25)
      >>> x.item(), last["x"].item(), last["step_scale"].item()
      (1.5, 1.5, 0.5)
    """

    def evaluate(params: Params) -> tuple[Info, Params]:
        return _averaged(value_and_grad(params), axis_name)

    def epoch(i: Array, at: _Descent) -> _Descent:
        here = apply_updates(at.kept, jax.tree.map(lambda x: at.scale.astype(x.dtype) * x, at.update))
        info, gradient = evaluate(here)
        within = (i == 0) | (is_within(info) & trees.all_finite(info))
        update, opt_state = optimizer.update(gradient, at.opt_state, here)
        return _Descent(
            trees.where(within, here, at.kept),
            trees.where(within, update, at.update),
            jnp.where(within, at.scale, 0.5 * at.scale),
            trees.where(within & (i < num_epochs), opt_state, at.opt_state),
            trees.where(i == 0, info, at.first),
            trees.where(within, info, at.last),
        )

    def zeros_like_result(function: Callable[..., PyTree], *arguments: PyTree) -> PyTree:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *arguments))

    no_info, no_gradient = zeros_like_result(evaluate, params)
    no_update, _ = zeros_like_result(optimizer.update, no_gradient, opt_state, params)
    start = _Descent(params, no_update, jnp.ones(()), opt_state, no_info, no_info)
    end = jax.lax.fori_loop(0, num_epochs + 1, epoch, start)
    return end.kept, end.opt_state, end.first, {**end.last, "step_scale": end.scale}


def keep_if_finite(
    state: TrainState, new_state: TrainState, info: Info, axis_name: str | None = None
) -> tuple[TrainState, Info]:
    """Take an outer step only if it and what it reports are finite, on all devices; count it either way.

    Args:
      state: before the step.
      new_state: after it; its ``step`` is not looked at.
      info: what the step reports. It counts too: a line search turns NaN down without a word, and Adam outlives an
        overflow with finite steps.
      axis_name: of the mapped axis: what one device keeps of its own is looked at by all.

    Returns:
      The state that goes on, and ``info`` with ``skipped``: 1 if the step was not taken.

    Example:
      >>> import jax.numpy as jnp
      >>> old = TrainState(jnp.array(1.0), (), (), jnp.int32(0))
      >>> kept, info = keep_if_finite(old, old._replace(params=jnp.array(jnp.nan)), {})
      >>> kept.params.item(), kept.step.item(), info["skipped"].item()
      (1.0, 1, 1.0)
    """
    is_finite = trees.all_finite((new_state, info))
    if jax.tree.leaves(new_state.local):  # may be broken on one device, and all must do the same
        is_finite = trees.psum((~is_finite).astype(jnp.int32), axis_name) == 0
    kept = trees.where(is_finite, new_state, state)
    return kept._replace(step=state.step + 1), {**info, "skipped": 1.0 - is_finite}
