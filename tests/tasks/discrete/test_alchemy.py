"""Symbolic Alchemy against its definition, by hand, and against what others measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.tasks.discrete.alchemy import NODES, Chemistry, Table, alchemy_symbolic, turns, valid_graphs

FAMILY = alchemy_symbolic()
STEP = jax.jit(FAMILY.step)
KEY = jax.random.key(0)
# All edges but those along the first axis where the second coordinate is -1. Colours 0 and 1 act on the second axis, 2
# and 3 on the first, 4 and 5 on the third, the odd ones upwards on all but the third.
TASK = Chemistry(
    jnp.asarray(np.stack([NODES[:, 1] == 1, np.ones(8, bool), np.ones(8, bool)], axis=-1)),
    jnp.array([1, 0, 2]),
    jnp.array([1, 1, -1]),
    jnp.eye(3),
)
TABLE = Table(
    jnp.array([[-1, -1, -1], [1, 1, 1], [-1, 1, 1]]), jnp.arange(12) % 6, jnp.ones(3, bool), jnp.ones(12, bool)
)


def into_cauldron(stone):
    return 1 + 13 * stone


def into_potion(stone, potion):
    return 2 + 13 * stone + potion


def play(actions, task=TASK, table=TABLE):
    rewards, observation = [], None
    for action in actions:
        table, observation, reward, ended = STEP(task, table, jnp.array(action), KEY)
        rewards.append(float(reward))
        assert not ended
    return table, rewards, observation


@pytest.mark.parametrize(
    ("stone", "potion", "expected"),
    [
        (0, 1, [-1, 1, -1]),  # up the second axis
        (0, 0, [-1, -1, -1]),  # it is down already
        (0, 3, [-1, -1, -1]),  # no such edge
        (2, 3, [1, 1, 1]),  # here there is one
        (1, 8, [-1, 1, 1]),  # the same colour as number 2
        (0, 4, [-1, -1, 1]),  # the third axis is the other way round
        (1, 11, [1, 1, -1]),
    ],
)
def test_a_potion_moves_a_stone_along_its_axis_if_there_is_an_edge(stone, potion, expected):
    """And is used up in any case; the other stones stay."""
    table, rewards, _ = play([into_potion(stone, potion)])
    np.testing.assert_array_equal(table.stones, TABLE.stones.at[stone].set(jnp.array(expected)))
    assert rewards == [0.0]
    assert table.has_potion.tolist() == [i != potion for i in range(12)]
    assert table.has_stone.all()


def test_the_cauldron_pays_for_each_stone_once():
    table, rewards, _ = play([into_cauldron(1), into_cauldron(0), into_cauldron(2), into_cauldron(1)])
    assert rewards == [15.0, -3.0, 1.0, 0.0]
    assert not table.has_stone.any()
    assert table.has_potion.all()


def test_what_is_used_up_or_nothing_does_nothing():
    """A potion is not lost on a stone that is gone, nor a stone changed by a potion that is."""
    table, rewards, _ = play([0, into_cauldron(1), into_potion(1, 5), into_potion(0, 1), into_potion(2, 1)])
    assert rewards == [0.0, 15.0, 0.0, 0.0, 0.0]
    assert table.has_potion.tolist() == [i != 1 for i in range(12)]
    assert table.stones.tolist() == [[-1, 1, -1], [1, 1, 1], [-1, 1, 1]]


def test_what_is_seen():
    """Looks, value and whether it is used up of stones, colours of potions; turned, a corner is in -1, 0 and 1."""
    _, _, observation = play([into_cauldron(1), into_potion(0, 1)])
    stones, potions = np.split(np.asarray(observation), [15])
    np.testing.assert_allclose(
        stones.reshape(3, 5), [[-1, 1, -1, -1 / 3, 0], [2, 2, 2, 2, 1], [-1, 1, 1, 1 / 3, 0]], rtol=1e-6
    )
    expected = [[i % 6 / 3 - 1, 0] for i in range(12)]
    expected[1] = [1, 1]
    np.testing.assert_allclose(potions.reshape(12, 2), expected, atol=1e-6)
    turned = TASK._replace(looks=jnp.asarray(turns()[1], jnp.float32) * jnp.array([-1.0, 1.0, 1.0]))
    _, _, observation = play([0], turned)
    np.testing.assert_array_equal(observation[:15].reshape(3, 5)[:, :3], [[1, 0, -1], [-1, 0, 1], [0, 1, 1]])


def test_graphs_are_the_109_that_reach_every_corner():
    """1, 12, 48 and 48 of them with none to three conditions, each number a quarter of the draws."""
    graphs, chances = valid_graphs()
    assert graphs.shape == (109, 8, 3)
    assert len(np.unique(graphs.reshape(109, -1), axis=0)) == 109
    np.testing.assert_allclose(np.sort(chances), [1 / 192] * 96 + [1 / 48] * 12 + [1 / 4])
    for axis in range(3):  # an edge exists from both of its ends
        opposite = NODES * np.where(np.arange(3) == axis, -1, 1)
        other = (opposite[:, None] == NODES).all(axis=-1).argmax(axis=1)
        np.testing.assert_array_equal(graphs[:, :, axis], graphs[:, other, axis])


def test_at_random_it_earns_what_the_paper_s_heuristic_does():
    """Any stone but the best into any potion, until one or the other is used up, then what is worth more than nothing:
    in ten episodes about 145, as published of such a heuristic."""

    def episode(key):
        key_task, key_reset, key_steps = jax.random.split(key, 3)
        task = FAMILY.sample(key_task)

        def step(table, time):
            key_stone, key_potion = jax.random.split(jax.random.fold_in(key_steps, time))
            totals = table.stones.sum(-1)
            improvable, sellable = table.has_stone & (totals < 3), table.has_stone & (totals > 0)
            stone = jax.random.categorical(key_stone, jnp.where(improvable, 0.0, -jnp.inf))
            potion = jax.random.categorical(key_potion, jnp.where(table.has_potion, 0.0, -jnp.inf))
            sell = jnp.where(sellable.any(), into_cauldron(jnp.argmax(sellable)), 0)
            goes_on = improvable.any() & table.has_potion.any()
            table, _, reward, _ = FAMILY.step(task, table, jnp.where(goes_on, into_potion(stone, potion), sell), KEY)
            return table, reward

        return jax.lax.scan(step, FAMILY.reset(task, key_reset)[0], jnp.arange(FAMILY.horizon))[1].sum()

    earned = np.asarray(jax.jit(jax.vmap(episode))(jax.random.split(KEY, 8000)))
    assert 10 * earned.mean() == pytest.approx(145, abs=5)  # standard error 1.5
