"""The list ``logging.trackers``: names or sections, each checked like any other part of a config."""

from collections.abc import Callable
from typing import Any

import pytest

from metarl_jax.config import ConfigError, config_from_dict, dump, static_part
from metarl_jax.config.source import parse_yaml
from metarl_jax.tracking import TRACKERS
from tests.helpers import tiny_config

OWN = '''
from metarl_jax.checks import checked
from metarl_jax.tracking.base import Tracker

@checked
def quiet(*, width: int = 3) -> Tracker:
    """Says nothing."""
    return Tracker(lambda run: None, lambda session, row: None)
'''


@pytest.fixture
def own(write_module: Callable[[str, str], None]) -> None:
    write_module("quiet_tracker", OWN)


def with_trackers(*trackers: Any) -> Any:
    return tiny_config(logging={"trackers": list(trackers)})


def test_names_and_sections_are_read_and_written_back(own: None) -> None:
    config = with_trackers("mlflow", {"name": "wandb", "mode": "offline"}, {"name": "quiet_tracker:quiet", "width": 4})
    assert [section.name for section in config.logging.trackers] == ["mlflow", "wandb", "quiet_tracker:quiet"]
    assert (config.logging.trackers[1].mode, config.logging.trackers[2].width) == ("offline", 4)
    assert config_from_dict(parse_yaml(dump(config), "x")) == config
    assert static_part(config) == static_part(tiny_config())  # lanes may differ in it


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("wandb", "logging.trackers: must be a list of trackers, such as [wandb] (got 'wandb')"),
        (None, "logging.trackers: must be a list of trackers, such as [wandb] (got null)"),
        (["wnadb"], "logging.trackers.0.name: no such tracker (got 'wnadb'); did you mean 'wandb'? Choose one of: "),
        ([3], "logging.trackers.0: must be a section of indented 'key: value' lines (got 3)"),
        (["wandb", "wandb"], "logging.trackers.1: wandb is there twice: remove one"),
        ([{"project": "x"}], "logging.trackers.0.name: is required; choose one of: "),
        (
            ["mlflow", {"name": "wandb", "mode": "of"}],
            "logging.trackers.1.mode: must be one of online, offline or null",
        ),
        ([{"name": "wandb", "projekt": "x"}], "logging.trackers.0.projekt: unknown key; did you mean 'project'?"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny_config(logging={"trackers": given})
    (problem,) = caught.value.problems
    assert problem.startswith(message)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_client_that_is_not_installed_is_refused_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metarl_jax.tracking.base.find_spec", lambda module: None)
    with pytest.raises(ValueError, match=rf"pip install 'metarl-jax\[{name}\]', or leave it out of logging\.trackers"):
        TRACKERS[name]()
