"""The inner loop: adapting to one task, and differentiating through it."""

from metarl_jax.inner.loop import InnerLoop, StepSizes, make_inner_loop
from metarl_jax.inner.rules import InnerRule
from metarl_jax.inner.scoring import Baseline, make_batch
from metarl_jax.inner.steps import Evaluation, Evaluations, Stages

__all__ = [
    "Baseline",
    "Evaluation",
    "Evaluations",
    "InnerLoop",
    "InnerRule",
    "Stages",
    "StepSizes",
    "make_batch",
    "make_inner_loop",
]
