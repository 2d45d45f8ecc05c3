"""A trial's setting follows from its number."""

import numpy as np
import pytest

from metarl_jax.studies.sweep.points import corners, grid_cells, num_trials, place, point
from metarl_jax.studies.sweep.study import Budget, Spread, Study

SPREADS = {"a": Spread(uniform=(-1.0, 1.0)), "b": Spread(log_uniform=(1e-4, 1.0)), "c": Spread(choice=("x", "y", "z"))}


def study(**fields: object) -> Study:
    return Study.model_validate({"config": "x", **fields})


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_draws_depend_on_the_number_and_the_seed_alone(sampler: str) -> None:
    asked = study(sample=SPREADS, sampler=sampler, budget=Budget(trials=64))
    points = [point(asked, number) for number in range(64)]
    assert [point(asked, number) for number in reversed(range(64))] == points[::-1]
    assert len({drawn["a"] for drawn in points}) == 64
    assert point(study(sample=SPREADS, sampler=sampler, sampler_seed=1, budget=Budget(trials=64)), 5) != points[5]
    assert all(-1 <= drawn["a"] < 1 and 1e-4 <= drawn["b"] < 1 for drawn in points)
    assert abs(np.mean([drawn["a"] for drawn in points])) < 0.3
    assert abs(np.mean(np.log10([drawn["b"] for drawn in points])) + 2) < 0.5
    assert {drawn["c"] for drawn in points} == {"x", "y", "z"}
    assert all(float(f"{drawn['b']:.6g}") == drawn["b"] for drawn in points)  # as a person would write it


def test_sobol_covers_the_square_evenly() -> None:
    asked = study(sample=dict.fromkeys("ab", SPREADS["a"]), sampler="sobol", budget=Budget(trials=16))
    cells = {(drawn["a"] // 0.5, drawn["b"] // 0.5) for drawn in (point(asked, number) for number in range(16))}
    assert len(cells) == 16


def test_a_grid_is_gone_through_once_and_each_round_of_samples_shares_a_draw() -> None:
    grid = {"k": (1, 2), "m": ("p", "q", "r")}
    alone = study(grid=grid, budget=Budget(trials=100))
    assert num_trials(alone) == 6
    assert [point(alone, number) for number in range(6)] == grid_cells(alone)
    both = study(grid=grid, sample={"a": SPREADS["a"]}, budget=Budget(trials=12))
    assert num_trials(both) == 12
    drawn = [point(both, number)["a"] for number in range(12)]
    assert len(set(drawn[:6])) == len(set(drawn[6:])) == 1
    assert drawn[0] != drawn[6]


def test_corners_have_every_value_and_both_ends() -> None:
    asked = study(grid={"k": (1, 2)}, sample=SPREADS, budget=Budget(trials=2))
    found = corners(asked)
    assert len(found) == 2 * 3
    for key, values in {"k": {1, 2}, "a": {-1.0, 1.0}, "b": {1e-4, 1.0}, "c": {"x", "y", "z"}}.items():
        assert {values_of[key] for values_of in found} == values


def test_a_place_in_a_spread_stays_in_it() -> None:
    assert place(Spread(uniform=(0.1234564, 1.0)), 0.0) == 0.1234564  # not 0.123456
    assert place(Spread(log_uniform=(0.01, 100.0)), 0.5) == 1.0
