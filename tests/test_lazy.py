"""What nobody names is not imported, and what is named is there, however it is asked for."""

import json
import subprocess
import sys
from types import ModuleType

import pytest

import metarl_jax
from metarl_jax import algorithms, networks, runs, tasks
from metarl_jax.lazy import Lazily

IMPORTED = """
import json, sys

def ours():
    return sorted(name for name in sys.modules if name.startswith(("metarl_jax.", "jax.", "brax.", "mujoco.")))

import metarl_jax.cli
first = ours()
metarl_jax.tasks, metarl_jax.algorithms, metarl_jax.networks
from metarl_jax.config import load_config
load_config("quickstart")
second = ours()
import metarl_jax.runs.launch
slow = [name for name in ("orbax.checkpoint", "optuna", "matplotlib", "tensorboardX") if name in sys.modules]
print(json.dumps([first, second, slow]))
"""


def test_a_config_costs_what_it_names_and_the_command_alone_not_even_jax() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second, slow = json.loads(done.stdout)
    assert slow == [], "training starts without what only its end, or another command, needs"
    assert {name for name in first if not name.startswith("metarl_jax.cli")} <= {
        "metarl_jax.report",
        "metarl_jax.report.text",
    }
    packages = {".".join(name.split(".")[:3]) for name in second if name.startswith("metarl_jax.")}
    assert {name for name in packages if ".tasks." in name} == {
        "metarl_jax.tasks.beyond",
        "metarl_jax.tasks.navigation",
    }
    assert "metarl_jax.algorithms.gradient" in packages
    assert "metarl_jax.algorithms.memory" not in packages
    assert "metarl_jax.algorithms.gradient.promp" not in second
    assert not [name for name in second if name.startswith(("brax.", "mujoco."))]


@pytest.mark.parametrize("package", [metarl_jax, algorithms, networks, runs, tasks])
def test_every_name_is_there_for_completion_and_with_a_star(package: ModuleType) -> None:
    star: dict[str, object] = {}
    exec(f"from {package.__name__} import *", star)
    assert set(star) - {"__builtins__"} == set(dir(package)) == set(package.__all__)
    assert all(getattr(package, name) is star[name] for name in dir(package))
    with pytest.raises(AttributeError, match="nowhere"):
        _ = package.nowhere


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (tasks.FAMILIES, {*tasks.__all__} - {"FAMILIES"}),
        (algorithms.ALGORITHMS, {*algorithms.__all__} - {"ALGORITHMS"}),
        (networks.POLICIES, {"mlp", "conv", "recurrent", "belief", "in_context"}),
    ],
)
def test_a_row_is_a_factory(rows: Lazily, names: set[str]) -> None:
    assert set(rows) == names
    assert all(factory.__name__.removesuffix("_policy") == name for name, factory in rows.items())


def test_asking_for_a_key_looks_nothing_up() -> None:
    asked: list[str] = []
    rows = Lazily({"a": "x", "b": "y"}, lambda name: asked.append(name) or name.upper())
    assert ("a" in rows, "x" in rows, list(rows), len(rows), asked) == (True, False, ["a", "b"], 2, [])
    assert (rows["b"], asked) == ("Y", ["y"])
    with pytest.raises(KeyError):
        rows["c"]
