"""Start-up: what is timed, when it ends, and what the page says."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from metarl_jax.studies import startup

ROOT = Path(__file__).parents[2]
TIMES = {"seconds": 1.25, "cpu_seconds": 2.5}
MEASURED = {"command": "metarl --help", "filled": TIMES, "repetitions": 3, "cores": 2, "jax": "0.10.2"}


def test_help_is_timed_to_its_end(tmp_path: Path) -> None:
    seconds, cpu_seconds = startup.timed(["--help"], tmp_path)
    assert seconds > 0.05
    assert cpu_seconds > 0.05


def test_training_is_timed_to_its_first_row_and_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What trains for an hour writes a row at once; and of one that fails nothing is taken for a number."""
    (tmp_path / "metarl_jax").mkdir()
    code = "import os, pathlib, sys, time\n" + (
        "if 'wrong' in sys.argv: sys.exit(2)\n"
        "run = pathlib.Path(sys.argv[-1])\nrun.mkdir()\n"
        "(run / 'metrics.jsonl').write_text(os.environ['JAX_COMPILATION_CACHE_DIR'])\ntime.sleep(3600)\n"
    )
    (tmp_path / "metarl_jax" / "__init__.py").touch()
    (tmp_path / "metarl_jax" / "__main__.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert startup.timed(["train", "x"], tmp_path)[0] < 60
    with pytest.raises(subprocess.CalledProcessError):
        startup.timed(["train", "wrong"], tmp_path)


def test_the_median_of_cold_and_filled_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    caches: list[Path] = []

    def timed(words: tuple[str, ...], cache: Path) -> tuple[float, float]:
        caches.append(cache)
        return float(len(caches)), 2.0 * len(caches)

    monkeypatch.setattr(startup, "timed", timed)
    measured = startup.measure("navigation", repetitions=3)
    assert measured["cold"] == {"seconds": 2.0, "cpu_seconds": 4.0}
    assert measured["filled"] == {"seconds": 5.0, "cpu_seconds": 10.0}
    assert len(set(caches[:3])) == 3
    assert set(caches[3:]) == {caches[0]}  # which the first start has filled
    assert "cold" not in startup.measure("help", repetitions=1)


def test_the_script_asks_for_cases_and_the_page_has_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(startup, "measure", lambda case, repetitions: {**MEASURED, "repetitions": repetitions})
    monkeypatch.setattr(sys, "argv", ["startup.py", "--cases", "help", "--repetitions", "3"])
    runpy.run_path(str(ROOT / "benchmarks" / "startup.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("help {'command'")
    page = (tmp_path / "benchmarks/results/startup.md").read_text()
    assert "| help | `metarl --help` | | | 1.25 | 2.50 | 3 | 2 | 0.10.2 |" in page.replace("  ", " ")
