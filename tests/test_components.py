"""Components of a user's own, named ``module:factory``: a family and a method in one file each."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from metarl_jax import load
from metarl_jax.config import ConfigError, config_from_dict, dump, load_config
from metarl_jax.config.components import find_component
from metarl_jax.runs.build import build
from tests.helpers import metarl

RAIL = '''
import jax
import jax.numpy as jnp
from my_physics import advance

from metarl_jax.types import ActionSpec, Paths, PositiveFloat, PositiveInt, TaskFamily


def rail_mass(*, horizon: PositiveInt = 20, heaviest: PositiveFloat = 2.0) -> TaskFamily:
    """Bring a cart of unknown mass to the middle of a rail.

    Args:
      horizon: steps per episode.
      heaviest: the largest mass, in kilograms.
    """

    def sample(key):
        return jax.random.uniform(key, minval=0.5, maxval=heaviest)

    def reset(mass, key):
        state = jnp.stack([jax.random.uniform(key, minval=-1.0, maxval=1.0), 0.0])
        return state, state

    def step(mass, state, action, key):
        state = advance(state, action[0] / mass)
        return state, state, -jnp.abs(state[0]), jnp.array(False)

    def is_in_the_middle(mass, state):
        return jnp.abs(state[0]) < 0.2

    return TaskFamily(
        sample, sample, reset, step, (2,), ActionSpec(1), horizon, success=is_in_the_middle, picture=Paths()
    )
'''

# A kind of method that the package does not have: no gradients, neither within a task nor over tasks, and no argument
# that ours have but for the one that every config gives.
CLIMB = '''
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from metarl_jax.collect.rollout import rollout
from metarl_jax.ops import trees
from metarl_jax.ops.returns import has_succeeded, has_terminated, is_dropped
from metarl_jax.types import (
    Adaptation, Agent, MetaAlgorithm, NonNegativeFloat, NonNegativeInt, PositiveInt, TrainState
)


def climb(
    family,
    policy,
    *,
    size: NonNegativeFloat = 0.1,
    num_changes: NonNegativeInt = 1,
    episodes_per_task: PositiveInt = 20,
) -> MetaAlgorithm:
    """Try random changes of the parameters, one after the other, and keep each if it earns more.

    Args:
      family: where tasks come from.
      policy: what is trained.
      size: how large the changes are.
      num_changes: how many are tried.
      episodes_per_task: episodes per change.
    """

    def adapt(params, task, key):
        flat, unravel = ravel_pytree(params)

        def play(flat, k):
            data = rollout(family, policy, unravel(flat), task, jax.random.fold_in(key, k), episodes_per_task)
            return {
                "return": data.reward.sum(0),
                "terminated": has_terminated(data.discount),
                "dropped": is_dropped(data.mask),
                "success": has_succeeded(data.success),
                "taken": data.taken.sum(0),
            }

        def attempt(best, k):
            noise = jax.random.normal(jax.random.fold_in(key, -k), flat.shape)
            changed = best[0] + size * noise
            played = play(changed, k)
            earned = played["return"].mean()
            return trees.where(earned > best[1], (changed, earned), best), played

        first = play(flat, 0)
        start = (flat, first["return"].mean())
        (best, _), later = jax.lax.scan(attempt, start, jnp.arange(1, num_changes + 1))
        return Agent(unravel(best), ()), jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)

    def init(key):
        return TrainState(policy.init(key), (), (), jnp.zeros((), jnp.int32))

    def update(state, tasks, keys, axis_name=None):
        agents, info = jax.vmap(adapt, in_axes=(None, 0, 0))(state.params, tasks, keys)
        params = trees.mean_over_tasks(agents.params, axis_name)
        returns = trees.mean_over_tasks(info["return"].mean(-1), axis_name)
        taken = trees.psum(info["taken"].sum().astype(int), axis_name)
        return TrainState(params, (), (), state.step + 1), {"return": returns, "steps_taken": taken}

    def with_budget(units, episodes, _):
        return climb(family, policy, size=size, num_changes=units, episodes_per_task=episodes)

    adaptation = Adaptation("change", num_changes, num_changes + 1, with_budget)
    return MetaAlgorithm(init, adapt, update, adaptation=adaptation)
'''

EXPERIMENT = """
tasks: {name: "my_tasks:rail_mass", horizon: 5}
policy: {hidden_sizes: [4]}
algorithm: {name: "my_methods:climb", num_changes: 2}
training: {num_iterations: 1, meta_batch_size: 2, episodes_per_task: 3}
evaluation: {num_tasks: 2, num_inner_steps: 2, episodes_per_task: 3}
"""


@pytest.fixture(autouse=True)
def forget_modules() -> Iterator[None]:
    """What a test imports is not there for the next."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name not in modules and name.startswith(("my_", "random_"))]:
        del sys.modules[name]


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def make_run(folder: Path, **files: str) -> Path:
    """A folder that looks like somebody's run directory, with their modules in it."""
    write(folder, **files)
    (folder / "checkpoints").mkdir()
    (folder / "config.yaml").write_text(EXPERIMENT)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a config, a family, a method, and a file that takes the name of a module of Python's."""
    folder = write(
        tmp_path_factory.mktemp("project"),
        my_tasks=RAIL,
        my_methods=CLIMB,
        my_physics="def advance(state, force):\n    return state + 0.1 * state[1:].sum() + 0.1 * force\n",
        random="raise RuntimeError('not the random of Python')\n",
        colorsys="raise RuntimeError('not the colorsys of Python')\n",
    )
    (folder / "experiment.yaml").write_text(EXPERIMENT)
    return folder


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        action()
    assert caught.value.__cause__ is None
    return str(caught.value)


def named(tasks: str, **sections: Any) -> dict[str, Any]:
    return {"tasks": {"name": tasks}, "algorithm": {"name": "maml"}, **sections}


@pytest.mark.slow
def test_a_family_and_a_method_of_a_new_kind_through_the_command_line(project: Path, tmp_path: Path) -> None:
    """Nothing of the package is touched: a file each, found beside the config from any working directory."""
    config, run = project / "experiment.yaml", tmp_path / "run"
    done = metarl("train", config, "tasks.heaviest=3", "--run-dir", run, "--evaluate", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "  name: my_tasks:rail_mass\n  horizon: 5\n  heaviest: 3.0\n" in (run / "config.yaml").read_text()

    more = ("tasks.heaviest=3", "training.num_iterations=2", "--run-dir", run, "--resume")
    resumed = metarl("train", config, *more, cwd=tmp_path)
    assert "finished 2 iterations" in resumed.stdout, resumed.stderr

    evaluated = metarl("evaluate", run, "--steps", 3, cwd=project)  # found in the working directory
    assert evaluated.returncode == 0, evaluated.stderr
    assert {"changes", "success:"} <= set(evaluated.stdout.split())
    result = json.loads(next(run.glob("evaluation_*.json")).read_text())
    assert result["gradient_steps"] == [0, 1, 2, 3]
    assert result["settings"]["adaptation"] == "changes"
    assert 0.0 < result["success_rate"][0] < 1.0

    drawn = metarl("render", run, cwd=project)
    assert drawn.returncode == 0, drawn.stderr
    assert "after adaptation: return" in drawn.stdout
    assert (run / "render.png").stat().st_size > 10_000

    timed = metarl("benchmark", config, "--iterations", 1, "--json", cwd=tmp_path)
    assert json.loads(timed.stdout)["env_steps_per_iteration"] == 3 * 2 * 3 * 5, timed.stderr


def test_from_python_as_from_a_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    tree = {"tasks": {"name": "my_tasks:rail_mass", "horizon": 7}, "algorithm": {"name": "my_methods:climb"}}
    config = config_from_dict(tree)
    assert build(config).family.horizon == 7
    assert config.optimizer is None  # the method takes none
    (project / "again.yaml").write_text(dump(config))
    assert load_config(project / "again.yaml") == config
    assert refusal(lambda: config_from_dict({**tree, "tasks": {"name": "my_tasks:rail_mass", "horizn": 7}})).startswith(
        "tasks.horizn: unknown key of task family 'my_tasks:rail_mass'; did you mean 'horizon'?"
    )


def test_a_policy_and_what_is_installed() -> None:
    tree = named("metarl_jax.tasks:navigation_finn", policy={"name": "metarl_jax.networks.mlp:mlp_policy"})
    assert jax.eval_shape(build(config_from_dict(tree)).policy.init, jax.random.key(0)).keys() == {"mean", "log_std"}


def test_the_working_directory_goes_first_then_the_folder_of_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, beside = write(tmp_path / "a", my_x="f = len"), write(tmp_path / "b", my_x="f = max", my_y="f = min")
    monkeypatch.chdir(here)
    assert find_component("my_x:f", [here, beside]) is len
    assert find_component("my_y:f", [here, beside]) is min
    assert "there are two modules 'my_x'" in refusal(lambda: find_component("my_x:f", [beside]))


def test_packages_and_folders_that_are_none(tmp_path: Path) -> None:
    write(tmp_path / "my_package" / "inner", tasks="f = len")
    write(tmp_path / "my_package", __init__="", other="from .inner.tasks import f")
    write(tmp_path / "my_folder", tasks="f = max")
    assert find_component("my_package.inner.tasks:f", [tmp_path]) is len
    assert find_component("my_package.other:f", [tmp_path]) is len
    assert find_component("my_folder.tasks:f", [tmp_path]) is max
    assert "no module 'my_folder.task' in" in refusal(lambda: find_component("my_folder.task:f", [tmp_path]))


EVIL = "raise SystemExit('code of a run directory ran')"


@pytest.mark.parametrize(
    ("name", "folder", "in_path"),
    [
        ("my_evil:f", "run", False),
        ("my_evil:f", "run/code", False),
        ("my_evil:f", "run", True),  # as a notebook in the run directory has it
        ("run.my_evil:f", ".", False),
        ("run.code.my_evil:f", ".", True),
    ],
)
def test_no_code_is_taken_from_a_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: str, in_path: bool
) -> None:
    run = make_run(tmp_path / "run", my_evil=EVIL, __init__=EVIL)
    write(run / "code", my_evil=EVIL)
    if in_path:
        monkeypatch.syspath_prepend(tmp_path / folder)
    found = refusal(lambda: find_component(name, [tmp_path / folder]))
    assert "no code is taken from a run directory" in found
    assert "SystemExit" not in found


def test_loading_a_run_says_what_is_missing_and_runs_none_of_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", my_tasks=EVIL, my_methods=EVIL)
    for folder in (tmp_path, run):
        monkeypatch.chdir(folder)
        lines = refusal(lambda: load(run)).splitlines()
        assert [line.split(": ")[1] for line in lines] == ["tasks.name", "algorithm.name"]
        assert "there is no module 'my_tasks' (looked " in lines[0]
        assert "set PYTHONPATH" in lines[0]
    with pytest.raises(ConfigError, match="no module 'my_tasks'"):
        load_config(run / "config.yaml")
    (run / "checkpoints").rmdir()  # not to be told from a folder of the user's own: refused before anything is imported
    with pytest.raises(ConfigError, match="holds no run"):
        load(run)


MISTAKES = [
    ("import jax\n\n1 / 0\n", "my_x:f", "my_x.py, line 3: ZeroDivisionError: division by zero"),
    ("import my_y\n", "my_x:f", "my_y.py, line 2: ModuleNotFoundError: No module named 'my_nowhere'"),
    ("x = (1\n", "my_x:f", "my_x.py, line 1: SyntaxError: '(' was never closed"),
    ("import sys\nsys.exit('usage')\n", "my_x:f", "my_x.py, line 2: SystemExit: usage"),
    ("def rail(): pass\n", "my_x:raill", "my_x.py has no factory 'raill'; did you mean 'rail'?"),
    ("f = 3\n", "my_x:f", "has no factory 'f'"),
    ("class f: pass\n", "my_x:f", "name a function that makes the task family"),
    ("def f(*, a=1): pass\n", "my_x:f", "my_x:f: argument 'a' has no annotation, so a config cannot check it"),
    ("def f(*, a: 'Nothing' = 1): pass\n", "my_x:f", "my_x:f: name 'Nothing' is not defined"),
    ("def f(*, a: object()): pass\n", "my_x:f", "my_x:f: "),
    ("def f(horizon: int = 3): pass\n", "my_x:f", "must take nothing before its keyword-only arguments (got horizon)"),
    ("", "my_x.py:f", "there is no module 'my_x.py' in"),
    ("", "my_x:f:g", "must be MODULE:FACTORY, as in my_tasks:rail_mass (got 'my_x:f:g')"),
    ("", "/my_x:f", "must be MODULE:FACTORY"),
    ("", "random:f", "'random' is a module of Python's own: give your file another name"),
    ("", "my_z:f", "there is no module 'my_z' (looked in "),
]


@pytest.mark.parametrize(("text", "name", "expected"), MISTAKES, ids=[mistake[2] for mistake in MISTAKES])
def test_mistakes_of_the_user(tmp_path: Path, text: str, name: str, expected: str) -> None:
    write(tmp_path, my_x=text, my_y="\nimport my_nowhere\n")
    found = refusal(lambda: config_from_dict(named(name), folders=[tmp_path]))
    assert found.startswith("tasks.name: ")
    assert expected in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("section", "text", "expected"),
    [
        ("tasks", "def f(): return {}", "tasks.name: my_x:f must return a metarl_jax.types.TaskFamily (got dict)"),
        (
            "policy",
            "def f(shape, action): pass",
            "policy.name: my_x:f must return a metarl_jax.types.Policy (got NoneType)",
        ),
        (
            "algorithm",
            "def f(family, policy, *, episodes_per_task: int): pass",
            "must return a metarl_jax.types.MetaAlgo",
        ),
        ("algorithm", "def f(family, policy): pass", "must take the keyword-only argument episodes_per_task"),
    ],
)
def test_what_a_factory_returns_and_takes(tmp_path: Path, section: str, text: str, expected: str) -> None:
    write(tmp_path, my_x=text)
    tree = named("navigation_finn") | {section: {"name": "my_x:f"}}
    assert expected in refusal(lambda: build(config_from_dict(tree, folders=[tmp_path])))


def test_no_code_is_taken_from_a_closed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run directory without a checkpoint yet, entered by the user: what lies there does not run."""
    write(tmp_path, my_closed="raise SystemExit('code ran')\n")
    monkeypatch.chdir(tmp_path)
    found = refusal(lambda: config_from_dict(named("my_closed:f"), closed=tmp_path))
    assert "there is no module 'my_closed'" in found
