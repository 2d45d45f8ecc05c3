"""The replay: a ring of updates, drawn from as far as it is filled, whoever shares it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.algorithms.inference.replay import blank_replay, recall, record
from metarl_jax.checks import Refusal
from metarl_jax.networks.belief import belief_policy
from metarl_jax.runs.shares import deal, join
from metarl_jax.tasks.navigation.goals import navigation_finn

KEPT, COLUMNS = 3, 4
FAMILY = navigation_finn(horizon=2)
POLICY = belief_policy((2,), FAMILY.action, hidden_size=2, hidden_sizes=(2,))


def filled(num_updates):
    """A replay whose trials hold the number of their update, from 1 on, and the ten columns' numbers apart."""
    replay = blank_replay(FAMILY, POLICY, 2, COLUMNS, KEPT)
    of_column = jax.tree.map(lambda x: jnp.moveaxis(x[:, 0], 0, 1), replay)  # [T, N, ...], zeros

    def numbered(update):
        column = 0.1 * jnp.arange(COLUMNS)
        return jax.tree.map(
            lambda x: x + update + 1 + column.reshape(-1, *[1] * (x.ndim - 2)).astype(x.dtype), of_column
        )

    for update in range(num_updates):
        replay = record(replay, numbered(update), jnp.int32(update))
    return replay


def test_the_newest_trials_take_the_place_of_the_oldest():
    replay = filled(5)
    assert replay.mask.shape == (COLUMNS, KEPT, 4)
    assert replay.percept.observation.shape == (COLUMNS, KEPT, 5, 2)
    np.testing.assert_allclose(replay.mask[0, :, 0], [4, 5, 3])
    np.testing.assert_allclose(replay.percept.previous_reward[3, :, 4], [4.3, 5.3, 3.3])


def test_another_number_of_tasks_is_refused():
    replay = filled(1)
    fewer = jax.tree.map(lambda x: jnp.moveaxis(x[:-1, 0], 0, 1), replay)
    with pytest.raises(Refusal, match=rf"tasks = {COLUMNS - 1}: this device's replay is of {COLUMNS} trials"):
        record(replay, fewer, jnp.int32(1))


def test_all_that_is_kept_is_drawn_as_often_and_nothing_else():
    """After two updates the third place is still blank; each column gives a trial of its own."""
    draw = jax.jit(
        jax.vmap(lambda key, replay: recall(replay, jax.random.split(key, COLUMNS), jnp.int32(1)).mask, (0, None))
    )
    drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 2000), filled(2)))
    np.testing.assert_allclose(drawn - 0.1 * np.arange(COLUMNS), np.round(drawn - 0.15), atol=1e-6)
    updates, counts = np.unique(np.floor(drawn[:, 0, 0] + 1e-6), return_counts=True)
    assert updates.tolist() == [1, 2]
    assert abs(counts[0] - 1000) < 100
    assert (drawn[:, 0, 0] - drawn[:, 0, 1] + 0.1 > 0.5).any(), "columns draw apart"


def test_devices_that_share_it_draw_what_one_does():
    replay, keys = filled(3), jax.random.split(jax.random.key(1), COLUMNS)
    alone = recall(replay, keys, jnp.int32(2))
    shared = jax.vmap(lambda share, keys: recall(share, keys, jnp.int32(2)))(deal(replay, 2), keys.reshape(2, -1))
    jax.tree.map(
        lambda one, of_both: np.testing.assert_array_equal(jnp.moveaxis(one, 1, 0), join(jnp.moveaxis(of_both, 2, 1))),
        alone,
        shared,
    )
