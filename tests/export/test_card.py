"""The model card: what hubs read of it, and what it says."""

import json
from pathlib import Path

import pytest
import yaml

from metarl_jax.config import ConfigError, config_from_dict, load_config
from metarl_jax.export.card import evaluation_of, model_card, write_card
from metarl_jax.runs.run import Run
from tests.helpers import EVALUATION, untrained

ABOUT = {"refused": None, "no_adapt": None, "adapted": None, "observation": {"shape": [2], "privileged": 0}}


@pytest.fixture(scope="module")
def run() -> Run:
    return untrained({"name": "navigation_finn", "horizon": 5}, {"name": "maml"})


def test_the_front_matter_is_what_hubs_index(run: Run) -> None:
    _, front, body = model_card(run, EVALUATION, ABOUT, ["adaptation.png"], "mit").split("---\n", 2)
    meta = yaml.safe_load(front)
    assert (meta["license"], meta["library_name"], meta["pipeline_tag"]) == (
        "mit",
        "metarl-jax",
        "reinforcement-learning",
    )
    assert {"reinforcement-learning", "maml", "navigation_finn"} <= set(meta["tags"])
    (model,) = meta["model-index"]
    (result,) = model["results"]
    assert result["task"]["type"] == "reinforcement-learning"
    assert result["dataset"] == {"name": "navigation_finn", "type": "navigation_finn"}
    (metric,) = result["metrics"]
    assert (metric["type"], metric["value"]) == ("mean_reward", EVALUATION["mean_return"][-1])
    assert metric["name"] == "mean return after 1 gradient steps"
    assert "| 1 | -11.25 [-12, -10] | -60 [-12, -10] |" in body
    assert "![adaptation](adaptation.png)" in body


def test_the_card_says_what_was_exported(run: Run) -> None:
    adapted = {"task": [0.25, -1.0], "unit": "gradient steps", "mean_return": [-3.0, -2.0, -1.0]}
    text = model_card(run, EVALUATION, ABOUT | {"adapted": adapted, "refused": "no"}, [], "mit")
    assert "The agent after 2 gradient steps on the task 0.25, -1" in text
    assert 'Policy(".", engine="jax")' in text
    assert "With JAX" in text
    assert "(2,).\n" in text
    text = model_card(run, EVALUATION, ABOUT | {"observation": {"shape": [4], "privileged": 2}}, [], "mit")
    assert "(4,). Its last 2 numbers were for a critic alone" in text


def test_what_could_not_be_measured_is_no_number(run: Run) -> None:
    unknown = {**EVALUATION, "mean_return": [None, None], "ci_low": [None, None], "ci_high": [None, None]}
    _, front, body = model_card(run, unknown, ABOUT, [], "mit").split("---\n", 2)
    assert "metrics" not in yaml.safe_load(front)["model-index"][0]["results"][0]
    assert "| 1 | – [–, –] |" in body


def test_the_config_s_own_evaluation_of_the_checkpoint_is_shown(run: Run, tmp_path: Path) -> None:
    def keep(name: str, **changes: object) -> None:
        path = tmp_path / f"evaluation{name}.json"
        settings = EVALUATION["settings"] | {"distribution": changes.pop("distribution", "held_out")}
        path.write_text(json.dumps({"checkpoint": 7, **EVALUATION, "settings": settings, **changes}))

    assert evaluation_of(tmp_path, 7) is None
    with pytest.raises(ConfigError, match="iteration 0 is not evaluated on held-out tasks: metarl evaluate it"):
        write_card(run, tmp_path, tmp_path, "mit")
    keep("_beyond", distribution="beyond")
    keep("_checkpoint3", checkpoint=3)
    (tmp_path / "evaluation_of_mine.json").write_text("[]")
    assert evaluation_of(tmp_path, 7) is None
    keep("_tasks9", mean_return=[0.0, 1.0])
    (tmp_path / "adaptation_tasks9.png").touch()
    found = evaluation_of(tmp_path, 7)
    assert found is not None
    assert found.numbers["mean_return"] == [0.0, 1.0]
    assert found.picture == tmp_path / "adaptation_tasks9.png"
    keep("")
    found = evaluation_of(tmp_path, 7)
    assert found is not None
    assert found.numbers["mean_return"] == EVALUATION["mean_return"]


def test_where_a_run_was_tracked_is_not_published(run: Run, tmp_path: Path) -> None:
    """The address of a server may hold a password."""
    tree = run.config.model_dump(mode="json")
    secret = {"name": "mlflow", "tracking_uri": "https://me:secret@host"}
    tracked = config_from_dict({**tree, "logging": {**tree["logging"], "trackers": [secret]}})
    source, card = tmp_path / "run", tmp_path / "card"
    source.mkdir()
    card.mkdir()
    (source / "evaluation.json").write_text(json.dumps({**EVALUATION, "checkpoint": 0}))
    (card / "policy.json").write_text(json.dumps(ABOUT))
    write_card(run._replace(config=tracked), source, card, "mit")
    assert load_config(card / "config.yaml") == run.config
    assert not any("secret" in path.read_text() for path in card.iterdir())
