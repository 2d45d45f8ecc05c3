"""The code in the documentation runs, and does what the text says."""

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.config import Catalogue, config_from_dict, load_config
from metarl_jax.config.schema import FROM_TRAINING, keyword_arguments
from metarl_jax.inner import make_inner_loop
from metarl_jax.networks import POLICIES
from metarl_jax.ops import trees
from metarl_jax.runs.build import build
from metarl_jax.studies.comparisons import overview
from metarl_jax.studies.results import read
from metarl_jax.tasks import FAMILIES

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


def run_blocks(page: str, limit: int | None = None) -> dict:
    names: dict = {}
    for block in blocks(page)[:limit]:
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


@pytest.mark.slow
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, whose modules are forgotten again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("sled", "my_networks", "my_tasks"):
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:brax")
@pytest.mark.parametrize("backend", ["mujoco", pytest.param("mjx", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_the_page_on_robots_makes_one_whose_load_and_ground_are_the_task(folder: Path, backend: str):
    for language, name in (("xml", "sled.xml"), ("python", "sled.py"), ("yaml", "sled.yaml")):
        (folder / name).write_text("".join(blocks("your_own_robot.md", language)))
    family = build(load_config(folder / "sled.yaml", [f"tasks.backend={backend}", "tasks.horizon=2"])).family
    tasks = jnp.array([[1.0, 1.0], [3.0, 1.0], [1.0, 0.3]])
    states, _ = jax.vmap(family.reset, in_axes=(0, None))(tasks, jax.random.key(0))
    pushed = jax.jit(jax.vmap(lambda task, state: family.step(task, state, jnp.ones(1), jax.random.key(1))))
    after, _, reward, _ = pushed(tasks, states)
    np.testing.assert_allclose(reward, -abs(after.physics.q[:, 0] - 1.0), rtol=1e-6)
    light, heavy, slippery = np.asarray(after.physics.q[:, 0] - states.physics.q[:, 0])
    assert 0 < heavy < 0.5 * light < light < slippery


def test_the_page_on_networks_makes_one_that_adapts_and_is_configurable(folder: Path):
    names = run_blocks("your_own_network.md")
    before, after = names["state"].params, names["agent"].params
    changed = {path for path, leaf in trees.by_path(after).items() if (leaf != trees.by_path(before)[path]).any()}
    assert changed == {"mean/Head/kernel", "mean/Head/bias"}
    (folder / "my_networks.py").write_text(blocks("your_own_network.md")[0])
    (folder / "network.yaml").write_text(blocks("your_own_network.md", "yaml")[0])
    policy = build(load_config(folder / "network.yaml")).policy
    assert jax.eval_shape(policy.init, jax.random.key(0))["mean"]["Head"]["kernel"].shape == (16, 2)


def test_the_page_on_evaluation_has_configs_that_fit():
    training, start = (yaml.safe_load(block) for block in blocks("evaluation.md", "yaml"))
    config = config_from_dict(
        {"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "maml"}, **training, **start}
    )
    assert (config.evaluation.patience, config.training.initial_params) == (5, ("mean", "log_std"))


@pytest.mark.slow
def test_the_tutorial_makes_a_task_that_trains_and_is_configurable(folder: Path):
    names = run_blocks("tutorial.md")
    assert names["state"].step == 1
    assert names["info"]["return"].shape == (2,)
    (folder / "my_tasks.py").write_text(blocks("tutorial.md")[0])
    (folder / "compass.yaml").write_text(blocks("tutorial.md", "yaml")[0])
    family = build(load_config(folder / "compass.yaml")).family
    _, position, reward, _ = family.step(jnp.array(np.pi / 2), jnp.zeros(2), jnp.array([5.0, 0.0]), jax.random.key(0))
    np.testing.assert_allclose(position, [0.0, 0.1], atol=1e-7)  # told to go east, it went north
    np.testing.assert_allclose(reward, -np.hypot(0.5, 0.1), rtol=1e-6)


def test_the_table_of_the_readme_is_that_of_the_committed_comparison():
    result = read(DOCS.parent / "benchmarks" / "results" / "comparison_navigation.json")
    assert overview(result) in (DOCS.parent / "README.md").read_text()


@pytest.mark.slow
def test_the_first_lines_of_the_readme_train_and_adapt():
    names = run_blocks("../README.md", limit=1)
    assert names["state"].step == 1
    assert names["info"]["return"].shape == (2, 20)
    assert len(blocks("../README.md")[0].strip().splitlines()) <= 10
    assert blocks("index.md") == blocks("../README.md")[:1]
