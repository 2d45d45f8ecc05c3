"""Which picture a run gets: as its family declares, of the task that was asked for, or none."""

from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

from metarl_jax.algorithms import maml
from metarl_jax.config import ConfigError
from metarl_jax.networks import mlp_policy
from metarl_jax.report.pictures.render import render
from metarl_jax.runs.run import Run
from metarl_jax.tasks.wrappers.oracle import with_oracle
from metarl_jax.types import ActionSpec, Array, Paths, TaskFamily
from tests.helpers import untrained


@pytest.fixture(scope="module")
def navigator() -> Run:
    return untrained({"name": "navigation_finn", "horizon": 6}, {"name": "maml"})


@pytest.mark.parametrize("oracle", [False, True])
def test_a_family_of_a_user_is_drawn_as_it_declares(tmp_path: Path, oracle: bool) -> None:
    """Paths of what no family of ours has: the position behind another number, a task that is one, no goal."""
    seen = []

    def position(observation: Array) -> Array:
        seen.append(observation.shape)
        return observation[..., 1:]

    run = untrained({"name": "navigation_finn", "horizon": 6, "oracle": oracle}, {"name": "maml"})
    own = TaskFamily(
        sample=jax.random.uniform,
        sample_held_out=jax.random.uniform,
        reset=lambda task, key: (jnp.zeros(2), jnp.zeros(3)),
        step=lambda task, state, action, key: (state + action, jnp.array([task, *(state + action)]), task, task > 2),
        observation_shape=(3,),
        action=ActionSpec(2),
        horizon=6,
        picture=Paths(position),
    )
    family = with_oracle(own) if oracle else own
    policy = mlp_policy(family.observation_shape, family.action, hidden_sizes=(4,))
    algorithm = maml(family, policy, optax.sgd(0.1), episodes_per_task=2)
    params = algorithm.init(jax.random.key(0)).params
    own_run = run._replace(family=family, policy=policy, algorithm=algorithm, params=params)
    path, _ = render(own_run, tmp_path)
    assert path == tmp_path / "render.png", "of a folder, a name that every file system takes"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert seen == [(7, 20, 3)] * 2  # before and after: 20 episodes, from the first observation to the last


def test_no_path_is_the_working_directory(navigator: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, _ = render(navigator, None)
    assert path == Path("render.png")
    assert path.is_file()


@pytest.mark.parametrize(
    ("output", "task", "message"),
    [
        ("paths.gif", None, r"--output .*paths\.gif: end the name of a picture of navigation_finn in \.png"),
        ("paths.png", [1.0], r"--task 1.0: a task of navigation_finn has 2 numbers"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    navigator: Run, tmp_path: Path, output: str, task: list[float] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        render(navigator, tmp_path / output, task)


@pytest.mark.parametrize("name", ["bandit_bernoulli", "tabular_mdp"])
def test_a_family_without_a_picture_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"there is no picture of {name} with this method"):
        render(untrained({"name": name}, {"name": "maml"}))
