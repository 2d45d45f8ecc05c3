"""``metarl list``: of everything that has a name, what it is, in lines that people and programs can read."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.checks import Refusal
from metarl_jax.cli import app
from metarl_jax.config import (
    DEFAULT_CATALOGUE,
    ConfigError,
    EvaluationConfig,
    LoggingConfig,
    OptimizerConfig,
    TrainingConfig,
)
from metarl_jax.config.schema import key_schemas, section_model, traceable_keys
from metarl_jax.config.source import known_configs
from metarl_jax.networks import POLICIES
from metarl_jax.tasks import FAMILIES
from metarl_jax.tracking import TRACKERS
from metarl_jax.tracking.glossary import METRICS

FACTORIES = [(section, name) for section, ours in DEFAULT_CATALOGUE._asdict().items() for name in ours]
SECTIONS = {
    "optimizer": OptimizerConfig,
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
    "logging": LoggingConfig,
}
MODULE = '''
from metarl_jax.tracking.base import Tracker

def rail(*, masses: tuple[float, ...] = (1.0, 2.0)):
    """A wagon on a rail.

    Args:
      masses: of ``wagons``, in kg.
    """

def net(observation_shape, action, *, width: int):
    """A net."""

def calm(family, policy, optimizer, *, episodes_per_task: int = 20):
    """A method."""

def diary(*, file: str = "diary.txt") -> "Tracker":
    """A diary."""

def torn(family, policy, *, x=1):
    """Not annotated."""

class Wagon:
    pass

def wrong(family, *, x=1):
    """Not annotated."""
'''


def listed(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["list", *arguments], env={"COLUMNS": "80"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def as_json(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(listed(*arguments, "--json"))
    return found


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def words(config: str) -> list[str]:
    """Of a config, but for the marks of its comments."""
    return [word for word in config.split() if word != "#"]


@pytest.fixture
def folder(tmp_path: Path, write_module: Callable[[str, str], None]) -> Path:
    """A user's working directory, with a module."""
    write_module("listed_rail", MODULE)
    return tmp_path


def test_a_name_shows_its_keys_with_range_default_and_meaning() -> None:
    text = listed("trpo_maml")
    assert text.startswith("trpo_maml (algorithm): MAML with a trust-region outer step")
    assert re.search(r"\n  max_kl  .*\n(?: .*\n)* +a number greater than 0; default 0\.01; traceable\n", text)
    assert "a whole number greater than 0; default 10\n" in text  # cg_steps, which is none that may be traced
    assert "episodes_per_task" not in text  # it is a key of 'training'


@pytest.mark.parametrize(("section", "name"), FACTORIES)
def test_no_line_is_too_wide_no_word_cut_no_mark_left(section: str, name: str) -> None:
    text = listed(name)
    assert text.isascii()  # whatever the language of the terminal
    assert not re.search(r"``|:\w+:`", text)
    schemas = key_schemas(section_model(section, name, getattr(DEFAULT_CATALOGUE, section)[name]))
    words = set(text.split())
    assert {key for key in schemas if key != "name"} <= words
    assert all(set(schema["description"].split()) <= words for key, schema in schemas.items() if key != "name")
    assert max(map(len, text.splitlines())) <= 80


def test_programs_read_the_same() -> None:
    found = as_json("promp")
    factory = DEFAULT_CATALOGUE.algorithm["promp"]
    assert {key for key, schema in found["keys"].items() if schema["traceable"]} == traceable_keys(factory)
    clip_eps = {
        name: found["keys"]["clip_eps"][name] for name in ("type", "exclusiveMinimum", "default", "description")
    }
    assert clip_eps == {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.3,
        "description": "half-width of the interval the outer ratio is clipped to.",
    }
    everything = as_json()
    assert {(section, name) for section in ("tasks", "policy", "algorithm") for name in everything[section]} == set(
        FACTORIES
    )
    assert everything["configs"]["quickstart"].startswith("The shortest useful run")


def test_the_glossary() -> None:
    text, found = listed("metrics"), as_json("metrics")
    assert max(map(len, text.splitlines())) <= 80
    for metric in METRICS:
        assert f"\n  {metric.name}" in text
        assert metric.meaning in unwrapped(text)
        assert found["metrics"][metric.name]["unit"] == metric.unit
    assert "(nats) [K], of the stages before the last" in unwrapped(text)


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml"])
def test_a_config_is_shown_as_it_is(name: str) -> None:
    found = as_json(name)
    file = Path(found["file"])
    whole = CliRunner().invoke(app, ["list", name], env={"COLUMNS": ""}).stdout  # in a file
    assert whole == f"{file}:\n{file.read_text()}"
    head, *lines = listed(name).splitlines()
    assert head == f"{file}:"
    assert max(map(len, lines)) <= 80 < max(map(len, whole.splitlines()[1:]))
    assert yaml.safe_load("\n".join(lines)) == yaml.safe_load(file.read_text())
    assert words("\n".join(lines)) == words(file.read_text())
    assert found["values"]["tasks"] == {"name": "navigation_finn"}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("algorithms", ALGORITHMS),
        ("families", FAMILIES),
        ("policies", POLICIES),
        ("trackers", TRACKERS),
        ("configs", known_configs()),
    ],
)
def test_all_of_a_kind(kind: str, names: Mapping[str, Any]) -> None:
    text, found = listed(kind), as_json(kind)
    assert set(found) == {kind}
    assert set(found[kind]) == set(names)
    assert all(name in text and description in unwrapped(text) for name, description in found[kind].items())


def test_a_tracker() -> None:
    assert "one of online, offline or null; default null" in unwrapped(listed("wandb"))


def test_a_line_for_editors_is_no_description(folder: Path) -> None:
    (folder / "mine.yaml").write_text("# yaml-language-server: $schema=metarl.schema.json\n# My own.\nseed: 1\n")
    assert as_json("--folder", str(folder))["configs"] == {"mine": "My own."}


@pytest.mark.parametrize(
    ("name", "kind", "key"),
    [
        ("rail", "task family", "of wagons, in kg. a list of numbers; default [1.0, 2.0]"),
        ("net", "policy", "width width a whole number; required"),
        ("calm", "algorithm", "It has no keys."),
        ("diary", "tracker", "keys of an entry of 'logging.trackers': file"),
    ],
)
def test_a_component_of_the_users_own(folder: Path, name: str, kind: str, key: str) -> None:
    text = unwrapped(listed(f"listed_rail:{name}"))
    assert text.startswith(f"listed_rail:{name} ({kind}): A ")
    assert key in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trpo_mmal"], "trpo_mmal: 'metarl list' shows nothing of this name; did you mean 'trpo_maml'?"),
        (["metric"], "did you mean 'metrics'?"),
        (["quikstart"], "did you mean 'quickstart'?"),
        (["listed_rail:rial"], "has no factory 'rial'; did you mean 'rail'?"),
        (["trainig"], "did you mean 'training'?"),
        (["--folder", "/nowhere"], "--folder /nowhere: there is no such folder"),
        (["listed_rail:torn"], "listed_rail:torn: argument 'x' has no annotation"),
        (["listed_rail:Wagon"], "name a function that makes the task family; algorithm; or policy"),
        (
            ["listed_rail:wrong"],
            "listed_rail:wrong must take nothing; family, policy; or observation_shape, action before its",
        ),
        (["maml", "--copy", "quickstart"], "--copy: give it without --json or another name"),
    ],
)
def test_what_is_not_there_is_refused(folder: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(Refusal, match=re.escape(message)) as caught:
        listed(*arguments)
    assert isinstance(caught.value, ConfigError)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("name", SECTIONS)
def test_sections_that_are_the_same_for_all_are_shown(name: str) -> None:
    found = as_json(name)
    assert listed(name).startswith(f"{name} (section of a config): ")
    assert set(found["keys"]) == set(key_schemas(SECTIONS[name]))
    assert found["keys"].get("learning_rate", {"traceable": True})["traceable"]
    assert not found["keys"].get("warmup_steps", {"traceable": False})["traceable"]
