"""The floor: what is set beside what, and what the page says."""

import json

import pytest

from metarl_jax.cores import bound_to
from metarl_jax.studies import floor


def test_an_update_is_set_beside_as_many_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    cores: list[list[int]] = []

    def metarl(*words: object, capture: bool) -> str:
        cores.append(bound_to())
        assert (words[0], capture) == ("benchmark", True)
        total = {"seconds": 9.0, "cpu_seconds": 0.6}
        return json.dumps({"per_iteration": {"total": total}, "achieved": {"per_iteration": {"products": 4e10}}})

    def numpy() -> float:
        cores.append(bound_to())
        return 1e-11

    before = bound_to()
    monkeypatch.setattr(floor.commands, "metarl", metarl)
    monkeypatch.setattr(floor, "_numpy", numpy)
    measured = floor.measure("ProMP, corner, bound to one core", rounds=2)
    assert cores == [before[-1:]] * 4
    assert bound_to() == before
    assert (measured["update"], measured["floor"], measured["ratio"]) == (0.6, 0.4, 1.5)
    assert "| ProMP | `metarl benchmark promp_navigation_corner` | 40.0 | 0.60 | 0.40 | 1.50 | 2 |" in floor.page(
        "floor", {"ProMP": measured}
    )


def test_numpy_is_timed_by_the_operation_in_a_process_of_its_own() -> None:
    assert 1e-12 < floor._numpy() < 1e-7
