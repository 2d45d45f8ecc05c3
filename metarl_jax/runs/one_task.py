"""One task to look at or to adapt to: by its numbers, or one of those that an evaluation draws."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from metarl_jax.collect.randomness import fold_in_each, stream
from metarl_jax.config import ConfigError
from metarl_jax.runs.build import meta_test_sampler
from metarl_jax.runs.run import Run
from metarl_jax.types import Key, Task


def numbers_of(text: str) -> list[float]:
    """The numbers of a task as the command line takes them.

    Raises:
      ConfigError: if they are none.

    Example:
      >>> numbers_of("0.3,-0.2")
      [0.3, -0.2]
    """
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise ConfigError(f"--task {text}: give numbers separated by commas") from None


def task_of_numbers(run: Run, numbers: list[float]) -> Task:
    """The task of a run's family that these numbers describe, in the order of its leaves.

    Raises:
      ConfigError: if a task has another number of them.
    """
    flat, unravel = ravel_pytree(run.family.sample_held_out(jax.random.key(0)))
    if len(numbers) != flat.size:
        raise ConfigError(
            f"--task {','.join(map(str, numbers))}: a task of {run.config.tasks.name} has {flat.size} numbers"
        )
    return unravel(jnp.asarray(numbers, flat.dtype))


def evaluation_task(run: Run, index: int) -> tuple[Task, Key]:
    """A task that an evaluation with the config's settings adapts to, and the key of its episodes.

    Args:
      run: whose ``config.evaluation`` says which distribution and which seed.
      index: from 0.
    """
    settings = run.config.evaluation
    sample = meta_test_sampler(run.config, run.family, settings.distribution)
    streams = (stream(settings.seed, name) for name in ("held_out_tasks", "held_out_episodes"))
    key_task, key_episodes = (fold_in_each(root, jnp.array([index])) for root in streams)
    return jax.tree.map(lambda x: x[0], jax.vmap(sample)(key_task)), key_episodes[0]
