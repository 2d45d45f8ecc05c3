"""The glossary of metrics: complete, free of what nobody reports, and what the documentation says."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.config import config_from_dict
from metarl_jax.runs.build import build
from metarl_jax.runs.log import _rows
from metarl_jax.runs.monitor import monitor_row
from metarl_jax.tracking.glossary import GLOSSARY, METRICS, label, read
from tests.helpers import TINY

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
RECURRENT = {"name": "recurrent", "hidden_size": 4}
CRITIC = {"hidden_sizes": [4], "critic_hidden_sizes": [4]}
POLICIES = {
    "trpo_maml": {"hidden_sizes": [4]},
    "cavia": {**CRITIC, "context_size": 2},
    "rl2": RECURRENT,
    "trpo_rl2": RECURRENT,
    "ad": RECURRENT,
    "varibad": {"name": "belief", "hidden_size": 4},
    "dpt": {"name": "in_context", "size": 4},
}
TASKS = {"ad": {"name": "bandit_bernoulli"}, "varibad": {**TINY["tasks"], "critic_oracle": True}}
"""Of methods that are not for navigation, or not for all of it."""
ALL_IT_REPORTS = {
    "promp": {"kl_target": 0.01, "max_outer_kl": 0.1},
    "varibad": {
        "transition_coef": 1.0,
        "task_coef": 1.0,
        "novelty_coef": 1.0,
        "surprise_coef": 1.0,
        "num_minibatches": 1,
    },
}
"""Settings with which a method reports all that it can."""


def row(name: str) -> dict[str, Any]:
    """A row of this method's, of zeros: nothing is compiled."""
    algorithm = {"name": name, **ALL_IT_REPORTS.get(name, {})}
    chosen = {"tasks": TASKS.get(name, TINY["tasks"]), "policy": POLICIES.get(name, CRITIC)}
    made = build(config_from_dict({**TINY, **chosen, "algorithm": algorithm}))
    keys = jax.random.split(jax.random.key(0), TINY["training"]["meta_batch_size"])
    state = jax.eval_shape(made.algorithm.init, keys[0])
    tasks = jax.eval_shape(jax.vmap(made.family.sample), keys)
    _, info = jax.eval_shape(made.algorithm.update, state, tasks, keys)
    infos = {key: np.zeros((1, *value.shape), value.dtype) for key, value in info.items()}
    (made_row,) = _rows(made, 0, 1, 0, infos, seconds=1.0)
    return made_row


@pytest.mark.slow
def test_it_has_all_that_any_method_reports_and_nothing_else() -> None:
    reported: set[str] = set()
    for name in ALGORITHMS:
        for key, value in row(name).items():
            assert key in GLOSSARY, f"{name} reports {key}: declare it in metarl_jax.tracking.glossary"
            assert isinstance(value, list) == (GLOSSARY[key].shape != "[]"), (name, key)
            reported.add(key)
    config = config_from_dict({**TINY, "evaluation": {"every": 1, "validation_tasks": 2, "num_tasks": 2}})
    monitored = {name: np.zeros((4, 3)) for name in ("return", "success", "dropped")}
    assert reported | monitor_row(config.evaluation, monitored, 1.0).keys() == set(GLOSSARY)


def test_every_name_is_declared_once_and_a_wrong_one_is_a_mistake() -> None:
    assert len(METRICS) == len(GLOSSARY)
    assert read({"calmness": 1.0}, "loss") is None
    with pytest.raises(KeyError):
        read({"retrun_pre": 1.0}, "retrun_pre")


def test_a_metric_of_the_users_own_has_a_label() -> None:
    assert label("my_calmness") == "my calmness"


def test_the_page_lists_it() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert lines == [f"| `{name}` | {unit} | {shape} | {meaning} |" for name, unit, meaning, shape, _ in METRICS]
