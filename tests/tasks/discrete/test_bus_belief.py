"""What the city of buses is worth to one who does not know it, against a search over all that can be learned."""

import functools
import itertools

import numpy as np
import pytest

from metarl_jax.tasks.discrete.bus_belief import _rides, bayes_optimum

STOPS, ENDS = ((4, 5), (5, 4), (3, 4), (4, 3)), ((0, 1), (0, 7), (8, 1), (8, 7))
GOALS = ((0, 0), (8, 8), (0, 8), (8, 0))
HORIZON, EPISODES = 6, 2


def bus(permutation, place):
    """Where the bus at a place goes; None if there is none."""
    there = {stop: ENDS[end] for stop, end in zip(STOPS, permutation, strict=True)}
    return (there | {end: stop for stop, end in there.items()}).get(place)


@functools.cache
def value(episode, time, possible, goal, place):
    """What is still earned in the trial, at best, with these permutations possible."""
    if time == HORIZON or place == goal:
        return new_episode(episode + 1, possible)

    def arrive(possible, there):
        return (1.0 if there == goal else -0.1) + value(episode, time + 1, possible, goal, there)

    x, y = place
    walks = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]
    options = [arrive(possible, there) for there in walks if min(there) >= 0 and max(there) <= 8]
    outcomes = {}
    for permutation in possible:
        outcomes.setdefault(bus(permutation, place), []).append(permutation)
    if None not in outcomes:
        rides = [len(those) * arrive(frozenset(those), there) for there, those in outcomes.items()]
        options.append(sum(rides) / len(possible))
    return max(options)


@functools.cache
def new_episode(episode, possible):
    if episode == EPISODES:
        return 0.0
    return np.mean([value(episode, 0, possible, goal, (4, 4)) for goal in GOALS])


def test_it_is_what_a_search_over_sets_of_permutations_finds():
    """Six steps, too few to walk: only who tries the buses arrives, and another does better at once."""
    exact = new_episode(0, frozenset(itertools.permutations(range(4))))
    found = bayes_optimum(EPISODES, HORIZON)
    assert found.sum() == pytest.approx(exact, abs=1e-12)
    assert found[0] < found[1]


@pytest.mark.parametrize(("episodes", "expected"), [(1, [0.3]), (2, [0.2, 0.7]), (4, [0.2, 0.7, 0.7625, 0.784375])])
def test_exploring_is_worth_what_it_costs_from_two_episodes_on(episodes, expected):
    """In one alone nothing is better than to walk; told, 0.8 an episode."""
    np.testing.assert_allclose(bayes_optimum(episodes, 20), expected, atol=1e-12)


def test_what_a_bus_can_do_is_certain_or_equally_likely():
    _, chances = _rides()
    assert chances.shape == (113, 8, 4)  # partial permutations of four
    np.testing.assert_allclose(chances.sum(axis=-1), 1.0)
    assert set(np.unique(chances)) == {0.0, 0.25, 1 / 3, 0.5, 1.0}
