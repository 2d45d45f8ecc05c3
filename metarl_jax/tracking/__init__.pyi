import collections.abc

import metarl_jax.tracking.base

from .clients.mlflow import mlflow as mlflow
from .clients.trackio import trackio as trackio
from .clients.wandb import wandb as wandb

TRACKERS: collections.abc.Mapping[str, collections.abc.Callable[..., metarl_jax.tracking.base.Tracker]]
