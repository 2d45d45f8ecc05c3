"""Processes that share a run: who is killed, what the others say, and what the page says."""

import subprocess
import sys
from pathlib import Path

import pytest

from metarl_jax.checks import Refusal
from metarl_jax.studies import processes

ROWS = "".join(f'{{"iteration": {i}}}\n' for i in range(20))


def start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_the_last_is_killed_and_the_others_are_waited_for(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(ROWS)
    said = "import sys; print('first', file=sys.stderr); sys.exit('process 1 has ended')"
    victim = start("import time; time.sleep(600)")
    killed = processes._kill_one([start(said), victim], tmp_path)
    assert (killed["codes"], killed["last"]) == ([1], "process 1 has ended")
    assert 0 < killed["seconds"] < 60
    assert victim.returncode == -9


def test_what_fails_by_itself_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="a mistake"):
        processes.ended([start("raise SystemExit('a mistake')")])
    early = start("pass")
    early.communicate()
    with pytest.raises(Refusal, match="before it could be killed"):
        processes._kill_one([early], tmp_path)


def test_the_page_has_a_row_for_each_number() -> None:
    measured = {"command": "metarl train x", "difference": 2.2e-7, "seconds": 0.42, "codes": [75, 75], "last": "ended"}
    page = processes.page("processes", {"3 processes": {**measured, "on_from": 10, "is_same": True, "jax": "0.10.2"}})
    assert "| 3 processes | `metarl train x` | 2.2e-07 | 0.4 s | 75, 75 | ended | 10 | yes | 0.10.2 |" in page
