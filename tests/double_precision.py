"""``JAX_ENABLE_X64=1 python -m tests.double_precision FOLDER``: trains, resumes and evaluates in float64, or fails."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.collect.rollout import rollout
from metarl_jax.config import Config, config_from_dict
from metarl_jax.runs.build import Experiment, build
from metarl_jax.runs.evaluation import evaluate
from metarl_jax.runs.run import load, prepare_directory, restore
from metarl_jax.runs.training import train
from metarl_jax.tracking.jsonl import read_metrics

KINDS: dict[str, dict[str, Any]] = {
    "gradient": {
        "tasks": {"name": "navigation_finn", "horizon": 3},
        "policy": {"hidden_sizes": [2], "shared_torso": True},
        "algorithm": {"name": "promp", "kl_target": 0.01, "inner_rule": "learned_step_sizes", "baseline": "critic"},
    },
    "memory": {
        "tasks": {"name": "tabular_mdp", "num_states": 2, "num_actions": 2, "horizon": 2},
        "policy": {
            "name": "recurrent",
            "hidden_size": 2,
            "memory": "lstm",
            "memory_slots": 2,
            "normalize_observations": True,
        },
        "algorithm": {"name": "rl2", "num_minibatches": 1, "normalize_rewards": True},
    },
    "brax": {
        "tasks": {"name": "random_dynamics", "body": "hopper", "horizon": 2},
        "policy": {"hidden_sizes": [2]},
        "algorithm": {"name": "trpo_maml"},
    },
}


def config(kind: str, num_iterations: int = 1) -> Config:
    training = {"num_iterations": num_iterations, "meta_batch_size": 2, "episodes_per_task": 2, "updates_per_visit": 1}
    return config_from_dict({**KINDS[kind], "training": training, "logging": {"tensorboard": False}})


def check_floats(tree: Any) -> None:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    assert {leaf.dtype for leaf in floats} == {jnp.dtype("float64")}, jax.tree.map(lambda leaf: leaf.dtype, tree)


def trace_update(experiment: Experiment) -> Any:
    def update(key: Any) -> Any:
        keys = jax.random.split(key, 2)
        return experiment.algorithm.update(
            experiment.algorithm.init(key), jax.vmap(experiment.family.sample)(keys), keys
        )

    return jax.eval_shape(update, jax.random.key(0))


def check_run(kind: str, directory: Path, num_iterations: int) -> None:
    for reached in range(1, num_iterations + 1):
        prepare_directory(directory, config(kind, reached), resume=reached > 1, overwrite=False)
        train(build(config(kind, reached)), directory, devices=jax.devices()[:1], resume=reached > 1)
    rows = read_metrics(directory)
    assert [(np.isfinite(row["loss"]), row["skipped"]) for row in rows] == [(True, 0)] * num_iterations, rows
    check_floats(restore(build(config(kind)), directory).state)
    run = load(directory)
    summary = evaluate(run, num_tasks=1, num_inner_steps=1, episodes_per_task=1)
    assert np.isfinite(summary["mean_return"]).all()


def check_physics() -> None:
    experiment = build(config("brax"))
    check_floats(trace_update(experiment))
    family, policy, key = experiment.family, experiment.policy, jax.random.key(0)
    trajectory = jax.jit(lambda key: rollout(family, policy, policy.init(key), family.sample(key), key, 2))(key)
    check_floats(trajectory)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trajectory))


if __name__ == "__main__":
    assert jax.config.jax_enable_x64
    check_run("gradient", Path(sys.argv[1]) / "gradient", num_iterations=2)
    check_run("memory", Path(sys.argv[1]) / "memory", num_iterations=1)
    check_physics()
