"""A tiny study."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import write_config


@pytest.fixture
def write_study(tmp_path: Path):
    """Write a study of the tiny config beside it; sections replace those of a grid of two by two."""

    def write(**sections: Any) -> Path:
        write_config(tmp_path)
        study = {
            "config": "tiny.yaml",
            "seeds": 2,
            "grid": {"algorithm.inner_lr": [0.01, 0.1], "optimizer.learning_rate": [1e-3, 1e-2]},
            "objective": {"of": "training", "last": 2},
            **sections,
        }
        path = tmp_path / "study.yaml"
        path.write_text(json.dumps({key: value for key, value in study.items() if value is not None}))
        return path

    return write
