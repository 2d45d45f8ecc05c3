"""The environments of ``torch_maml.py``: episodes of all tasks side by side, in one tensor."""

from collections.abc import Callable
from importlib.resources import files
from typing import NamedTuple

import mujoco
import mujoco.rollout
import torch
from torch import Tensor
from torch.nn.functional import pad

from metarl_jax.tasks.adapters.noise import mujoco_silenced

Step = tuple[Tensor, Tensor, Tensor]
"""State after it, reward, and whether the episode ended."""


class World(NamedTuple):
    """``tasks(M)``; ``reset(M, B)``: states ``[M, B, S]``; ``step(tasks, state, action)``; ``observe(state)``.

    ``sizes``: of an observation and of an action.
    """

    sizes: tuple[int, int]
    tasks: Callable[[int], Tensor]
    reset: Callable[[int, int], Tensor]
    step: Callable[[Tensor, Tensor, Tensor], Step]
    observe: Callable[[Tensor], Tensor]


def corner(action_scale: float) -> World:
    """The corner task of Rothfuss et al. (2018), sparse reward."""
    corners = torch.tensor([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]])

    def step(goals: Tensor, position: Tensor, action: Tensor) -> Step:
        moved = position + 0.2 * torch.clamp(action / action_scale, -1.0, 1.0)
        distance = torch.linalg.vector_norm(moved - goals[:, None], dim=-1)
        progress = torch.linalg.vector_norm(position - goals[:, None], dim=-1) - distance
        others = torch.linalg.vector_norm(moved[..., None, :] - corners.to(moved.dtype), dim=-1)
        is_paid = (moved.abs().sum(-1) >= 0.5) & (distance <= others.amin(-1))
        return moved, torch.where(is_paid, progress, 0.0), torch.zeros_like(is_paid)

    return World(
        (2, 2),
        lambda tasks: corners[torch.randint(4, (tasks,))],
        lambda tasks, episodes: torch.rand(tasks, episodes, 2) * 0.4 - 0.2,
        step,
        lambda position: position,
    )


def finn(action_scale: float) -> World:
    """A goal in a square around the start (Finn et al., 2017): the reward is the negative distance."""

    def step(goals: Tensor, position: Tensor, action: Tensor) -> Step:
        moved = position + 0.1 * torch.clamp(action / action_scale, -1.0, 1.0)
        offset = moved - goals[:, None]
        return moved, -torch.linalg.vector_norm(offset, dim=-1), (offset.abs() < 0.01).all(-1)

    return World(
        (2, 2),
        lambda tasks: torch.rand(tasks, 2) - 0.5,
        lambda tasks, episodes: torch.zeros(tasks, episodes, 2),
        step,
        lambda position: position,
    )


def half_cheetah_direction(action_scale: float) -> World:
    """Brax's half-cheetah, forward or backward (Finn et al., 2017), stepped by MuJoCo in this thread.

    ``mujoco.rollout`` steps one body after the other in the same memory: half the time of ``mj_step`` in a loop over an
    ``MjData`` for each episode. The state is ``qpos`` and ``qvel``, in double precision.
    """
    with mujoco_silenced():  # an attribute of the file is deprecated
        model = mujoco.MjModel.from_xml_path(str(files("brax") / "envs/assets/half_cheetah.xml"))
    model.opt.iterations = 100  # as MuJoCo without Brax's file, and ours: until the solver has converged
    data, physics, substeps = mujoco.MjData(model), mujoco.rollout.Rollout(nthread=0), 5

    def reset(tasks: int, episodes: int) -> Tensor:
        position = torch.rand(tasks, episodes, model.nq, dtype=torch.double) * 0.2 - 0.1
        return torch.cat([position, 0.1 * torch.randn(tasks, episodes, model.nv, dtype=torch.double)], dim=-1)

    def step(directions: Tensor, state: Tensor, action: Tensor) -> Step:
        torque = torch.clamp(action / action_scale, -1.0, 1.0)
        before = pad(state, (1, 0)).flatten(0, 1)  # the first number is the time
        held = torque.flatten(0, 1)[:, None].double()
        after, _ = physics.rollout(model, data, before.numpy(), held.numpy(), nstep=substeps)
        moved = torch.from_numpy(after[:, -1, 1:]).reshape(state.shape)
        velocity = ((moved - state)[..., 0] / (substeps * model.opt.timestep)).to(action.dtype)
        reward = directions[:, None] * velocity - 0.05 * (torque**2).sum(-1)
        return moved, reward, torch.zeros_like(reward, dtype=torch.bool)

    return World(
        (model.nq + model.nv - 1, model.nu),
        lambda tasks: torch.randint(2, (tasks,)) * 2.0 - 1.0,
        reset,
        step,
        lambda state: state[..., 1:].float(),
    )


WORLDS: dict[str, Callable[[float], World]] = {
    "navigation_corner": corner,
    "navigation_finn": finn,
    "half_cheetah_direction": half_cheetah_direction,
}
