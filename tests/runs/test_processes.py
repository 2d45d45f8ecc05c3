"""Several processes train one run."""

import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from metarl_jax.runs.build import build
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.run import CHECKPOINTS
from metarl_jax.tracking.jsonl import read_metrics
from tests.helpers import environment, final_params, metarl, tiny_config, write_config, write_remembering
from tests.remembering import goals_remembered


def test_several_processes_need_one_run_directory(tmp_path: Path) -> None:
    done = metarl("train", write_config(tmp_path), "--num-processes", 2)
    assert done.returncode == 2
    assert "need --coordinator" in done.stderr


@pytest.mark.slow
def test_two_processes_agree_with_one(uninterrupted: Path, tmp_path: Path) -> None:
    """jax.distributed on loopback: two processes of two CPU devices share one meta-batch and one run directory.

    What their devices keep of their own is saved whole.
    """
    config, directory = write_remembering(tmp_path), tmp_path / "run"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "metarl_jax", "train", str(config), "--run-dir", str(directory)]
    processes = [
        subprocess.Popen(
            [*command, "--coordinator", address, "--num-processes", "2", "--process-id", str(rank)],
            env=environment(devices=2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    experiment = build(tiny_config())
    like = jax.eval_shape(experiment.algorithm.init, jax.random.key(0))
    like = like._replace(local={"goals": jax.ShapeDtypeStruct((4, 2), np.float32)})
    with Checkpoints(directory / CHECKPOINTS) as checkpoints:
        state = checkpoints.restore(like).state
    for ours, theirs in zip(jax.tree.leaves(state.params), final_params(uninterrupted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)
    expected = goals_remembered(experiment.family, experiment.config.seed, num_updates=6)
    np.testing.assert_allclose(state.local["goals"], expected, rtol=1e-6)
    assert [row["iteration"] for row in read_metrics(directory)] == [1, 2, 3, 4, 5, 6]
