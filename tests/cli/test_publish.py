"""``metarl export`` and ``metarl publish`` on a run directory, as a user types them."""

import os
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

import metarl_jax as mrl
from metarl_jax.cli.export import agent_to_export, describe, export_to
from metarl_jax.cli.publish import publish
from metarl_jax.config import ConfigError
from metarl_jax.export import folder
from metarl_jax.export.policy import Policy
from tests.helpers import metarl, tiny_config


@pytest.mark.slow
def test_a_run_that_was_never_evaluated_is_evaluated_and_published(tmp_path: Path) -> None:
    """On held-out tasks, though its config says others."""
    run = mrl.build(tiny_config(evaluation={"distribution": "beyond"}))
    mrl.save(run, run.algorithm.init(jax.random.key(0)), tmp_path / "run")
    card = tmp_path / "card"
    done = metarl("publish", tmp_path / "run", "-o", card, "--license", "mit", "--adapted", "1")
    assert done.returncode == 0, done.stderr
    assert f"upload {card}" in done.stdout.replace("\n", " ")
    assert {path.name for path in card.iterdir()} == {
        *("README.md", "act.jaxexport", "adapt.jaxexport", "adaptation.png", "config.json", "config.yaml"),
        *("evaluation.json", "policy.json", "policy.py", "weights.safetensors"),
    }
    assert yaml.safe_load((card / "README.md").read_text().split("---\n")[1])["license"] == "mit"
    again = metarl("export", tmp_path / "run", "--task", "0.3,0.1")
    assert again.returncode == 0, again.stderr
    assert "adapted to the task 0.3, 0.1: return " in again.stdout
    assert Policy(tmp_path / "run" / "export").act(Policy(card).reset(), np.zeros(2))[0].shape == (2,)


def test_what_cannot_be_exported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = mrl.build(tiny_config())
    with pytest.raises(ConfigError, match="give one of them"):
        agent_to_export(run, 1, "0.1,0.2")
    with pytest.raises(ConfigError, match=r"--task 1\.0: a task of navigation_finn has 2 numbers"):
        agent_to_export(run, None, "1")
    (tmp_path / "notes.txt").write_text("mine")
    for refuse in (partial(folder.export_run, run), partial(export_to, run=run, adapted=None, task="1")):
        with pytest.raises(ConfigError, match="holds something else than an exported policy"):
            refuse(tmp_path)  # before it adapts
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    monkeypatch.setattr(folder, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs flatbuffers and safetensors: pip install 'metarl-jax\[export\]'"):
        folder.export_run(run, tmp_path / "new")


def test_a_run_that_cannot_be_evaluated_where_it_lies_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_dir := tmp_path / "run").mkdir()
    run = mrl.build(tiny_config())
    monkeypatch.setattr("metarl_jax.runs.run.load", lambda *arguments, **more: run)
    monkeypatch.setattr(os, "access", lambda path, mode: path != run_dir)
    with pytest.raises(ConfigError, match=r"^RUN_DIR: \S+run may not be written into; choose another folder"):
        publish(run_dir, tmp_path / "card")
    assert not (tmp_path / "card").exists()


def test_what_the_folder_cannot_do_is_said() -> None:
    said = describe({"adapted": None, "refused": "policy = 'sort': no", "no_adapt": "it does not"})
    assert said.splitlines() == [
        "act in numpy: no. policy = 'sort': no",
        "act with JAX: act.jaxexport",
        "adapt with JAX: no. it does not",
    ]
