"""Text that fits the terminal, in letters that it has."""

import io
import os
import pty
import sys

import pytest

from metarl_jax.report.text import columns, keep_to_locale, wrap
from tests.helpers import metarl

LONG = "algorithm.inner_lr: must be at least 0 (got -0.1); see two-dimensional configs/maml_navigation.yaml, 1,234.56"


@pytest.mark.parametrize("width", [30, 80])
def test_lines_are_broken_between_words_alone(width: int) -> None:
    lines = wrap(LONG, width, "error: ", "       ").split("\n")
    assert max(map(len, lines)) <= max(width, 7 + len("configs/maml_navigation.yaml,"))
    assert [word for line in lines for word in line.split()] == ["error:", *LONG.split()]
    assert all(line.startswith("       ") for line in lines[1:])


def test_commands_and_what_goes_into_a_file_stay_as_they_are() -> None:
    command = "  metarl resume 'my runs/a' --devices 2"
    assert wrap(f"continue with:\n{command}", 10).split("\n")[-1] == command
    assert wrap(LONG, None, "error: ") == f"error: {LONG}"


def test_the_width_is_the_terminal_s_unless_the_user_says_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert columns(io.StringIO()) is None
    leader, follower = pty.openpty()
    with os.fdopen(leader), os.fdopen(follower, "w") as terminal:
        assert columns(terminal) is None  # a terminal that does not know, either
        monkeypatch.setenv("COLUMNS", "91")
        assert columns(terminal) == columns(io.StringIO()) == 91


@pytest.mark.parametrize(
    ("locale", "written"),
    [
        ({"LC_ALL": "C"}, b"\\u2500"),
        ({"LANG": "POSIX", "LC_CTYPE": "C.UTF-8"}, b"\\u2500"),
        ({"LANG": "C.UTF-8"}, b"\xe2\x94\x80"),
    ],
)
def test_only_what_the_locale_has_is_written(
    locale: dict[str, str], written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LANG", "LC_CTYPE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    keep_to_locale()
    stream.write("\u2500")
    assert stream.buffer.getvalue() == written  # type: ignore[attr-defined]


@pytest.mark.slow
def test_help_and_errors_are_ascii_in_the_c_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LC_ALL": "", "LANG": "C", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    for arguments, said in (
        (["train", "-h"], "metarl train"),
        (["nonsense"], "metarl"),
        (["list", "maml"], "inner_lr"),
    ):
        done = metarl(*arguments)
        assert said in done.stdout + done.stderr
        assert (done.stdout + done.stderr).isascii()
        assert max(map(len, (done.stdout + done.stderr).splitlines())) <= 80
