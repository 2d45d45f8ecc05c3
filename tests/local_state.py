"""``JAX_NUM_CPU_DEVICES=2 python -m tests.local_state CONFIG``: trains on one and two devices, or fails.

A run of two devices is broken off after two of four updates, and goes on there, or on one device and then on two again.
Runs lie beside the config.
"""

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metarl_jax.config import load_config
from metarl_jax.runs.build import build
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.evaluation import evaluate, make_evaluation
from metarl_jax.runs.run import CHECKPOINTS, load, prepare_directory
from metarl_jax.runs.training import train


def train_to(config_file: Path, run_dir: Path, iterations: int, num_devices: int, resume: bool = True) -> Any:
    config = load_config(config_file, [f"training.num_iterations={iterations}"])
    prepare_directory(run_dir, config, resume, overwrite=False)
    result = train(build(config), run_dir, devices=jax.devices()[:num_devices], resume=resume)
    assert result.finished
    return jax.device_get(result.state)


def broken_off(whole: Path, name: str) -> Path:
    run_dir = whole.with_name(name)
    shutil.copytree(whole, run_dir)
    shutil.rmtree(run_dir / CHECKPOINTS / "4")
    return run_dir


def check(config_file: Path) -> None:
    train_on = partial(train_to, config_file)
    whole_run = config_file.with_name("whole")
    whole = train_on(whole_run, 4, 2, resume=False)
    again = train_on(broken_off(whole_run, "again"), 4, 2)
    jax.tree.map(np.testing.assert_array_equal, again, whole)

    elsewhere = broken_off(whole_run, "elsewhere")
    train_on(elsewhere, 3, 1)
    moved = train_on(elsewhere, 4, 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), moved, whole)

    with Checkpoints(elsewhere / CHECKPOINTS) as checkpoints:
        saved = checkpoints.restore(whole).state
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(saved), moved)
    run = load(elsewhere)
    jax.tree.map(np.testing.assert_array_equal, run.params, moved.params)
    few = {"num_tasks": 2, "num_inner_steps": 1, "episodes_per_task": 1}
    alone = make_evaluation(build(run.config), jax.devices()[:1], **few)(run)
    assert np.isfinite(alone["mean_return"]).all()
    assert evaluate(run, **few) == alone  # on both devices


if __name__ == "__main__":
    assert jax.device_count() == 2
    check(Path(sys.argv[1]))
