"""Trackers follow a run: they are told of every row once, and whatever they do, the run goes on."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metarl_jax.checks import Refusal
from metarl_jax.tracking import follow
from metarl_jax.tracking.base import Artifact, TrackedRun, Tracker, require_client, telling
from metarl_jax.tracking.follow import following
from metarl_jax.tracking.jsonl import JSON_LINES
from tests.helpers import wait_for

PICTURE = Artifact("picture", Path("training.png"))


class Heard(list[Any]):
    """What a tracker was told, in order."""

    def tracker(self, **replaced: Callable[..., object]) -> Tracker:
        ours = Tracker(
            init=lambda run: self.append(run.id),
            log=lambda session, row: self.append(row["iteration"]),
            artifact=lambda session, artifact: self.append(artifact.kind),
            finish=lambda session: self.append("end"),
        )
        return ours._replace(**replaced)


def train(run_dir: Path, first: int, last: int, warn: Callable[[str], object], **trackers: Tracker) -> None:
    """Rows ``first`` to ``last`` of a run that goes on from before them, and a picture."""
    run = TrackedRun(run_dir, first - 1, id="x")
    with telling([JSON_LINES], run) as write, following(trackers, run, warn) as tell:
        for iteration in range(first, last + 1):
            write({"iteration": iteration})
            tell({"iteration": iteration})
        tell(PICTURE)


def failing(*_: Any) -> None:
    raise ConnectionError("no route to host\nand more")


def leaving(*_: Any) -> None:
    raise SystemExit(1)


def test_a_run_that_goes_on_from_an_earlier_checkpoint_tells_no_row_twice(tmp_path: Path) -> None:
    heard = Heard()
    train(tmp_path, 1, 4, pytest.fail, mine=heard.tracker())
    train(tmp_path, 3, 6, pytest.fail, mine=heard.tracker())
    assert heard == ["x", 1, 2, 3, 4, "picture", "end", "x", 5, 6, "picture", "end"]


@pytest.mark.parametrize("fault", [failing, leaving])
@pytest.mark.parametrize("call", ["init", "log", "artifact", "finish"])
def test_a_tracker_that_fails_is_dropped_and_the_others_hear_all(
    tmp_path: Path, call: str, fault: Callable[..., None]
) -> None:
    heard, broken, said = Heard(), Heard(), list[str]()
    train(tmp_path, 1, 3, said.append, mine=heard.tracker(), broken=broken.tracker(**{call: fault}))
    assert heard == ["x", 1, 2, 3, "picture", "end"]
    reason = "ConnectionError: no route to host" if fault is failing else "SystemExit: 1"
    reached = 0 if call in ("init", "log") else 3
    assert said[-1] == (
        f"broken was given up ({reason}): it has the run up to iteration {reached}, metrics.jsonl has all of it, and "
        "'metarl resume' sends what is missing"
    )
    assert said[:-1] in ([], [f"broken: {reason}; the run goes on without it"])
    assert broken.count("end") == (call in ("log", "artifact"))  # what was begun is closed


def test_it_is_said_at_once_that_a_tracker_was_dropped_and_once(tmp_path: Path) -> None:
    said, over = list[str](), threading.Event()
    tracker = Heard().tracker(log=failing, finish=lambda session: over.set())
    with following({"mine": tracker}, TrackedRun(tmp_path), said.append) as tell:
        tell({"iteration": 1})
        assert over.wait(10)
        assert said == []
        tell({"iteration": 2})
        tell({"iteration": 3})
        assert said == ["mine: ConnectionError: no route to host; the run goes on without it"]
    assert len(said) == 2


def test_a_tracker_that_was_dropped_is_told_what_it_lacks_when_the_run_goes_on(tmp_path: Path) -> None:
    heard = Heard()

    def fails_at_3(session: Any, row: dict[str, Any]) -> None:
        if row["iteration"] == 3:
            failing()
        heard.append(row["iteration"])

    train(tmp_path, 1, 4, lambda text: None, mine=heard.tracker(log=fails_at_3))
    assert heard == ["x", 1, 2, "end"]
    heard.clear()
    train(tmp_path, 5, 6, pytest.fail, mine=heard.tracker())
    assert heard == ["x", 3, 4, 5, 6, "picture", "end"]


def test_a_tracker_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_PATIENCE", 0.05)
    said, go_on = list[str](), threading.Event()
    try:
        train(tmp_path, 1, 2, said.append, mine=Heard().tracker(log=lambda session, row: go_on.wait(10)))
        (end,) = said
        assert end.startswith("mine was given up (it was not done 0.05 s after the end of the run): ")
    finally:
        go_on.set()
    wait_for(lambda: not follow._HUNG)


def test_of_several_runs_only_the_first_waits_for_a_tracker_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none once it has come round."""
    monkeypatch.setattr(follow, "_PATIENCE", 0.3)
    go_on = threading.Event()
    hanging, waited = Heard().tracker(finish=lambda session: go_on.wait(10)), list[float]()
    for seed in (3, 4):
        (tmp_path / f"{seed}").mkdir()
        began = time.monotonic()
        train(tmp_path / f"{seed}", 1, 1, lambda text: None, mine=hanging)
        waited.append(time.monotonic() - began)
    assert waited[0] >= 0.3 > waited[1]
    go_on.set()
    wait_for(lambda: not follow._HUNG)


def test_a_damaged_record_costs_the_tracker_and_not_the_run(tmp_path: Path) -> None:
    said, heard = list[str](), Heard()
    (tmp_path / "tracking").mkdir()
    (tmp_path / "tracking" / "my_module.mine.json").write_text("{")
    train(tmp_path, 1, 2, said.append, **{"my_module:mine": heard.tracker()})
    assert heard == []
    assert said[-1].startswith("my_module:mine was given up (JSONDecodeError")


def test_a_run_that_fails_closes_its_trackers(tmp_path: Path) -> None:
    heard = Heard()
    with (
        pytest.raises(KeyboardInterrupt),
        following({"mine": heard.tracker()}, TrackedRun(tmp_path, id="x"), pytest.fail),
    ):
        raise KeyboardInterrupt
    assert heard == ["x", "end"]


def test_a_folder_of_the_clients_name_is_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights & Biases leaves a folder ./wandb where it has run."""
    (tmp_path / "no_such_client").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Refusal, match=r"needs its client: pip install 'metarl-jax\[no_such_client\]'"):
        require_client("no_such_client")
