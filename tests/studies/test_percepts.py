"""Percepts in half the bits: the error is that of rounding alone, and what the page says."""

from functools import partial

import jax
import optax

from metarl_jax.algorithms import maml
from metarl_jax.networks import mlp_policy
from metarl_jax.studies import percepts
from metarl_jax.tasks import navigation_finn


def test_the_error_is_that_of_rounding() -> None:
    """Less than a hundredth in bfloat16, which has 8 bits, and more than that of float32 itself."""
    family = navigation_finn(horizon=5)
    policy = mlp_policy(family.observation_shape, family.action, hidden_sizes=(8,))
    algorithm = maml(family, policy, optax.sgd(1.0), episodes_per_task=4)
    keys = jax.random.split(jax.random.key(0), 3)
    params, tasks = algorithm.init(keys[0]).params, jax.vmap(family.sample)(keys)
    assert 1e-5 < jax.jit(partial(percepts.error, algorithm))(params, tasks, keys) < 0.01


def test_the_page_has_a_row_for_each_case() -> None:
    measured = {"config": "promp_x", "errors": [0.00013, 0.0019], "updates": 20, "tasks": 40, "jax": "0.10.2"}
    page = percepts.page("percepts", {"ProMP, corner": {**measured, "stages": 2**20, "percepts": 2**19}})
    assert "| ProMP, corner | `promp_x` | 40 | 0.013 % | 0.19 % | 20 | 1.0 MiB | 0.5 MiB | 0.10.2 |" in page
