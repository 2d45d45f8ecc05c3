"""Experiment files: YAML in, one typed and frozen ``Config`` out, or one message that names everything that is wrong.

Nothing is compiled or run here, so a mistake costs no time.
"""

from metarl_jax.config.errors import ConfigError
from metarl_jax.config.loading import DEFAULT_CATALOGUE, check_devices, config_from_dict, config_schema, load_config
from metarl_jax.config.schema import Catalogue, NamedSection
from metarl_jax.config.sections import (
    Config,
    EvaluationConfig,
    LoggingConfig,
    OptimizerConfig,
    TrainingConfig,
    dump,
    hyperparameters,
    make_optimizer,
)
from metarl_jax.config.traced import Values, static_part, traced_values

__all__ = [
    "DEFAULT_CATALOGUE",
    "Catalogue",
    "Config",
    "ConfigError",
    "EvaluationConfig",
    "LoggingConfig",
    "NamedSection",
    "OptimizerConfig",
    "TrainingConfig",
    "Values",
    "check_devices",
    "config_from_dict",
    "config_schema",
    "dump",
    "hyperparameters",
    "load_config",
    "make_optimizer",
    "static_part",
    "traced_values",
]
