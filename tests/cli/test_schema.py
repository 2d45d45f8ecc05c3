"""``metarl schema``: what editors check a config with."""

import json
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from metarl_jax.cli import app
from tests.helpers import TINY


@pytest.fixture(scope="module")
def validator() -> Any:
    result = CliRunner().invoke(app, ["schema"])
    assert result.exit_code == 0
    return jsonschema.Draft202012Validator(json.loads(result.stdout))


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"algorithm": {"name": "promp", "kl_traget": 0.01}}, False),
        ({"algorithm": {"name": "prmop"}}, False),
        ({"tasks": {"name": "my_tasks:rail", "masses": [1, 2]}}, True),
        ({"policy": {"name": "my.networks:net"}, "algorithm": {"name": "my_methods:calm", "calmness": 1}}, True),
        ({"tasks": {"name": "my_tasks:"}}, False),
        ({"tasks": {"masses": [1, 2]}}, False),
        (
            {"logging": {"trackers": ["mlflow", {"name": "wandb", "mode": "offline"}, {"name": "my:diary", "x": 1}]}},
            True,
        ),
        ({"logging": {"trackers": [{"name": "wandb", "mode": "of"}]}}, False),
    ],
)
def test_editors_accept_what_can_be_trained(validator: Any, change: dict[str, Any], fits: bool) -> None:
    assert validator.is_valid(TINY | change) == fits


def test_descriptions_are_plain(validator: Any) -> None:
    assert "``" not in json.dumps(validator.schema)
