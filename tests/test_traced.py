"""The numbers of a config that are arguments of the program."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.config import OptimizerConfig, make_optimizer, static_part, traced_values
from metarl_jax.runs.build import build
from tests.helpers import tiny_config

OPTIMIZERS: list[dict[str, Any]] = [
    {},
    {"name": "sgd", "max_grad_norm": 0.1},
    {"warmup_steps": 3},
    {"decay_steps": 4, "final_fraction": 0.25},
    {"warmup_steps": 2, "decay_steps": 4, "max_grad_norm": 0.1, "final_fraction": 0.5},
]


@pytest.mark.parametrize("settings", OPTIMIZERS)
def test_an_optimiser_of_traced_numbers_takes_the_steps_of_the_config(settings: dict[str, Any]) -> None:
    """The state has the same structure, so that checkpoints of either fit."""
    config = OptimizerConfig(**settings)
    traced = {key: x for key in ("learning_rate", "max_grad_norm", "final_fraction") if (x := getattr(config, key))}
    gradient = {"w": jnp.array([0.3, -2.0])}

    def steps(**numbers: Any) -> Any:
        optimizer = make_optimizer(config, **numbers)
        params = {"w": jnp.ones(2)}
        state = optimizer.init(params)
        for _ in range(8):
            updates, state = optimizer.update(gradient, state, params)
            params = jax.tree.map(jnp.add, params, updates)
        return params, state

    chex.assert_trees_all_close(jax.jit(steps)(**traced), steps(), rtol=1e-6)


def test_what_is_traced_and_what_is_not() -> None:
    config = tiny_config(algorithm={"inner_lr": [0.1, 0.2], "num_inner_steps": 2}, policy={"init_std": 0.5})
    values = traced_values(config)
    assert [float(x) for x in values["algorithm"]["inner_lr"]] == pytest.approx([0.1, 0.2])
    assert values["policy"]["init_std"].dtype == np.float32
    assert "max_outer_kl" not in values["algorithm"]  # it has no number
    assert "num_inner_steps" not in values["algorithm"]
    one = tiny_config(algorithm={"inner_lr": 0.1, "num_inner_steps": 2})
    other = tiny_config(algorithm={"inner_lr": 0.2, "num_inner_steps": 2}, seed=9, evaluation={"num_tasks": 7})
    assert static_part(one) == static_part(other)
    assert static_part(one) != static_part(config)  # one step size, or one for each step


def test_values_take_the_place_of_the_config_s() -> None:
    """As if the config had them, in the policy, the method and the optimiser."""
    other = tiny_config(
        policy={"init_std": 0.5}, algorithm={"inner_lr": 0.3, "discount": 0.8}, optimizer={"learning_rate": 0.1}
    )
    remade = build(tiny_config()).remake(traced_values(other))
    experiment = build(other)
    key = jax.random.key(0)
    tasks, keys = jax.vmap(experiment.family.sample)(jax.random.split(key, 4)), jax.random.split(key, 4)
    ends = [jax.jit(algorithm.update)(algorithm.init(key), tasks, keys) for algorithm in (remade, experiment.algorithm)]
    chex.assert_trees_all_close(*ends, rtol=1e-4, atol=1e-6)
