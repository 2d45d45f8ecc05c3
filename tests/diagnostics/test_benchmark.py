"""Timing: what is left when one part is taken from the whole."""

from metarl_jax.diagnostics.benchmark import _difference


def test_no_part_takes_less_than_no_time() -> None:
    whole, part = {"seconds": 2.0, "cpu_seconds": 3.0}, {"seconds": 2.1, "cpu_seconds": 1.0}
    assert _difference(whole, part) == {"seconds": 0.0, "cpu_seconds": 2.0}
