"""``metarl evaluate``: where the numbers go."""

import json
from pathlib import Path

from metarl_jax.cli.evaluate import _files
from tests.helpers import tiny_config


def test_an_evaluation_of_other_settings_is_not_replaced(tmp_path: Path) -> None:
    """The config's own settings may change when a run goes on: the file that was theirs keeps what it holds."""
    config = tiny_config()
    settings = config.evaluation.measurement
    usual = _files(tmp_path, config, settings, "latest").numbers
    assert usual.name == "evaluation.json"
    usual.write_text(json.dumps({"settings": settings | {"num_tasks": 1000}}))
    assert "tasks3" in _files(tmp_path, config, settings, "latest").numbers.name
    usual.write_text(json.dumps({"settings": settings}))
    assert _files(tmp_path, config, settings, "latest").numbers == usual
    by_mode = settings | {"test_policy": "deterministic"}
    assert _files(tmp_path, config, by_mode, "best").numbers.name == "evaluation_deterministic_best.json"
