"""What the tests ask of XLA does not end them where XLA does not know it."""

from collections.abc import Sequence
from pathlib import Path

from tests.xla_flags import accepted, pinned, starts


def test_only_what_xla_takes_is_asked_for() -> None:
    asked: list[Sequence[str]] = []

    def takes(*known: str):
        def starts(flags: Sequence[str]) -> bool:
            asked.append(flags)
            return set(flags) <= set(known)

        return starts

    assert accepted(["--a", "--b"], takes("--a", "--b", "--c")) == ["--a", "--b"]
    assert asked == [["--a", "--b"]]
    assert accepted(["--a", "--b"], takes("--a")) == ["--a"]
    assert accepted(["--a", "--b"], takes()) == []


def test_a_flag_that_xla_does_not_know_ends_the_process() -> None:
    assert not starts(["--xla_no_such_flag=true"])


def test_what_is_pinned_depends_on_the_python() -> None:
    constraints = """# no-such==1
jax==1.0
jaxlib==2.0; python_version < "3.0"
jaxlib==3.0; python_version >= "3.0"  # the markers exclude each other
"""
    assert [pinned(name, constraints) for name in ("jax", "jaxlib", "no-such")] == ["1.0", "3.0", None]
    assert pinned("jaxlib", Path("constraints.txt").read_text()) is not None
