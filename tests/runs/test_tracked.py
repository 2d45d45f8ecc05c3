"""Trackers hear of runs as they are trained: alone, as lanes, resumed, and of what runs leave."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config import Config
from metarl_jax.config.source import parse_yaml
from metarl_jax.runs.build import build
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.launch import choose_places, prepare_program
from metarl_jax.runs.log import open_log
from metarl_jax.runs.program import initialiser, make_program
from metarl_jax.runs.run import load, prepare_directory
from metarl_jax.runs.tracked import make_trackers, send
from metarl_jax.runs.training import Lane, train_lanes
from metarl_jax.tracking.base import Artifact
from metarl_jax.tracking.jsonl import read_metrics
from tests.helpers import tiny_config

HEARING = '''
import json
from metarl_jax.tracking.base import Tracker

def diary(*, folder: str, broken: bool = False) -> Tracker:
    """A file for each run.

    Args:
      folder: of the files.
      broken: fails.
    """

    def init(run):
        assert not broken, "the disk is on fire"
        assert "trackers" not in run.config["logging"]  # each may have its secrets
        file = open(f"{folder}/{run.id}.jsonl", "a", buffering=1)
        say(file, ["init", run.name, run.group, run.iteration, run.config["seed"]])
        return file

    def say(file, what):
        file.write(json.dumps(what) + "\\n")

    return Tracker(
        init,
        lambda file, row: say(file, ["log", row["iteration"], row["env_steps"]]),
        lambda file, artifact: say(file, ["artifact", artifact.kind, artifact.path.name]),
        lambda file: file.close(),
    )
'''
STEPS = 4 * 2 * 3 * 5  # tasks, stages, episodes, horizon
ONE = jax.devices()[:1]


@pytest.fixture
def heard(tmp_path: Path, write_module: Callable[[str, str], None]) -> Path:
    """The folder of the diaries, and a working directory with their module."""
    write_module("hearing", HEARING)
    (tmp_path / "heard").mkdir()
    return tmp_path / "heard"


def config_with(folder: Path, seed: int = 3, **keys: Any) -> Config:
    return tiny_config(seed=seed, logging={"trackers": [{"name": "hearing:diary", "folder": str(folder), **keys}]})


def diaries(folder: Path) -> dict[int, list[Any]]:
    """What was said, by the seed of the run."""
    told = [[json.loads(line) for line in file.read_text().splitlines()] for file in folder.iterdir()]
    return {lines[0][4]: lines for lines in told}


def logged(first: int, last: int) -> list[Any]:
    return [["log", iteration, iteration * STEPS] for iteration in range(first, last + 1)]


def prepared(lanes: list[Lane], resume: bool = False) -> list[Lane]:
    for lane in lanes:
        prepare_directory(lane.directory, lane.config, resume, False)
    return lanes


def test_lanes_are_a_group_and_a_run_that_is_resumed_goes_on_as_the_same(heard: Path, tmp_path: Path) -> None:
    """Of one lane the newest checkpoint is lost: what it does anew is not told anew."""
    configs = [config_with(heard, seed) for seed in (3, 4)]
    program = make_program(build(configs[0]), ONE, 2)
    with choose_places(configs[0], "x", tmp_path / "both", [3, 4], "new") as places:
        lanes = [Lane(config, place.directory, place.group) for config, place in zip(configs, places, strict=True)]
    train_lanes(program, prepared(lanes), until=4, warn=pytest.fail)
    lost = Checkpoints(lanes[0].directory / "checkpoints")
    newest = lanes[0].directory / "checkpoints" / str(lost.steps()[-1])
    newest.rename(tmp_path / "lost")
    alone = [lane._replace(group=None) for lane in lanes]  # as ``metarl resume both/seed-3`` knows it
    train_lanes(program, prepared(alone, resume=True), warn=pytest.fail)
    of_seed = diaries(heard)
    assert of_seed.keys() == {3, 4}
    for seed, begins in ((3, 2), (4, 4)):
        name = f"both/seed-{seed}"
        again = ["init", name, "both", begins, seed]
        assert of_seed[seed] == [["init", name, "both", 0, seed], *logged(1, 4), again, *logged(5, 6)]
    assert [row["iteration"] for row in read_metrics(lanes[0].directory)] == [1, 2, 3, 4, 5, 6]


def test_a_tracker_that_fails_costs_no_update_and_what_the_run_left_is_sent(heard: Path, tmp_path: Path) -> None:
    said: list[str] = []
    program = make_program(build(config_with(heard)), ONE)
    (lane,) = prepared([Lane(config_with(heard, broken=True), tmp_path / "mine")])
    (result,) = train_lanes(program, [lane], warn=said.append)
    assert result.finished
    assert said[-1].startswith("hearing:diary was given up (AssertionError: the disk is on fire): it has the run up to")
    assert diaries(heard) == {}
    mended = lane._replace(config=config_with(heard))
    prepared([mended], resume=True)
    picture = Artifact("picture", lane.directory / "training.png")
    send(lane.directory, [picture], pytest.fail)  # it was given up: not before it has the rows
    assert diaries(heard) == {}
    train_lanes(program, [mended], warn=pytest.fail)
    send(lane.directory, [picture], pytest.fail)
    begins = ["init", "mine", None, 6, 3]
    assert diaries(heard) == {3: [begins, *logged(1, 6), begins, ["artifact", "picture", "training.png"]]}
    assert load(lane.directory).config.logging.trackers == ()  # whoever loads it may not have them


def test_what_cannot_be_sent_is_said(heard: Path, tmp_path: Path) -> None:
    said: list[str] = []
    prepared([Lane(config_with(heard), tmp_path / "mine")])
    (tmp_path / "hearing.py").unlink()
    sys.modules.pop("hearing")
    send(tmp_path / "mine", [Artifact("picture", tmp_path / "mine" / "training.png")], said.append)
    (sentence,) = said
    assert sentence.startswith("the trackers were not told of training.png: ")
    assert "there is no module 'hearing'" in sentence


def test_of_several_processes_the_first_one_tracks(
    heard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build(config_with(heard))
    prepare_directory(tmp_path / "mine", made.config, False, False)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    opened = open_log(
        made, tmp_path / "mine", initialiser(made)(made.config), until=1, resume=False, report=print, warn=pytest.fail
    )
    with opened:
        pass
    assert not (tmp_path / "mine" / "tracking").exists()
    assert diaries(heard) == {}


def test_a_missing_client_is_refused_before_anything_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl_jax.tracking.base.find_spec", lambda module: None)
    monkeypatch.setattr("metarl_jax.runs.launch.settled_program", pytest.fail)
    config = tiny_config(logging={"trackers": ["wandb"]})
    with pytest.raises(Refusal, match=r"pip install 'metarl-jax\[wandb\]'"):
        prepare_program([config], None)
    assert make_trackers(tiny_config()) == {}


def test_the_tracker_of_the_documentation(tmp_path: Path, write_module: Callable[[str, str], None]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "tracking.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    write_module("my_trackers", code)
    (given,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    listed = parse_yaml(given, "page")["logging"]["trackers"]
    assert tiny_config(logging={"trackers": listed}).logging.trackers[0].mode == "offline"
    config = tiny_config(logging={"trackers": listed[-1:]}, training={"num_iterations": 2})
    (lane,) = prepared([Lane(config, tmp_path / "mine")])
    train_lanes(make_program(build(config), ONE), [lane], warn=pytest.fail)
    lines = (lane.directory / "diary.txt").read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [["1", str(STEPS)], ["2", str(2 * STEPS)]]
