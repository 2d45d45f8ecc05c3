"""Several processes train one run."""

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from metarl_jax.tracking.metrics import read_metrics
from tests.helpers import environment, final_params, metarl, write_config


def test_several_processes_need_one_run_directory(tmp_path: Path) -> None:
    done = metarl("train", write_config(tmp_path), "--num-processes", 2)
    assert done.returncode == 2
    assert "need --coordinator" in done.stderr


def test_two_processes_agree_with_one(uninterrupted: Path, tmp_path: Path) -> None:
    """jax.distributed on loopback: two processes of two CPU devices share one meta-batch and one run directory."""
    config, directory = write_config(tmp_path), tmp_path / "run"
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
    for ours, theirs in zip(final_params(directory), final_params(uninterrupted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)
    assert [row["iteration"] for row in read_metrics(directory)] == [1, 2, 3, 4, 5, 6]
