"""Parts of an update as programs: the environment alone, and derivatives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.config import config_from_dict
from metarl_jax.diagnostics.benchmark import initial_state
from metarl_jax.diagnostics.programs import blank_stages, make_derivatives, make_parts, play_blindly, tasks_and_keys
from metarl_jax.runs.build import Experiment, build
from metarl_jax.types import ActionSpec, TaskFamily
from tests.helpers import TINY


def experiment(name: str = "maml", **algorithm: Any) -> Experiment:
    policy = {"name": "recurrent", "hidden_size": 4} if name == "rl2" else {"hidden_sizes": [4]}
    return build(config_from_dict({**TINY, "policy": policy, "algorithm": {"name": name, **algorithm}}))


def test_the_environment_alone_takes_every_step_with_one_action_in_each_episode() -> None:
    def step(task: Any, state: Any, action: Any, key: Any) -> Any:
        number, first = state
        held = jnp.where(number == 0, action, first)
        return (number + 1, held), action, jnp.where(action == held, task, -100.0), number == 1

    family = TaskFamily(
        sample=lambda key: 2.0,
        sample_held_out=lambda key: 2.0,
        reset=lambda task, key: ((0, 0), 0),
        step=step,
        observation_shape=(),
        action=ActionSpec(7, discrete=True),
        horizon=4,
    )
    reward, observation = play_blindly(family, 2.0, jax.random.key(0), 3)
    assert reward.tolist() == [6.0] * 4  # one that ends after two steps goes on
    assert 0 <= int(observation[0]) < 3 * 7


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("maml", ["physics", "rollout", "scored", "adapt"]),
        ("pretraining", ["physics", "rollout", "scored"]),
        ("rl2", ["physics", "rollout", "adapt"]),
    ],
)
def test_parts_are_what_a_method_has(name: str, parts: list[str]) -> None:
    tried = experiment(name)
    made = make_parts(tried)
    assert list(made) == parts
    for part in made.values():  # and can be traced
        assert jax.tree.leaves(jax.eval_shape(part, initial_state(tried)))
    assert (blank_stages(tried) is None) == (name == "rl2")


def test_blank_stages_have_the_shapes_of_real_ones() -> None:
    tried = experiment(num_inner_steps=2)
    state = initial_state(tried)
    real = jax.eval_shape(lambda: jax.vmap(tried.algorithm.collect, (None, 0, 0))(state.params, *_tasks(tried))[1])
    blank = blank_stages(tried)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), blank) == jax.tree.map(lambda x: (x.shape, x.dtype), real)


def _tasks(tried: Experiment) -> Any:
    return tasks_and_keys(tried, jnp.zeros((), int))


def test_derivatives_are_of_the_orders_that_they_are_called() -> None:
    """A method of first order has the same meta-gradient either way; the product is that of finite differences."""
    results = []
    for first_order in (True, False):
        tried = experiment(num_inner_steps=2, first_order=first_order, inner_lr=0.5)
        params = initial_state(tried).params
        stages = jax.jit(jax.vmap(tried.algorithm.collect, (None, 0, 0)))(params, *_tasks(tried))[1]
        made = jax.jit(lambda given, tried=tried: {name: of(given) for name, of in make_derivatives(tried).items()})
        results.append({name: _flat(tree) for name, tree in made((params, stages)).items()})
    same, exact = results
    np.testing.assert_allclose(same["first_order"], same["second_order"], rtol=1e-4, atol=1e-6)
    assert np.linalg.norm(exact["first_order"] - exact["second_order"]) > 1e-3 * np.linalg.norm(exact["second_order"])
    ahead, behind = (
        _flat(made((jax.tree.map(lambda x, s=s: (1.0 + s) * x, params), stages))["gradient"]) for s in (1e-2, -1e-2)
    )
    np.testing.assert_allclose((ahead - behind) / 2e-2, exact["hvp"], rtol=0.02, atol=0.02 * np.abs(exact["hvp"]).max())


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
