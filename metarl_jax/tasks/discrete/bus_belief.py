"""The city of buses, and what it is worth to one who does not know where they go."""

import itertools

import numpy as np

SIDE = 9
CENTRE, STOPS, ENDS, GOALS = (
    np.ravel_multi_index(np.transpose(places), (SIDE, SIDE))
    for places in (
        [(4, 4)],
        [(4, 5), (5, 4), (3, 4), (4, 3)],  # around the centre
        [(0, 1), (0, 7), (8, 1), (8, 7)],  # where the buses go from there
        [(0, 0), (8, 8), (0, 8), (8, 0)],
    )
)
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
STEP_COST = -0.1


def _streets() -> np.ndarray:
    """``[4, 81]`` the cell that each move leads to."""
    xy = np.stack(np.unravel_index(np.arange(SIDE**2), (SIDE, SIDE)))
    moved = np.clip(xy[:, None] + np.transpose(MOVES)[..., None], 0, SIDE - 1)
    return np.ravel_multi_index(tuple(moved), (SIDE, SIDE))


STREETS = _streets()
NUM_CELLS, NUM_BUSES = SIDE**2, len(STOPS)
Belief = tuple[int | None, ...]
"""The end of the bus from each stop, as far as it is known: all that fit are equally likely."""

UNKNOWN: Belief = (None,) * NUM_BUSES


def bayes_optimum(episodes: int, horizon: int) -> np.ndarray:
    """Exact expected return of each episode of a trial by who does not know the buses, for the largest total.

    Of several such policies, it is of one that earns early.

    Args:
      episodes: of a trial.
      horizon: steps per episode.

    Returns:
      ``[episodes]`` float64.

    Example:
      >>> bayes_optimum(1, horizon=8).round(3).tolist()  # there is time to walk
      [0.3]
    """
    places = np.concatenate([STOPS, ENDS])
    cells, chances = _rides()
    early = 1.0 + 1e-9 * np.arange(episodes)[::-1]
    is_goal = GOALS[:, None] == np.arange(NUM_CELLS)
    later = np.zeros((episodes, len(cells)))  # of each episode, [belief], once those before are over
    for episode in reversed(range(episodes)):
        ended = np.broadcast_to(later[..., None, None], (*later.shape, *is_goal.shape))
        earned = ended
        for _ in range(horizon):
            there = np.where(is_goal, ended, earned)
            there[episode] += np.where(is_goal, 1.0, STEP_COST)
            ride = there.copy()
            by_goal = np.swapaxes(there, 1, 2).reshape(episodes, len(GOALS), -1)
            ride[..., places] = np.swapaxes((by_goal[..., cells] * chances).sum(-1), 1, 2)
            options = np.stack([*(there[..., street] for street in STREETS), ride])
            best = np.einsum("e,ae...->a...", early, options).argmax(axis=0)
            earned = np.take_along_axis(options, best[None, None], axis=0)[0]
        later = earned[..., CENTRE[0]].mean(axis=-1)
    return later[:, 0]


def _rides() -> tuple[np.ndarray, np.ndarray]:
    """``[beliefs, 8, 4]`` where the bus at each stop and end leads, as ``81 belief + cell``, and how likely."""
    beliefs = [UNKNOWN, *sorted({*map(_complete, _partial())} - {UNKNOWN}, key=str)]
    number = {belief: i for i, belief in enumerate(beliefs)}
    cells = np.zeros((len(beliefs), 2 * NUM_BUSES, NUM_BUSES), int)
    chances = np.zeros(cells.shape)
    for belief in beliefs:
        for stop, end in itertools.product(range(NUM_BUSES), repeat=2):
            if belief[stop] not in (end, None) or (belief[stop] is None and end in belief):
                continue
            after = number[_complete((*belief[:stop], end, *belief[stop + 1 :]))] * NUM_CELLS
            chance = 1.0 if belief[stop] == end else 1.0 / belief.count(None)
            cells[number[belief], stop, end], chances[number[belief], stop, end] = after + ENDS[end], chance
            back = number[belief], NUM_BUSES + end, stop
            cells[back], chances[back] = after + STOPS[stop], chance
    return cells, chances


def _partial() -> list[Belief]:
    """All that can be known of a permutation by some of its entries."""
    return [
        tuple(end if is_known else None for end, is_known in zip(ends, known, strict=True))
        for ends in itertools.permutations(range(NUM_BUSES))
        for known in itertools.product((True, False), repeat=NUM_BUSES)
    ]


def _complete(belief: Belief) -> Belief:
    """The last bus goes to the end that is left."""
    if belief.count(None) != 1:
        return belief
    (left,) = set(range(NUM_BUSES)) - set(belief)
    return tuple(left if end is None else end for end in belief)
