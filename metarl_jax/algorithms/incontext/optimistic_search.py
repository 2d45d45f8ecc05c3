"""Who writes the histories: a searcher that knows where actions lead and finds out what pays."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.algorithms.incontext.learner import epsilon_greedy, learner, require_discrete
from metarl_jax.checks import Refusal, Traced, checked
from metarl_jax.tasks.wrappers.ends import without_end
from metarl_jax.types import (
    Array,
    Fraction,
    Key,
    OpenFraction,
    Percept,
    Policy,
    PositiveFloat,
    PositiveInt,
    PyTree,
    Task,
    TaskFamily,
    require,
)

_NUM_TASKS = 4
"""Tasks of which two may be drawn alike, in which all moves are tried."""
_NUM_STARTS = 16
"""Episodes that are begun to see whether all begin alike."""


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
def optimistic_search(
    family: TaskFamily,
    *,
    source_discount: Traced[OpenFraction] = 0.9,
    initial_value: Traced[PositiveFloat] = 0.1,
    epsilon: Traced[Fraction] = 0.0,
    exploring_episodes: PositiveInt = 1000,
    max_states: PositiveInt = 100,
) -> Policy:
    """Search by one who knows where actions lead, and is optimistic where it has not been.

    It expects of a step into a state the mean of what such steps have paid so far, ``initial_value`` where it has not
    been, and takes the first step of a shortest way to the state that promises most, of ``discount^distance`` times
    that; of several such actions the first. So on a grid it sweeps cell by cell until it finds what pays, and goes
    there at once from then on. R-max is optimistic in this way, too, but learns where actions lead, plans for all that
    is on its way, and expects the most that can be paid (Brafman and Tennenholtz, 2002).

    Where actions lead it finds out by trying all, before it plays: the family's world must be deterministic, of few
    states, without ends, the same in all tasks but for its rewards, and told by the observation; and a reward must
    depend on the state that a step leads to. What these tries contradict is refused; a chance that they do not meet
    goes unseen.

    Args:
      family: whose tasks it plays, with :func:`metarl_jax.tasks.wrappers.ends.with_ends`.
      source_discount: the searcher's, per step.
      initial_value: reward that it expects where it has not been: less than what it looks for, which must pay more than
        0, discounted by the way there.
      epsilon: how often it acts at random in its first episode.
      exploring_episodes: over so many that falls linearly to zero.
      max_states: it looks for so many.

    Returns:
      The policy; it has no parameters, and its carry is :class:`Found` of each of ``B`` searchers.

    Raises:
      ValueError: if the family is found not to be such a world, or there are actions that are not valid everywhere.

    Example:
      >>> from metarl_jax.tasks import dark_room
      >>> searcher = optimistic_search(dark_room(size=2, num_held_out=1))
      >>> percept = Percept(jnp.zeros((3, 3)), jnp.zeros(3, int), jnp.zeros(3), jnp.ones(3))
      >>> searcher.act((), searcher.initial_carry(3), percept, jax.random.key(0))[0].tolist()
      [0, 0, 0]
    """
    moves = find_moves(family, max_states)
    num_states, num_actions = moves.following.shape
    observation, following = jnp.asarray(moves.observation), jnp.asarray(moves.following)
    worth = source_discount ** jnp.asarray(moves.distance)  # [S, S] of a reward there

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
            # The nearest, as another program may round an observation otherwise.
            state=jnp.argmin(jnp.sum(jnp.abs(observation - seen.ravel()), axis=-1)).astype(jnp.int32),
            episodes=found.episodes + (percept.done > 0),
        )

    def step(found: Found, percept: Percept) -> tuple[Found, Array]:
        found = look(found, percept)
        expected = jnp.where(found.visits > 0, found.paid / jnp.maximum(found.visits, 1.0), initial_value)
        promise = jnp.max(worth[following[found.state]] * expected, axis=-1)
        best = jnp.arange(num_actions) == jnp.argmax(promise)
        return found, epsilon_greedy(best, epsilon, exploring_episodes, found.episodes)

    return learner(initial_carry, step)


def find_moves(family: TaskFamily, max_states: int) -> Moves:
    """Try all actions in all states, again and again from where an episode begins, in several tasks.

    Args:
      family: with discrete actions.
      max_states: more are refused.

    Raises:
      ValueError: if the tries contradict that it is a world as :func:`optimistic_search` needs it.

    Example:
      >>> from metarl_jax.tasks import dark_room
      >>> find_moves(dark_room(size=2, num_held_out=1), 4).following.tolist()
      [[0, 1, 2, 0, 0], [1, 1, 3, 0, 1], [2, 3, 2, 2, 0], [3, 3, 3, 2, 1]]
    """
    require_discrete(family)
    _require(family.valid_actions is None, "not all actions are valid everywhere")
    num_actions = family.action.size

    @jax.jit
    def try_all(task: Task, key: Key, states: PyTree) -> tuple[PyTree, Array, Array, Array]:
        def attempt(state: PyTree, action: Array, key: Key) -> tuple[PyTree, Array, Array, Array]:
            state, observation, reward, terminated = family.step(task, state, action, key)
            return state, observation.ravel() + 0.0, reward, terminated  # no -0.0

        keys = jax.random.split(key, (max_states, num_actions))
        return jax.vmap(jax.vmap(attempt, (None, 0, 0)), (0, None, 0))(states, jnp.arange(num_actions), keys)

    with jax.ensure_compile_time_eval():
        one, *others = (_explore(family, try_all, max_states, seed) for seed in range(_NUM_TASKS))
    are_same = all(np.array_equal(x, y) for other in others for x, y in zip(one, other, strict=True))
    _require(are_same, "moves differ between tasks")
    return Moves(*one, _distances(one[1]))


def _explore(
    family: TaskFamily, try_all: Callable[..., PyTree], max_states: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Observations ``[S, n]`` of all states that can be reached in one task, and what follows each ``[S, A]``."""
    key_task, key_reset, key = jax.random.split(jax.random.key(seed), 3)
    task = family.sample(key_task)
    starts, shown = jax.vmap(partial(family.reset, task))(jax.random.split(key_reset, _NUM_STARTS))
    kinds = [leaf.dtype for leaf in jax.tree.leaves(starts)]
    _require(not any(jnp.issubdtype(kind, jax.dtypes.prng_key) for kind in kinds), "its states hold random keys")
    starts, shown = jax.tree.map(np.asarray, (starts, shown.reshape(_NUM_STARTS, -1) + 0.0))  # floats, as of a step
    is_one = all((x == x[:1]).all() for x in (shown, *jax.tree.leaves(starts)))
    _require(is_one, "episodes do not all begin in one state")
    # Rows that are not known yet stand for the first state, so that there is one program for all rounds.
    states = jax.tree.map(lambda x: np.repeat(x[:1], max_states, axis=0), starts)
    known, seen = {shown[0].tobytes(): 0}, [shown[0]]
    following = np.zeros((0, family.action.size), np.int32)
    while len(following) < len(known):
        num_known, before = len(known), following
        tried = try_all(task, jax.random.fold_in(key, num_known), states)
        reached, observations, rewards, ended = jax.tree.map(lambda x, rows=num_known: np.asarray(x)[:rows], tried)
        _require(not ended.any(), "a step terminates")
        for place in np.ndindex(*ended.shape):
            name = observations[place].tobytes()
            if name not in known:
                remedy = "there are more states: raise it, or set algorithm.source to q_learning"
                require(len(known) < max_states, "max_states", max_states, remedy)
                for kept, new in zip(jax.tree.leaves(states), jax.tree.leaves(reached), strict=True):
                    kept[len(known)] = new[place]
                known[name] = len(known)
                seen.append(observations[place])
        following = np.array([[known[shown.tobytes()] for shown in row] for row in observations], np.int32)
        _require(np.array_equal(before, following[: len(before)]), "an action leads to one state or another")
        pairs = zip(jax.tree.leaves(states), jax.tree.leaves(reached), strict=True)
        _require(all(np.array_equal(kept[following], new) for kept, new in pairs), "observations do not tell the state")
    pays = np.zeros(len(known), rewards.dtype)
    pays[following] = rewards
    _require(np.array_equal(pays[following], rewards), "a reward depends on more than where a step leads")
    return np.stack(seen), following


def _require(condition: bool, what: str) -> None:
    if not condition:
        needs = "optimistic_search needs few states, moves that are certain and the same in all tasks, and no ends"
        raise Refusal("algorithm.source", "optimistic_search", f"{what}; {needs}: set algorithm.source to q_learning")


def _distances(following: np.ndarray) -> np.ndarray:
    from scipy.sparse.csgraph import shortest_path  # slow to import, and no other method needs it

    leads = np.zeros((len(following), len(following)))
    np.put_along_axis(leads, following, 1.0, axis=1)
    return shortest_path(leads, unweighted=True)
