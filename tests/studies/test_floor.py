"""The floor: what is set beside what, and what the page says."""

import json

import pytest

from metarl_jax.cores import bound_to
from metarl_jax.studies import floor


def test_an_update_is_set_beside_as_many_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    cores: list[list[int]] = []

    def said(*words: str, **variables: str) -> str:
        cores.append(bound_to())
        if "benchmark" not in words:
            assert variables == {"OPENBLAS_NUM_THREADS": "1"}
            return "1e-11\n"
        total = {"seconds": 9.0, "cpu_seconds": 0.6}
        return json.dumps({"per_iteration": {"total": total}, "achieved": {"per_iteration": {"products": 4e10}}})

    before = bound_to()
    monkeypatch.setattr(floor, "_said", said)
    measured = floor.measure("ProMP, corner, bound to one core", rounds=2)
    assert cores == [before[-1:]] * 4
    assert bound_to() == before
    assert (measured["update"], measured["floor"], measured["ratio"]) == (0.6, 0.4, 1.5)
    assert "| ProMP | `metarl benchmark promp_navigation_corner` | 40.0 | 0.60 | 0.40 | 1.50 | 2 |" in floor.page(
        "floor", {"ProMP": measured}
    )


def test_numpy_is_timed_by_the_operation() -> None:
    assert 1e-12 < floor.seconds_per_operation(repetitions=20) < 1e-7
