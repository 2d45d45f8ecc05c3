"""The T-maze against its definition, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.tasks.discrete.t_maze import MazeState, t_maze

RIGHT, UP, LEFT, DOWN = range(4)
LENGTH = 4
FAMILY = t_maze(length=LENGTH)
STEP = jax.jit(FAMILY.step)
KEY = jax.random.key(0)


def play(cue, actions):
    """``(observations, rewards, terminated, success)`` of an episode."""
    task = jnp.float32(cue)
    state, observation = FAMILY.reset(task, KEY)
    seen, rewards, ends = [observation.tolist()], [], []
    for action in actions:
        state, observation, reward, ended = STEP(task, state, jnp.array(action), KEY)
        seen.append(observation.tolist())
        rewards.append(round(float(reward), 3))
        ends.append(bool(ended))
    return seen, rewards, ends, bool(FAMILY.success(task, state))


@pytest.mark.parametrize(("cue", "side"), [(1, UP), (-1, DOWN)])
def test_straight_on_and_to_the_side_of_the_cue_earns_1(cue, side):
    """What is seen says nothing of the cue but at the start."""
    seen, rewards, ends, success = play(cue, [RIGHT] * LENGTH + [side])
    assert seen == [[0, cue], [0, 0], [0, 0], [0, 0], [1, 0], [1, cue]]
    assert rewards == [0, 0, 0, 0, 1]
    assert ends == [False] * LENGTH + [True]
    assert success


def test_the_other_side_earns_nothing():
    _, rewards, _, success = play(1, [RIGHT] * LENGTH + [DOWN])
    assert rewards == [0] * 5
    assert not success


def test_a_lost_step_costs_a_quarter_of_each_that_follows_but_the_last():
    """Against the wall at first, where the cue is not shown again; one behind time, so never to a side."""
    seen, rewards, ends, success = play(1, [LEFT, RIGHT, UP, RIGHT, RIGHT])
    assert seen == [[0, 1]] + [[0, 0]] * 5
    assert rewards == [-0.25] * 4 + [0]
    assert ends[-1]
    assert not success


def test_walls_are_on_all_sides_of_the_fork():
    def moved(along, aside, action):
        state = STEP(jnp.float32(1), MazeState(*map(jnp.array, (along, aside, 0))), jnp.array(action), KEY)[0]
        return int(state.along), int(state.aside)

    assert moved(LENGTH, 0, RIGHT) == (LENGTH, 0)
    assert moved(LENGTH, 0, DOWN) == (LENGTH, -1)
    assert moved(LENGTH, 1, UP) == (LENGTH, 1)
    assert moved(LENGTH, 1, DOWN) == (LENGTH, 0)
    assert moved(LENGTH, 1, LEFT) == (LENGTH, 1)
    assert moved(LENGTH - 1, 0, UP) == (LENGTH - 1, 0)


def test_who_is_not_told_the_cue_sees_it():
    """So nothing has to be found out: 1 in every episode, told or not."""
    assert FAMILY.optimum(jnp.float32(-1)) == 1.0
    np.testing.assert_array_equal(FAMILY.bayes_optimum(3), [1.0, 1.0, 1.0])


def test_a_corridor_has_a_length():
    assert t_maze(length=1000).horizon == 1001
    with pytest.raises(ValueError, match="length = 0: must be greater than 0"):
        t_maze(length=0)
