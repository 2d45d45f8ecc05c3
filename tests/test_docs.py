"""The code in the documentation runs, and does what the text says."""

import re
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import pytest

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.config import Catalogue, config_from_dict
from metarl_jax.config.schema import FROM_TRAINING, keyword_arguments
from metarl_jax.inner import make_inner_loop
from metarl_jax.networks import POLICIES
from metarl_jax.tasks import FAMILIES

DOCS = Path(__file__).parent.parent / "docs"


def run_blocks(page: str) -> dict:
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL):
        if "load_playground" in block and find_spec("mujoco_playground") is None:
            continue
        exec(compile(block, page, "exec"), names)
    return names


def test_the_page_on_algorithms_makes_one_that_trains_adapts_and_is_configurable():
    names = run_blocks("add_your_own_algorithm.md")
    assert names["state"].step == 1
    assert names["info"]["change"] > 0
    assert names["info"]["skipped"] == 0
    assert names["result"]["return"].shape == (2, 5)
    moved = jax.tree.map(np.array_equal, names["agent"].params, names["state"].params)
    assert not all(jax.tree.leaves(moved))

    catalogue = Catalogue(FAMILIES, POLICIES, {"calm_maml": names["calm_maml"]})
    tree = {"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "calm_maml", "calmness": 0.5}}
    config = config_from_dict(tree, catalogue=catalogue)
    assert config.algorithm.calmness == 0.5
    assert config.algorithm.inner_lr == 0.1


def test_the_page_on_tasks_makes_families_that_adapt_and_are_configurable():
    pytest.importorskip("gymnax")
    names = run_blocks("add_your_own_tasks.md")
    assert {key: value.shape for key, value in names["results"].items()} == {
        ((4,), True): (2, 4),
        ((4,), False): (2, 4),
    }
    assert all(np.isfinite(value).all() for value in names["results"].values())

    if "cheetah_load" in names:
        assert names["cheetah_load"](horizon=5).action.size == 6

    catalogue = Catalogue({"cart_pole_lengths": names["cart_pole_lengths"]}, POLICIES, ALGORITHMS)
    config = config_from_dict(
        {"tasks": {"name": "cart_pole_lengths", "horizon": 50}, "algorithm": {"name": "maml"}}, catalogue=catalogue
    )
    assert config.tasks.horizon == 50


def test_the_list_of_the_inner_loops_keys_is_complete():
    (listed,) = re.findall(
        r"keys of the inner loop \(.*?\): (.*?)\.\n", (DOCS / "methods.md").read_text(), flags=re.DOTALL
    )
    assert set(re.findall(r"`(\w+)`", listed)) == set(keyword_arguments(make_inner_loop)) - FROM_TRAINING
