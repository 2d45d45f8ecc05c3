"""Speed: what is timed, and how often."""

from types import SimpleNamespace

import pytest

from metarl_jax.studies import speed


@pytest.mark.parametrize(
    ("case", "seconds", "lanes", "repetitions"),
    [("ant_direction/mujoco", 0.5, 400, 5), ("ant_direction/mjx", 3.0, 40, 4), ("ant_direction/spring", 30.0, 400, 1)],
)
def test_repetitions_end_with_the_fifth_or_after_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, case: str, seconds: float, lanes: int, repetitions: int
) -> None:
    """Of an episode of 100 steps in each lane, on two cores; engines that are slow on CPUs have fewer lanes."""
    monkeypatch.setattr(speed, "_family", lambda case: SimpleNamespace(horizon=100))
    monkeypatch.setattr(speed, "_rollouts", lambda family, lanes: None)
    monkeypatch.setattr(speed, "_timed", lambda play, seed: (seconds, 2 * seconds))
    measured = speed.measure(case)
    assert (measured["lanes"], measured["repetitions"]) == (lanes, repetitions)
    assert measured["steps_per_second"] == round(100 * lanes / seconds)
    assert measured["cpu_microseconds_per_step"] == round(2e6 * seconds / (100 * lanes), 2)


def test_a_family_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_HORIZON", 3)
    measured = speed.measure("navigation_finn", lanes=2)
    assert (measured["lanes"], measured["repetitions"]) == (2, 5)
    assert measured["steps_per_second"] > 0
