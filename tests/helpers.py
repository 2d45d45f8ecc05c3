"""A run small enough to train in a test, in this process or in another."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.table import Table
from rich.text import Text

from metarl_jax.config import Config, config_from_dict
from metarl_jax.report.tables import print_table
from metarl_jax.runs.build import Experiment, build
from metarl_jax.runs.run import Run, prepare_directory, restore
from metarl_jax.runs.training import train
from metarl_jax.types import TrainState

TINY: dict[str, Any] = {
    "seed": 3,
    "tasks": {"name": "navigation_finn", "horizon": 5},
    "policy": {"hidden_sizes": [4]},
    "algorithm": {"name": "promp", "kl_target": 0.01},
    "training": {
        "num_iterations": 6,
        "meta_batch_size": 4,
        "episodes_per_task": 3,
        "checkpoint_every": 2,
        "updates_per_visit": 2,
    },
    "evaluation": {"num_tasks": 3, "num_inner_steps": 2, "episodes_per_task": 3},
}

OPTIMISED: dict[str, Any] = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
    "xla_cpu_use_fusion_emitters": True,
}
"""``compiler_options`` of ``jax.jit`` for a program that runs for longer than it compiles: without those flags of
:mod:`tests.conftest` that cost it most."""

# What an evaluation says of one initialisation, and the whole of it.
SUMMARY: dict[str, Any] = {"mean_return": [-40.0, -11.25], "ci_low": [-42.5, -12.0], "ci_high": [-37.0, -10.0]}
EVALUATION: dict[str, Any] = {
    "gradient_steps": [0, 1],
    **SUMMARY,
    "settings": {"distribution": "held_out", "num_tasks": 7, "episodes_per_task": 9, "adaptation": "gradient steps"},
    "random_initialisation": {**SUMMARY, "mean_return": [-80.0, -60.0]},
}


def tiny_config(**sections: Any) -> Config:
    """TINY with whole sections replaced or, for dicts, updated."""
    tree = {
        key: {**TINY[key], **sections.get(key, {})}
        if isinstance(TINY.get(key), dict)
        else sections.get(key, TINY.get(key))
        for key in TINY | sections
    }
    return config_from_dict(tree)


def untrained(tasks: dict, algorithm: dict, policy: dict | None = None) -> Run:
    """A run as it begins, of sizes that draw in a moment."""
    config = config_from_dict(
        {
            "tasks": tasks,
            "algorithm": algorithm,
            "policy": policy or {"hidden_sizes": [4]},
            "training": {"episodes_per_task": 2, "meta_batch_size": 2},
        }
    )
    experiment = build(config)
    params = jax.jit(experiment.algorithm.init)(jax.random.key(0)).params
    return Run(config, experiment.family, experiment.policy, experiment.algorithm, params, 0)


def traced(function: Any, *arguments: Any) -> Any:
    """What a function returns while it is traced, as it is: nothing is run, and a Python number stays one."""
    returned = []
    jax.eval_shape(lambda *arguments: returned.append(function(*arguments)), *arguments)
    return returned[0]


def write_config(folder: Path, algorithm: dict[str, Any] | None = None, **sections: Any) -> Path:
    """TINY as a YAML file (JSON is YAML), with another algorithm if given, and other sections."""
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(TINY | ({} if algorithm is None else {"algorithm": algorithm}) | sections))
    return path


def metarl(*arguments: object, devices: int = 1, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, on virtual CPU devices, with warnings shown."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "metarl_jax", *map(str, arguments)],  # as installed: no modules of the folder
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def environment(devices: int = 1) -> dict[str, str]:
    """The environment of a user's process with this many virtual CPU devices."""
    inherited = {name: value for name, value in os.environ.items() if name != "NPROC"}
    return {**inherited, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}


def start(directory: Path, resume: bool = False, **sections: Any) -> tuple[Experiment, TrainState]:
    """Train in this process on one device."""
    config = tiny_config(**sections)
    prepare_directory(directory, config, resume, False)
    experiment = build(config)
    result = train(experiment, directory, devices=jax.devices()[:1], resume=resume)
    assert result.finished
    return experiment, result.state


def final_params(directory: Path, **sections: Any) -> list[np.ndarray]:
    """The leaves of the newest checkpoint's meta-parameters."""
    state = restore(build(tiny_config(**sections)), directory).state
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]


def wait_for(condition: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the run did not get going"
        time.sleep(0.05)


def printed(table: Table, columns: int = 120, encoding: str = "utf-8") -> str:
    """A table on a terminal: no line is too wide, all is ASCII, and every cell of what is not left out is whole."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        patch.setattr(sys, "stdout", stream)
        print_table(table)
    text = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert text.isascii()
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= columns
    body, _, left_out = text.partition("not shown, for want of room")
    for column in table.columns:
        if " ".join(str(column.header).split()) not in " ".join(left_out.split()):
            assert all(Text.from_markup(str(cell)).plain.strip() in body for cell in column.cells)
    return text
