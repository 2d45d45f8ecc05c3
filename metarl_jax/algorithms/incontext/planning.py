"""Who writes the histories: a searcher that knows where actions lead and finds out what pays."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.algorithms.incontext.learner import epsilon_greedy, learner
from metarl_jax.checks import Traced, checked
from metarl_jax.tasks.wrappers.ends import without_end
from metarl_jax.types import Array, Fraction, Key, Percept, Policy, PositiveInt, PyTree, Task, TaskFamily, require


class Moves(NamedTuple):
    """A deterministic world of ``S`` states, numbered as they are found; an episode begins in the first.

    Attributes:
      observation: ``[S, n]`` flattened.
      following: ``[S, A]`` the state that follows.
      distance: ``[S, S]`` steps from one to the other, 0 to itself; infinite where there is no way.
    """

    observation: np.ndarray
    following: np.ndarray
    distance: np.ndarray


class Found(NamedTuple):
    """What one searcher has found out; all zeros at first.

    Attributes:
      paid: ``[S]`` sum of the rewards of steps into each state.
      visits: ``[S]`` how many these were.
      state: ``[]`` where it is.
      episodes: ``[]`` begun so far.
    """

    paid: Array
    visits: Array
    state: Array
    episodes: Array


@checked
def planning(
    family: TaskFamily,
    *,
    source_discount: Traced[Fraction] = 0.9,
    initial_value: Traced[float] = 0.0,
    epsilon: Traced[Fraction] = 0.0,
    exploring_episodes: PositiveInt = 1000,
    max_states: PositiveInt = 100,
) -> Policy:
    """Optimistic search: R-max (Brafman and Tennenholtz, 2002) of one who knows where actions lead, not what pays.

    It expects of a step into a state the mean of what such steps have paid so far, ``initial_value`` where it has not
    been, and takes the first step of a shortest way to the state that promises most, of ``discount^distance`` times
    that; of several such actions the first. So on a grid it sweeps cell by cell until it finds what pays, and goes
    there at once from then on.

    Where actions lead it finds out by trying all, before it plays: the family's world must be deterministic, finite,
    without ends, the same in all tasks and told by the observation. What a step pays must depend on where it leads.

    Args:
      family: whose tasks it plays, with :func:`metarl_jax.tasks.wrappers.ends.with_ends`.
      source_discount: the searcher's, per step.
      initial_value: reward that it expects where it has not been: above what pays nothing, below the goal's.
      epsilon: how often it acts at random in its first episode.
      exploring_episodes: over so many that falls linearly to zero.
      max_states: it looks for so many.

    Returns:
      The policy; it has no parameters, and its carry is :class:`Found` of each of ``B`` searchers.

    Raises:
      ValueError: if the family is not such a world.

    Example:
      >>> from metarl_jax.tasks import dark_room
      >>> searcher = planning(dark_room(size=2, num_held_out=1), initial_value=0.1)
      >>> percept = Percept(jnp.zeros((3, 3)), jnp.zeros(3, int), jnp.zeros(3), jnp.ones(3))
      >>> searcher.act((), searcher.initial_carry(3), percept, jax.random.key(0))[0].tolist()
      [0, 0, 0]
    """
    moves = find_moves(family, max_states)
    num_states, num_actions = moves.following.shape
    observation, following = jnp.asarray(moves.observation), jnp.asarray(moves.following)
    worth = source_discount ** jnp.asarray(moves.distance[moves.following])  # [S, A, S] of a reward there

    def initial_carry(batch_size: int) -> Found:
        table, none = jnp.zeros((batch_size, num_states)), jnp.zeros(batch_size, jnp.int32)
        return Found(table, table, none, none)

    def look(found: Found, percept: Percept) -> Found:
        arrived = following[found.state, percept.previous_action]
        is_news = (found.episodes > 0).astype(found.paid.dtype)
        seen, _ = without_end(percept.observation, family.observation_shape)
        return Found(
            paid=found.paid.at[arrived].add(is_news * percept.previous_reward),
            visits=found.visits.at[arrived].add(is_news),
            state=jnp.argmax(jnp.all(observation == seen.ravel(), axis=-1)).astype(jnp.int32),
            episodes=found.episodes + (percept.done > 0),
        )

    def step(found: Found, percept: Percept) -> tuple[Found, Array]:
        found = look(found, percept)
        expected = jnp.where(found.visits > 0, found.paid / jnp.maximum(found.visits, 1.0), initial_value)
        promise = jnp.max(worth[found.state] * expected, axis=-1)
        best = jnp.arange(num_actions) == jnp.argmax(promise)
        return found, epsilon_greedy(best, epsilon, exploring_episodes, found.episodes)

    return learner(initial_carry, step)


def find_moves(family: TaskFamily, max_states: int) -> Moves:
    """Try all actions in all states, from where an episode begins, in two tasks.

    Args:
      family: with discrete actions.
      max_states: more are refused.

    Raises:
      ValueError: if the moves are not those of one deterministic world without ends, or are too many.

    Example:
      >>> from metarl_jax.tasks import dark_room
      >>> find_moves(dark_room(size=2, num_held_out=1), 4).following.tolist()
      [[0, 1, 2, 0, 0], [1, 1, 3, 0, 1], [2, 3, 2, 2, 0], [3, 3, 3, 2, 1]]
    """
    remedy = "planning needs a world that is the same in all tasks: set algorithm.source to q_learning"
    alone = "a table is of discrete actions: give ad a source of your own"
    require(family.action.discrete, "family.action", family.action, alone)

    @jax.jit
    def try_all(task: Task, key: Key, states: PyTree) -> tuple[PyTree, Array, Array]:
        def attempt(state: PyTree, action: Array) -> tuple[PyTree, Array, Array]:
            state, observation, _, terminated = family.step(task, state, action, key)
            return state, observation.ravel(), terminated

        every_action = jnp.arange(family.action.size)
        return jax.vmap(lambda state: jax.vmap(lambda action: attempt(state, action))(every_action))(states)

    def explore(seed: int) -> tuple[np.ndarray, np.ndarray]:
        key_task, key_reset, key_step = jax.random.split(jax.random.key(seed), 3)
        task = family.sample(key_task)
        beginning = jax.tree.map(np.asarray, family.reset(task, key_reset))
        return _all_moves(lambda states: try_all(task, key_step, states), beginning, max_states, remedy)

    with jax.ensure_compile_time_eval():
        (observation, following), other = explore(0), explore(1)
    is_one = np.array_equal(observation, other[0]) and np.array_equal(following, other[1])
    require(is_one, "family", "moves that differ between tasks or by chance", remedy)
    return Moves(observation, following, _distances(following))


def _all_moves(
    try_all: Callable[[PyTree], tuple[PyTree, Array, Array]], beginning: PyTree, max_states: int, remedy: str
) -> tuple[np.ndarray, np.ndarray]:
    """Observations ``[S, n]`` of all states that can be reached from the first, and what follows each ``[S, A]``."""
    state, observation = beginning
    # Rows that are not known yet stand for the first state, so that there is one program for all rounds.
    states = jax.tree.map(lambda x: np.repeat(x[None], max_states, axis=0), state)
    known, seen, num_known = {observation.ravel().tobytes(): 0}, [observation.ravel()], 0
    following = np.zeros((0, 0), np.int32)
    while num_known < len(known):
        num_known = len(known)
        reached, observations, ended = jax.tree.map(np.asarray, try_all(states))
        require(not ended[:num_known].any(), "family", "a step that terminates", remedy)
        for place in np.ndindex(num_known, observations.shape[1]):
            name = observations[place].tobytes()
            if name not in known:
                require(len(known) < max_states, "max_states", max_states, f"there are more: raise it, or {remedy}")
                for kept, new in zip(jax.tree.leaves(states), jax.tree.leaves(reached), strict=True):
                    kept[len(known)] = new[place]
                known[name] = len(known)
                seen.append(observations[place])
        following = np.array([[known[shown.tobytes()] for shown in row] for row in observations[:num_known]], np.int32)
    return np.stack(seen), following


def _distances(following: np.ndarray) -> np.ndarray:
    from scipy.sparse.csgraph import shortest_path  # slow to import, and no other method needs it

    leads = np.zeros((len(following), len(following)))
    np.put_along_axis(leads, following, 1.0, axis=1)
    return shortest_path(leads, unweighted=True)
