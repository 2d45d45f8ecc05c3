"""A run from its config to its results: built, trained, saved, loaded, evaluated."""

import importlib
from typing import Any

_HOME = {
    name: f"metarl_jax.runs.{module}"
    for module, names in {
        "build": ("Experiment", "build"),
        "run": ("Run", "choose_directory", "load", "prepare_directory", "prepared"),
        "program": ("Program", "make_program"),
        "training": ("Lane", "TrainResult", "train", "train_lanes"),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    """Look a name up when it is asked for: checkpoints are slow to import."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'metarl_jax.runs' has no attribute {name!r}")
