"""Symbolic Alchemy: stones, potions and a chemistry to be found out (Wang et al., 2021)."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import checked
from metarl_jax.tasks.choices import checked_choice
from metarl_jax.types import ActionSpec, Array, Key, PositiveInt, TaskFamily

AXES, STONES, POTIONS, COLOURS = 3, 3, 12, 6
NODES = np.array(list(itertools.product((-1, 1), repeat=AXES)))
"""``[8, 3]`` what stones can be, in latent coordinates."""
BONUS = 12.0
NUM_ACTIONS = 1 + STONES * (POTIONS + 1)


class Chemistry(NamedTuple):
    """What differs between tasks, and stays hidden.

    Attributes:
      edges: ``[8, 3]`` boolean: whether a stone of this kind can change along this axis.
      potion_axis: ``[3]`` the axis that each pair of colours acts on.
      potion_sign: ``[3]`` by axis, in which direction the second colour of its pair leads.
      looks: ``[3, 3]`` from a stone's latent coordinates to what is seen.
    """

    edges: Array
    potion_axis: Array
    potion_sign: Array
    looks: Array


class Table(NamedTuple):
    """What lies on the table.

    Attributes:
      stones: ``[3, 3]`` latent coordinates, -1 or 1.
      potions: ``[12]`` colours.
      has_stone: ``[3]`` boolean.
      has_potion: ``[12]`` boolean.
    """

    stones: Array
    potions: Array
    has_stone: Array
    has_potion: Array


@checked
def alchemy_symbolic(*, horizon: PositiveInt = 20) -> TaskFamily:
    """Turn stones into better ones with potions whose effects have to be found out (Alchemy; Wang et al., 2021).

    The level with rotation and random bottlenecks of its symbolic version. Theirs calls ten trials with one chemistry
    an episode; here that is a trial of ten episodes, and the task is the chemistry. In each episode three stones and
    twelve potions lie on the table. A stone is a corner of a cube; a potion of one of six colours moves it along the
    one axis and direction that are its own, if it is on the other side and that edge exists, and is used up in any
    case. A stone that is put into the cauldron is used up and earns the sum of its coordinates, 15 if all are 1.

    Which edges there are, one of 109 graphs, what the colours do and how stones look, mirrored and perhaps turned by
    45 degrees, are drawn as theirs. No optimum is given: it depends on the stones and potions of each episode.

    Args:
      horizon: steps per episode.

    Returns:
      The family; observations ``[39]`` are three looks, a third of the sum of coordinates and whether it is used up of
      each stone, (2, 2, 2, 2, 1) if so; then colour and the same of each potion, (1, 1) if so. Action 0 does nothing,
      ``1 + 13 s`` puts stone ``s`` into the cauldron, ``2 + 13 s + p`` into potion ``p``; what is used up does nothing.

    Example:
      >>> family = alchemy_symbolic()
      >>> family.observation_shape, family.action.size
      ((39,), 40)
    """
    graphs, chances = valid_graphs()

    def sample(key: Key) -> Chemistry:
        key_graph, key_axis, key_sign, key_mirror, key_turn = jax.random.split(key, 5)
        mirror = jax.random.rademacher(key_mirror, (AXES,), float)
        return Chemistry(
            jax.random.choice(key_graph, jnp.asarray(graphs), p=jnp.asarray(chances, float)),
            jax.random.permutation(key_axis, AXES),
            jax.random.rademacher(key_sign, (AXES,), int),
            jax.random.choice(key_turn, jnp.asarray(turns(), float)) * mirror,
        )

    def reset(task: Chemistry, key: Key) -> tuple[Table, Array]:
        key_stones, key_potions = jax.random.split(key)
        stones = jax.random.rademacher(key_stones, (STONES, AXES), int)
        potions = jax.random.randint(key_potions, (POTIONS,), 0, COLOURS)
        table = Table(stones, potions, jnp.ones(STONES, bool), jnp.ones(POTIONS, bool))
        return table, observe(task, table)

    def step(task: Chemistry, table: Table, action: Array, key: Key) -> tuple[Table, Array, Array, Array]:
        choice, is_valid = checked_choice(action, NUM_ACTIONS)
        stone, place = jnp.divmod(choice - 1, POTIONS + 1)
        has_stone = (choice > 0) & table.has_stone[stone]
        is_sold = has_stone & (place == 0)
        is_dipped = has_stone & (place > 0) & table.has_potion[place - 1]
        dipped = react(task, table.stones[stone], table.potions[place - 1])
        following = Table(
            table.stones.at[stone].set(jnp.where(is_dipped, dipped, table.stones[stone])),
            table.potions,
            table.has_stone.at[stone].set(table.has_stone[stone] & ~is_sold),
            table.has_potion.at[place - 1].set(table.has_potion[place - 1] & ~is_dipped),
        )
        reward = jnp.where(is_sold, worth(table.stones[stone]), 0.0)
        return following, observe(task, following), jnp.where(is_valid, reward, jnp.nan), jnp.array(False)

    size = STONES * (AXES + 2) + POTIONS * 2
    return TaskFamily(sample, sample, reset, step, (size,), ActionSpec(NUM_ACTIONS, discrete=True), horizon)


def worth(stone: Array) -> Array:
    """What a stone ``[3]`` earns: the sum of its coordinates, and a bonus if all are 1.

    Example:
      >>> [worth(jnp.array(stone)).item() for stone in ((-1, -1, -1), (1, -1, 1), (1, 1, 1))]
      [-3.0, 1.0, 15.0]
    """
    return jnp.sum(stone) + BONUS * jnp.all(stone == 1)


def react(task: Chemistry, stone: Array, colour: Array) -> Array:
    """The stone ``[3]`` after a potion of this colour: changed along its axis, if the edge that is needed exists."""
    pair, which = jnp.divmod(colour, 2)
    axis = task.potion_axis[pair]
    direction = task.potion_sign[axis] * (2 * which - 1)
    node = jnp.argmax(jnp.all(stone == NODES, axis=-1))
    return jnp.where(task.edges[node, axis], stone.at[axis].set(direction), stone)


def observe(task: Chemistry, table: Table) -> Array:
    """What is seen of the table; ``[39]``."""
    total = jnp.sum(table.stones, axis=-1, keepdims=True) / AXES
    stones = jnp.concatenate([table.stones @ task.looks.T, total, jnp.zeros((STONES, 1))], axis=-1)
    stones = jnp.where(table.has_stone[:, None], stones, jnp.array([2.0] * (AXES + 1) + [1.0]))
    colours = table.potions / (COLOURS / 2) - 1.0
    potions = jnp.stack([jnp.where(table.has_potion, colours, 1.0), 1.0 - table.has_potion], axis=-1)
    return jnp.concatenate([stones.ravel(), potions.ravel()])


def turns() -> np.ndarray:
    """``[4, 3, 3]`` from aligned coordinates of a stone to those seen: as they are, or turned by 45 degrees in a plane.

    In that plane a corner of the cube is seen at the middle of an edge, in -1, 0 and 1.
    """
    turned = [np.eye(AXES)]
    for first, second in ((0, 1), (2, 0), (1, 2)):
        turn = np.eye(AXES)
        turn[np.ix_([first, second], [first, second])] = [[0.5, -0.5], [0.5, 0.5]]
        turned.append(turn)
    return np.stack(turned)


def valid_graphs() -> tuple[np.ndarray, np.ndarray]:
    """``[109, 8, 3]`` the edges of all graphs that there are, and ``[109]`` how likely each is.

    Each axis may be open only where another coordinate has one value, or two have; every corner has to be reached.
    Graphs with 0, 1, 2 and 3 such conditions are equally likely, and all with as many.
    """
    conditions = list(itertools.product((-1, 0, 1), repeat=AXES - 1))
    edges = {}
    for along in itertools.product(conditions, repeat=AXES):
        needed = np.stack([np.insert(values, axis, 0) for axis, values in enumerate(along)])
        is_open = np.all((needed == 0) | (NODES[:, None] == needed), axis=-1)
        if _connected(is_open):
            edges[along] = is_open
    counts = np.array([np.count_nonzero(along) for along in edges])
    numbers, sizes = np.unique(counts, return_counts=True)
    return np.stack(list(edges.values())), 1.0 / (len(numbers) * sizes[np.searchsorted(numbers, counts)])


def _connected(is_open: np.ndarray) -> bool:
    """Whether every corner can be reached from the first one."""
    differ = NODES[:, None] != NODES
    steps = (is_open[:, None] & differ).any(axis=-1) & (differ.sum(axis=-1) == 1)
    return bool(np.linalg.matrix_power(np.eye(len(NODES)) + steps, len(NODES))[0].all())
