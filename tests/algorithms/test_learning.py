"""Every gradient-based method learns, on bandits small enough for seconds.

Four arms, two of which never pay. Which of the other two pays is the task. Avoiding the worthless arms can be learned
without adaptation and earns 0.5; more than that takes adaptation.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.networks.mlp import mlp_policy
from metarl_jax.tasks.discrete.bandit import BanditTask, bandit_bernoulli

TASKS, EPISODES, UPDATES = 8, 20, 60
METHODS = [
    name for name, factory in ALGORITHMS.items() if "episodes_per_trial" not in inspect.signature(factory).parameters
]
SETTINGS = {
    "cavia": {"inner_lr": 2.0},
    "reptile": {"num_inner_steps": 3},
    "trpo_maml": {"max_kl": 0.02, "cg_damping": 1e-2},
}
# These train for one set of parameters that serves all tasks; the others must gain from adaptation.
WITHOUT_ADAPTATION = {"reptile", "pretraining"}


def sample(key):
    return BanditTask(
        jnp.where(jax.random.bernoulli(key), jnp.array([0.9, 0.1, 0.0, 0.0]), jnp.array([0.1, 0.9, 0.0, 0.0]))
    )


@pytest.mark.parametrize("name", METHODS)
def test_it_learns(name):
    """From 0.25, the mean of the arms, to clearly more; after adaptation where the method optimises that."""
    family = bandit_bernoulli(num_arms=4)._replace(sample=sample)
    policy = mlp_policy(family.observation_shape, family.action, hidden_sizes=(8,), context_size=4 * (name == "cavia"))
    has_optimizer = "optimizer" in inspect.signature(ALGORITHMS[name]).parameters
    arguments = (family, policy, optax.adam(0.03)) if has_optimizer else (family, policy)
    settings = {"inner_lr": 0.5, "estimator": "likelihood_ratio", "baseline": "zero", **SETTINGS.get(name, {})}
    algorithm = ALGORITHMS[name](*arguments, episodes_per_task=EPISODES, **settings)

    @jax.jit
    def train(key):
        def update(state, t):
            key_task, key_data = jax.random.split(jax.random.fold_in(key, t))
            tasks = jax.vmap(family.sample)(jax.random.split(key_task, TASKS))
            state, info = algorithm.update(state, tasks, jax.random.split(key_data, TASKS))
            return state, (info["return"], info["skipped"])

        return jax.lax.scan(update, algorithm.init(key), jnp.arange(UPDATES))

    _, (returns, skipped) = train(jax.random.key(0))
    assert not skipped.any()
    first, last = np.mean(returns[:5, -1]), np.mean(returns[-10:, -1])
    assert last > first + 0.1
    assert last > (0.4 if name in WITHOUT_ADAPTATION else 0.6)
