"""The numbers of a config that are arguments of the device program, so that runs which differ in them share it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import is_traceable
from metarl_jax.config.schema import NamedSection, Section, traceable_keys
from metarl_jax.config.sections import Config
from metarl_jax.types import PyTree

Values = Mapping[str, Mapping[str, PyTree]]
"""By section (``policy``, ``algorithm``, ``optimizer``), then by key: numbers, or tuples of them."""

_SECTIONS = ("policy", "algorithm", "optimizer")
_NOT_OF_THE_PROGRAM = {
    "training": {
        "num_iterations",
        "checkpoint_every",
        "keep_checkpoints",
        "log_every",
        "initial_run",
        "initial_checkpoint",
        "initial_params",
    },
    "logging": None,
}


def traced_values(config: Config) -> Values:
    """The traced numbers of a config: all keys that are marked :data:`metarl_jax.checks.Traced` and have a number.

    Args:
      config: the experiment.

    Returns:
      The numbers, in JAX's default precision.

    Example:
      >>> from metarl_jax.config import config_from_dict
      >>> config = config_from_dict({"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "maml"}})
      >>> sorted(traced_values(config)["optimizer"]), float(traced_values(config)["algorithm"]["discount"])
      (['final_fraction', 'learning_rate'], 0.9900000095367432)
    """
    sections = {name: section for name in _SECTIONS if (section := getattr(config, name)) is not None}
    given = {
        name: {key: value for key in sorted(traceable(section)) if (value := getattr(section, key)) is not None}
        for name, section in sections.items()
    }
    values: Values = jax.tree.map(lambda number: np.asarray(number, jnp.result_type(float)), given)
    return values


def traceable(section: Section) -> frozenset[str]:
    """The keys of a section whose numbers may be traced.

    Args:
      section: of a config.

    Example:
      >>> from metarl_jax.config import OptimizerConfig
      >>> sorted(traceable(OptimizerConfig()))
      ['final_fraction', 'learning_rate', 'max_grad_norm']
    """
    if isinstance(section, NamedSection):
        return traceable_keys(type(section).factory)
    fields = type(section).model_fields.items()
    return frozenset(key for key, field in fields if is_traceable(field.rebuild_annotation()))


def static_part(config: Config) -> dict[str, Any]:
    """What decides the device program: the config without its seed, its traced numbers, and what the host alone reads.

    Args:
      config: the experiment.

    Returns:
      Plain values; of a traced number, that there is one. Runs with equal ones are lanes of one program.

    Example:
      >>> from metarl_jax.config import config_from_dict
      >>> tree = {"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "maml"}}
      >>> slow = tree | {"seed": 1, "optimizer": {"learning_rate": 1e-4}}
      >>> static_part(config_from_dict(tree)) == static_part(config_from_dict(slow))
      True
    """
    evaluation = {"patience", "min_improvement"} if config.evaluation.every is not None else True
    tree = config.model_dump(mode="json", exclude={"seed": True, "evaluation": evaluation, **_excluded()})
    for name, numbers in traced_values(config).items():
        tree[name] |= {key: str(jax.tree.structure(number)) for key, number in numbers.items()}
    return tree


def _excluded() -> dict[str, Any]:
    return {section: True if keys is None else keys for section, keys in _NOT_OF_THE_PROGRAM.items()}
