"""The device program on a tiny run: one compilation, and the same results on any number of devices."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config import load_config
from metarl_jax.runs.build import build
from metarl_jax.runs.program import make_program
from metarl_jax.runs.run import load, prepare_directory
from metarl_jax.runs.training import train
from metarl_jax.tracking.jsonl import read_metrics
from tests.helpers import environment, final_params, metarl, tiny_config, write_config
from tests.remembering import remembering


def test_one_compilation_per_run(tmp_path: Path) -> None:
    """Visits of different lengths (2, 2, 1 updates here) run one program; nothing else is compiled while it runs."""
    config = tiny_config(training={"num_iterations": 5})
    experiment = build(config)
    counted = chex.assert_max_traces(experiment.algorithm.update, n=1)
    prepare_directory(tmp_path / "run", config, False, False)
    compiled_before: list[int] = []  # at each report
    with compilations() as seconds:
        result = train(
            experiment._replace(remake=lambda values: experiment.algorithm._replace(update=counted)),
            tmp_path / "run",
            devices=jax.devices()[:1],
            report=lambda row: compiled_before.append(len(seconds)),
        )
    assert int(result.state.step) == len(compiled_before) == 5
    assert compiled_before[0] >= 1
    assert set(compiled_before) == {compiled_before[0]}


@contextlib.contextmanager
def compilations() -> Iterator[list[float]]:
    """The seconds that each compilation by XLA has taken so far."""
    seconds: list[float] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_devices(uninterrupted: Path, tmp_path: Path, devices: int) -> None:
    """Random numbers are addressed by global task index; only the order of sums differs."""
    done = metarl("train", write_config(tmp_path), "--run-dir", tmp_path / "run", "--devices", devices)
    assert done.returncode == 0, done.stderr
    for ours, theirs in zip(final_params(tmp_path / "run"), final_params(uninterrupted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)


@pytest.mark.slow
def test_halved_steps_do_not_depend_on_the_number_of_devices(tmp_path: Path) -> None:
    """All devices measure the same mean divergence, so they halve the same steps, with Adam and a schedule."""
    algorithm = {"name": "ppo_maml", "num_epochs": 4, "max_outer_kl": 0.002}
    short = ("train", write_config(tmp_path, algorithm), "training.num_iterations=2", "optimizer.learning_rate=0.02")
    for devices in (1, 2):
        settings = ("optimizer.decay_steps=8", "--run-dir", tmp_path / f"on_{devices}", "--devices", devices)
        done = metarl(*short, *settings)
        assert done.returncode == 0, done.stderr
    rows = [read_metrics(tmp_path / f"on_{devices}") for devices in (1, 2)]
    scales = [[row["outer_step_scale"] for row in of_run] for of_run in rows]
    assert scales[0] == scales[1]
    assert min(scales[0]) < 1
    assert all(0 < row["outer_kl"] <= 0.002 for row in rows[0])
    loaded = [load(tmp_path / f"on_{devices}").params for devices in (1, 2)]
    for ours, theirs in zip(*map(jax.tree.leaves, loaded), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)


@pytest.mark.slow
def test_trust_region_does_not_depend_on_the_number_of_devices(tmp_path: Path) -> None:
    """Conjugate gradients and the line search average over devices inside their loops, and share tasks out evenly."""
    algorithm = {"name": "trpo_maml", "curvature_every": 2, "cg_damping": 1e-2, "cg_steps": 3}
    config = write_config(tmp_path, algorithm)
    short = ("train", config, "training.num_iterations=2")
    for devices in (1, 2):
        done = metarl(*short, "--run-dir", tmp_path / f"on_{devices}", "--devices", devices)
        assert done.returncode == 0, done.stderr
    loaded = [load(tmp_path / f"on_{devices}").params for devices in (1, 2)]
    for ours, theirs in zip(*map(jax.tree.leaves, loaded), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-4)
    uneven = build(load_config(config, ["algorithm.curvature_every=4"]))
    with pytest.raises(Refusal, match=r"algorithm\.curvature_every = 4: must divide the 2 tasks of each device"):
        make_program(uneven, jax.devices()[:1] * 2)


VARIBAD = {
    "name": "varibad",
    "num_minibatches": 1,
    "inference_steps": 2,
    "replay_updates": 2,
    "num_decoded": 4,
    "novelty_coef": 0.1,
    "normalize_rewards": True,
}


@pytest.mark.slow
def test_what_devices_keep_survives_and_moves_to_another_number_of_them(tmp_path: Path) -> None:
    """A replay: resumed bit for bit on as many; dealt out anew to fewer and to more; no matter to evaluation."""
    config = write_config(tmp_path, VARIBAD, policy={"name": "belief", "hidden_size": 4, "hidden_sizes": [4]})
    command = [sys.executable, "-W", "error", "-m", "tests.local_state", str(config)]
    done = subprocess.run(command, env=environment(devices=2), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_shared_evenly_is_refused_before_anything_is_done() -> None:
    """What can is dealt out, so that an update fits a device's share of the tasks."""
    experiment = build(tiny_config())
    even, uneven = (
        remembering(experiment.family, experiment.policy, optax.adam(1e-3), num_items=items, episodes_per_task=3)
        for items in (4, 6)
    )
    make_program(experiment._replace(remake=lambda values: even), jax.devices()[:1])
    with pytest.raises(Refusal, match=r"state\.local\['goals'\] = 6: so many items cannot be .* by 4 devices"):
        make_program(experiment._replace(remake=lambda values: uneven), jax.devices()[:1] * 4)
