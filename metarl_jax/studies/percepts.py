"""What percepts stored in half the bits cost: the error of the meta-gradient, beside the memory that they save."""

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax.config import load_config
from metarl_jax.ops import trees
from metarl_jax.runs.memory import in_words, size_of
from metarl_jax.runs.notebook import build, train
from metarl_jax.studies.results import markdown, table
from metarl_jax.types import Array, Batch, Key, MetaAlgorithm, Params, Task

CASES: dict[str, tuple[str, ...]] = {
    "ProMP, corner": ("promp_navigation_corner",),
    "ProMP, half-cheetah, C engine": ("promp_half_cheetah_direction", "tasks.backend=mujoco"),
    "ProMP, ant, spring": ("promp_ant_direction", "tasks.backend=spring"),
}
"""A config, and what is changed in it."""
_STORAGE = "bfloat16"


def measure(case: str, updates: int = 20) -> dict[str, Any]:
    """Compare the meta-gradients of one batch of tasks, whose percepts are stored in full and in half of the bits.

    All else is the same, the episodes, advantages and log-probabilities of the policy that acted among it, so that this
    is the error of the gradient alone.

    Args:
      case: of :data:`CASES`.
      updates: of training before the second comparison; the first is of a random initialisation.

    Returns:
      ``errors`` before and after these updates: the norm of the difference in units of the gradient's; bytes of a
      task's ``stages``, and of its ``percepts``, as they are, which are halved.
    """
    name, *changes = CASES[case]
    config = load_config(name, [*changes, f"training.num_iterations={updates}", "logging.tensorboard=false"])
    run = build(config)
    tasks = config.training.meta_batch_size
    key_tasks, key_episodes = jax.random.split(jax.random.key(config.seed))
    sampled = jax.vmap(run.family.sample)(jax.random.split(key_tasks, tasks))
    keys = jax.random.split(key_episodes, tasks)
    compare = jax.jit(lambda params: error(run.algorithm, params, sampled, keys))
    collect = run.algorithm.collect
    assert collect is not None  # all cases take gradient steps
    _, stages = jax.eval_shape(collect, run.params, jax.tree.map(lambda x: x[0], sampled), keys[0])
    with tempfile.TemporaryDirectory() as folder:
        trained = train(config, run_dir=Path(folder) / "run", devices=1)
    return {
        "config": " ".join([name, *changes]),
        "errors": [float(compare(params)) for params in (run.params, trained.params)],
        "updates": updates,
        "tasks": tasks,
        "stages": size_of(stages),
        "percepts": size_of([stage.trajectory.percept for stage in stages]),
        "jax": version("jax"),
    }


def error(algorithm: MetaAlgorithm, params: Params, tasks: Task, keys: Key) -> Array:
    """The norm of what rounding moves the meta-gradient by, in units of its own norm; ``[]``.

    The outer loss is the policy gradient's, importance-weighted, without a method's clipping and penalties.

    Args:
      algorithm: one with gradient steps.
      params: the meta-parameters.
      tasks: ``[M, ...]``.
      keys: ``[M]``, of their episodes.
    """
    assert algorithm.collect is not None
    assert algorithm.replay is not None
    collect, replay = algorithm.collect, algorithm.replay

    def outer_loss(theta: Params, stages: tuple[Batch, ...]) -> Array:
        last, seen = stages[-1], replay(theta, stages)[1][-1]
        ratio = jnp.exp(seen.log_prob - last.trajectory.log_prob)
        return -jnp.mean(ratio * last.advantage)

    def gradients(one: tuple[Task, Key]) -> tuple[Params, Params]:
        stages = collect(params, *one)[1]
        return jax.grad(outer_loss)(params, stages), jax.grad(outer_loss)(params, tuple(map(_rounded, stages)))

    full, rounded = jax.tree.map(lambda leaf: leaf.mean(axis=0), trees.over_tasks(gradients, (tasks, keys), 1))
    return trees.norm(jax.tree.map(jnp.subtract, rounded, full)) / trees.norm(full)


def _rounded(stage: Batch) -> Batch:
    stored = trees.narrow(stage.trajectory.percept, _STORAGE)
    return stage._replace(trajectory=stage.trajectory._replace(percept=stored))


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each case."""
    head = ["case", "config", "tasks", "error, untrained", "trained", "updates", "a task's stages", "percepts in it"]
    return markdown(
        f"# {name}",
        "`python benchmarks/percepts.py`: what `algorithm.percept_storage: bfloat16` does to the meta-gradient of one "
        "batch of tasks (of the importance-weighted return, without clipping and penalties): the norm of the "
        "difference over that of the gradient, with a random initialisation and after some updates of training; and "
        "the memory of one task's episodes, and of the percepts in it, which is halved.",
        table([*head, "jax"], [_row(*item) for item in results.items()]),
    )


def _row(case: str, result: dict[str, Any]) -> list[str | None]:
    before, after = (f"{100 * value:.2g} %" for value in result["errors"])
    sizes = [in_words(result[key]) for key in ("stages", "percepts")]
    counts = [str(result[key]) for key in ("tasks", "updates")]
    return [case, f"`{result['config']}`", counts[0], before, after, counts[1], *sizes, result["jax"]]
