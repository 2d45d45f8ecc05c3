"""The dark room with a key and a door (Laskin et al., 2022), in the form of AMAGO (Grigsby et al., 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.tasks.discrete.grid import MOVES, GridSize, move, steps_to, towards
from metarl_jax.types import ActionSpec, Array, EnvState, Key, Paths, PositiveInt, TaskFamily


class KeyDoorTask(NamedTuple):
    """Cells ``(x, y)``, ``[2]`` each, of which several may be the same."""

    start: Array
    key: Array
    door: Array


class KeyDoorState(NamedTuple):
    """``cell``: ``[2]``; ``has_key``: ``[]``; ``time``: ``[]`` steps of this episode."""

    cell: Array
    has_key: Array
    time: Array


@checked
def dark_key_door(*, size: GridSize = 8, horizon: PositiveInt = 50) -> TaskFamily:
    """A hidden key, then a hidden door (Laskin et al., 2022; Grigsby et al., 2024): 1 for the key, 1 for the door.

    Start, key and door are uniform and stay the same in all episodes of a task; the door pays only one who has the
    key, and ends the episode. Actions are stay, up, right, down and left.
    Published with as many episodes as fit 500 steps, so that early success leaves time for more. Here a trial has a
    fixed number of episodes, 10 for as many steps, and one that succeeds leaves the rest of its steps unused. There is
    no ``bayes_optimum``: at each place and time at which the key may turn up a search of its own for the door begins.

    Args:
      size: cells along each axis.
      horizon: steps per episode.

    Returns:
      The family; the observation is ``(x / size, y / size, has the key, time / horizon)``.

    Example:
      >>> dark_key_door(size=3).optimum(KeyDoorTask(*jnp.array([[0, 0], [1, 0], [2, 2]]))).item()
      2.0
    """

    def sample(key: Key) -> KeyDoorTask:
        return KeyDoorTask(*jax.random.randint(key, (3, 2), 0, size))

    def observe(state: KeyDoorState) -> Array:
        return jnp.stack([*state.cell / size, state.has_key.astype(float), state.time / horizon])

    def reset(task: KeyDoorTask, key: Key) -> tuple[KeyDoorState, Array]:
        state = KeyDoorState(task.start, jnp.array(False), jnp.zeros((), int))
        return state, observe(state)

    def step(task: KeyDoorTask, state: KeyDoorState, action: Array, key: Key) -> tuple[EnvState, Array, Array, Array]:
        cell, is_valid = move(state.cell, action, size)
        succeeds = state.has_key & jnp.all(cell == task.door)
        finds_key = ~state.has_key & jnp.all(cell == task.key)
        state = KeyDoorState(cell, state.has_key | finds_key, state.time + 1)
        reward = jnp.where(is_valid, (succeeds | finds_key).astype(float), jnp.nan)
        return state, observe(state), reward, succeeds

    def optimum(task: KeyDoorTask) -> Array:
        to_key = steps_to(task.start, task.key)
        arrivals = jnp.stack([to_key, to_key + steps_to(task.key, task.door)])
        return jnp.sum(arrivals <= horizon).astype(float)

    def optimal_action(task: KeyDoorTask, state: KeyDoorState, time: Array) -> Array:
        return towards(state.cell, jnp.where(state.has_key, task.door, task.key))

    picture = Paths(lambda observation: size * observation[..., :2], goal=lambda task: task.door)
    family = TaskFamily(sample, sample, reset, step, (4,), ActionSpec(len(MOVES), discrete=True), horizon)
    return family._replace(success="termination", picture=picture, optimum=optimum, optimal_action=optimal_action)
