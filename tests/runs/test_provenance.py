"""What is recorded of each start of a run: facts, each of which may be missing, and no secrets."""

import json
import shutil
import subprocess
from pathlib import Path

import jax
import pytest

from metarl_jax.runs import provenance
from metarl_jax.runs.directory import PROVENANCE, delete_run
from metarl_jax.runs.provenance import command, commit, read_starts, record_start
from tests.helpers import start


def test_each_start_of_a_run_is_a_line_and_goes_with_it(uninterrupted: Path, tmp_path: Path) -> None:
    (first,) = read_starts(uninterrupted)
    assert first["iteration"] == 0
    assert first["versions"]["jax"] == jax.__version__
    assert first["devices"][0]["platform"] == "cpu"
    assert first["memory_bytes"] > 2**20
    assert set(first["package_git"] or {"commit": 0, "dirty": 0}) == {"commit", "dirty"}
    again = shutil.copytree(uninterrupted, tmp_path / "again")
    start(again, resume=True)  # there is nothing left to train
    assert [row["iteration"] for row in read_starts(again)] == [0, 6]
    delete_run(again)
    assert not (again / PROVENANCE).exists()


def test_what_fails_is_not_known_and_fails_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(provenance._FACTS, "host", lambda: 1 / 0)
    monkeypatch.setitem(provenance._FACTS, "package_git", lambda: subprocess.run(["false"], check=True))
    provenance.provenance.cache_clear()
    record_start(tmp_path, 3)
    record_start(tmp_path / "nowhere", 0)
    provenance.provenance.cache_clear()
    (row,) = read_starts(tmp_path)
    assert (row["host"], row["package_git"], row["iteration"]) == (None, None, 3)
    assert row["python"]


def test_no_environment_variable_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "a5f1-secret-9c2b")
    provenance.provenance.cache_clear()
    record_start(tmp_path, 0)
    text = (tmp_path / PROVENANCE).read_text()
    assert "secret" not in text
    assert set(json.loads(text)) == {"started", "iteration", *provenance._FACTS}


@pytest.mark.parametrize("key", ["logging", "logging.trackers", "logging.trackers.0.tracking_uri"])
def test_the_addresses_of_trackers_are_not_recorded(key: str) -> None:
    """They may hold a password, and a report shows the command."""
    words = ["/bin/metarl", "train", "quick start", f"{key}=[{{tracking_uri:\nhttps://me:secret@host}}]", "seed=3"]
    assert command(words) == f"metarl train 'quick start' {key}=... seed=3"


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("/lib/metarl_jax/__main__.py", "metarl"),
        ("/home/me/robot/__main__.py", "__main__.py"),
        ("/bin/metarl", "metarl"),
    ],
)
def test_the_command_is_one_that_can_be_typed(program: str, told: str) -> None:
    """``python -m metarl_jax`` is ``metarl``: so a comparison starts its trainings."""
    assert command([program, "train", "quickstart"]) == f"{told} train quickstart"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_tells_its_commit_and_whether_it_has_changed(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
        told = subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return told.stdout.strip()

    git("init", "-q")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "first")
    below = tmp_path / "sub"
    below.mkdir()
    assert commit(below) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "code.py").write_text("2")
    provenance._described.cache_clear()
    assert commit(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": True}
