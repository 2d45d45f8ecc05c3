"""From a policy's output to the control that an environment takes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.types import Array

_PLACES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])


class ControlRange(NamedTuple):
    """The ends of what each actuator takes, ``[action_size]``."""

    low: np.ndarray
    high: np.ndarray


def scale_action(action: Array, action_scale: float, range: ControlRange | None = None) -> Array:
    """Map a policy's output to the environment's range: ``clip(action / action_scale, -1, 1)``, stretched to it.

    An infinite output is clipped. A NaN stays NaN: it is the policy's error, and must show in the reward.

    Args:
      action: ``[..., action_size]`` the policy's output.
      action_scale: the output that maps to the end of the range.
      range: the range; [-1, 1] if None.

    Returns:
      ``[..., action_size]`` within the range.

    Example:
      >>> scale_action(jnp.array([5.0, -20.0]), 10.0).tolist()
      [0.5, -1.0]
      >>> servos = ControlRange(np.array([0.0, -50.0]), np.array([4.0, 50.0]))
      >>> scale_action(jnp.array([5.0, -20.0]), 10.0, servos).tolist()
      [3.0, -50.0]
    """
    within = jnp.clip(action / action_scale, -1.0, 1.0)
    if range is None:
        return within
    low, high = jnp.asarray(range.low, within.dtype), jnp.asarray(range.high, within.dtype)
    return (low + high) / 2.0 + within * ((high - low) / 2.0)


def control_range(bounds: Array, limited: Array | bool, control: Callable[[Array], Array]) -> ControlRange | None:
    """The range that an environment's actions have, if they are its actuators' controls as they are.

    Many environments take actions in [-1, 1] and make the controls themselves: these are not stretched a second time.
    So it is tried out which control becomes of actions all over the range.

    Args:
      bounds: ``[num_actuators, 2]`` lowest and highest control.
      limited: ``[num_actuators]`` whether there are such; what has no limits keeps [-1, 1].
      control: ``(action) -> control``, what the physics is given for an action.

    Example:
      >>> servo = jnp.array([[-50.0, 50.0]])
      >>> control_range(servo, True, lambda action: action).high.tolist()
      [50.0]
      >>> control_range(servo, True, lambda action: 50.0 * jnp.clip(action, -1.0, 1.0)) is None
      True
    """
    ends = np.asarray(bounds)
    is_limited = np.isfinite(ends).all(axis=1) & np.asarray(limited, bool)
    low, high = np.where(is_limited[:, None], ends, [-1.0, 1.0]).T
    if (low == -1.0).all() and (high == 1.0).all():
        return None
    actions = jnp.asarray(low + _PLACES[:, None] * (high - low), float)
    controls = jax.jit(jax.vmap(control))(actions)
    as_they_are = controls.shape == actions.shape and np.allclose(controls, actions, 1e-5)
    return ControlRange(low, high) if as_they_are else None
