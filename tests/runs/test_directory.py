"""Run directories: what belongs to a run, and one run at a time."""

import json
import threading
from pathlib import Path

import pytest

from metarl_jax.config import ConfigError
from metarl_jax.runs.directory import (
    CHECKPOINTS,
    CONFIG_FILE,
    delete_run,
    evaluation_files,
    hold,
    holds_run,
    is_free,
    picture_file,
)


def test_evaluations_are_told_apart_by_their_settings() -> None:
    usual, smaller = {}, {"num_tasks": 2}
    far = {"seed": 9, "num_inner_steps": 5, "distribution": "beyond", "checkpoint": "checkpoint30"}
    names = [evaluation_files(Path(), changed).numbers.name for changed in (usual, smaller, far)]
    assert names == ["evaluation.json", "evaluation_tasks2.json", "evaluation_beyond_steps5_seed9_checkpoint30.json"]
    assert evaluation_files(Path(), far).picture.name == "adaptation_beyond_steps5_seed9_checkpoint30.png"


def test_nothing_of_a_deleted_run_is_left_and_all_that_is_the_users(tmp_path: Path) -> None:
    every_setting = {
        "distribution": "beyond",
        "num_tasks": 2,
        "num_inner_steps": 1,
        "episodes_per_task": 4,
        "step_size_rule": "finn",
        "seed": 9,
        "test_policy": "deterministic",
        "checkpoint": "best",
    }
    evaluations = [path for changed in ({}, every_setting) for path in evaluation_files(tmp_path, changed)]
    others = ("config.yaml", "metrics.jsonl", "training.png", "initial_run.json", "provenance.jsonl")
    pictures = [picture_file(tmp_path, suffix) for suffix in (".png", ".gif", ".html")]
    of_the_run = [*evaluations, *pictures, *(tmp_path / name for name in others)]
    of_the_user = {
        "notes.txt",
        "evaluation_of_mine.json",
        "adaptation_talk.png",
        "checkpoints.zip",
        "render.py",
        "videos",
    }
    for path in [*of_the_run, *(tmp_path / name for name in of_the_user - {"videos"})]:
        path.write_text("")
    for folder in ("checkpoints/4/state", "tensorboard", "tracking/wandb", "videos"):
        (tmp_path / folder).mkdir(parents=True)
    delete_run(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == of_the_user


def test_what_a_start_cut_short_leaves_is_free_and_other_things_are_not(tmp_path: Path) -> None:
    assert is_free(tmp_path / "new")
    with hold(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {"lock", "owner.json"}
        assert is_free(tmp_path)
    for name in ("thesis.tex", "metrics.jsonl"):
        (tmp_path / name).touch()
        assert not is_free(tmp_path)
        (tmp_path / name).unlink()


def test_a_held_directory_is_refused_to_others_and_free_again_after_an_error(tmp_path: Path) -> None:
    refusals: list[str] = []

    def try_to_hold() -> None:
        try:
            with hold(tmp_path):
                refusals.append("")
        except ConfigError as error:
            refusals.append(str(error))

    def elsewhere() -> str:
        thread = threading.Thread(target=try_to_hold)
        thread.start()
        thread.join()
        return refusals[-1]

    def fail_inside() -> None:
        with hold(tmp_path), hold(tmp_path):
            elsewhere()
            raise KeyError((tmp_path / "owner.json").read_text())

    with pytest.raises(KeyError) as caught:
        fail_inside()
    owner = json.loads(caught.value.args[0])
    assert f"in use by process {owner['pid']} on {owner['host']} (since {owner['started']}): wait for it" in refusals[0]
    assert elsewhere() == ""
    with hold(tmp_path):
        (tmp_path / "owner.json").write_text(json.dumps(owner | {"host": "node7"}))
        assert f"should that machine be gone for good, delete {tmp_path / 'lock'}" in elsewhere()
        (tmp_path / "owner.json").write_text("{")
        assert "in use by another process" in elsewhere()


def test_a_dead_owner_is_reported_and_succeeded(tmp_path: Path) -> None:
    dead = {"host": "node7", "pid": 4711, "started": "2026-11-25 09:00:00+00:00"}
    (tmp_path / "owner.json").write_text(json.dumps(dead))
    reports: list[str] = []
    for _ in range(2):
        with hold(tmp_path, reports.append):
            pass
    assert reports == [f"{tmp_path}: process 4711 on node7 (since 2026-11-25 09:00:00+00:00) died in it; taking over"]


def test_a_project_that_looks_a_little_like_a_run_is_none(tmp_path: Path) -> None:
    """A config and checkpoints of somebody else's: not to be deleted by ``--overwrite``."""
    (tmp_path / CHECKPOINTS).mkdir()
    (tmp_path / CONFIG_FILE).write_text("model: mine\n")
    assert not holds_run(tmp_path)
    assert not is_free(tmp_path)
    (tmp_path / CONFIG_FILE).write_text("seed: 0\ntasks: {}\nalgorithm: {}\ntraining: {}\n")
    assert holds_run(tmp_path)


def test_of_a_link_to_another_disk_the_link_alone_goes(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "precious").touch()
    run = tmp_path / "run"
    run.mkdir()
    (run / CHECKPOINTS).symlink_to(tmp_path / "scratch")
    delete_run(run)
    assert not list(run.iterdir())
    assert (tmp_path / "scratch" / "precious").exists()
