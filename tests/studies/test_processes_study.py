"""Processes that share a run: who is killed, that none is left, and what the page says."""

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from metarl_jax.checks import Refusal
from metarl_jax.studies import processes

ROWS = "".join(f'{{"iteration": {i}}}\n' for i in range(20))
SLEEPS = "import time; time.sleep(600)"


def python(stack: ExitStack, folder: Path, *codes: str) -> list[processes.Process]:
    lines = [(sys.executable, "-c", code) for code in codes]
    return [stack.enter_context(processes.started(line, folder / str(i))) for i, line in enumerate(lines)]


def test_the_last_is_killed_and_the_others_are_waited_for(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(ROWS)
    said = "import sys; print('first', file=sys.stderr); sys.exit('process 1 has ended')"
    with ExitStack() as stack:
        both = python(stack, tmp_path, said, SLEEPS)
        killed = processes.kill_one(both, tmp_path)
    assert (killed["done"], killed["codes"], killed["last"]) == (20, [1], "process 1 has ended")
    assert 0 <= killed["seconds"] < 60
    assert both[1].running.returncode == -9


def test_what_fails_by_itself_is_no_result_and_leaves_nobody(tmp_path: Path) -> None:
    with ExitStack() as stack:
        both = python(stack, tmp_path, "raise SystemExit('a mistake')", SLEEPS)
        with pytest.raises(Refusal, match="a mistake"):
            processes.succeed(both)
    assert [process.running.returncode for process in both] == [1, -9]
    with ExitStack() as stack:
        early = python(stack, tmp_path, "raise SystemExit('too early')")
        early[0].running.wait()
        with pytest.raises(Refusal, match="before it could be killed: too early"):
            processes.kill_one(early, tmp_path)


def test_the_page_has_a_row_for_each_number() -> None:
    killed = {"done": 14, "seconds": 0.42, "codes": [75, 75], "last": "ended", "on_from": 10, "is_same": True}
    measured = {"command": "metarl train x", "difference": 2.2e-7, **killed, "jax": "0.10.2"}
    page = processes.page("processes", {"3 processes": measured})
    assert "| 3 processes | `metarl train x` | 2.2e-07 | 14 | 0.4 s | 75, 75 | ended | 10 | yes | 0.10.2 |" in page
