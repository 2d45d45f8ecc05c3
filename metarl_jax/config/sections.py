"""The sections of a config that are the same for every algorithm and task family."""

from typing import Annotated, Any, ClassVar, Literal

import optax
import yaml
from annotated_types import MinLen
from pydantic import Field, SerializeAsAny

from metarl_jax.checks import Traced
from metarl_jax.config.schema import ANY_FAMILY, ANY_POLICY, NamedSection, Section
from metarl_jax.inner.rules import RULE
from metarl_jax.types import (
    Array,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
    TestPolicy,
)


class _Dumper(yaml.SafeDumper):
    """Sections as blocks, lists in one line."""


_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


class OptimizerConfig(Section):
    """The outer optimiser."""

    name: Literal["adam", "adamw", "sgd", "rmsprop"] = Field("adam", description="The optax optimiser.")
    learning_rate: Traced[PositiveFloat] = Field(1e-3, description="Outer step size.")
    max_grad_norm: Traced[PositiveFloat] | None = Field(
        None, description="Scale meta-gradients down to this global norm; null for no limit."
    )
    warmup_steps: NonNegativeInt = Field(0, description="Steps over which the step size first rises from zero.")
    decay_steps: PositiveInt | None = Field(
        None,
        description="Steps, after the warm-up, over which the step size falls along a cosine to its final value; null "
        "for no decay. An update takes epochs times minibatches steps (fewer where max_outer_kl halves some).",
    )
    final_fraction: Traced[Fraction] = Field(0.0, description="The final step size, as a fraction of learning_rate.")
    inner_rule_scale: PositiveFloat = Field(
        1.0, description="Steps on a learned inner rule (Meta-SGD's step sizes) are this many times as long as others."
    )


class TrainingConfig(Section):
    """The outer loop."""

    num_iterations: PositiveInt = Field(100, description="Outer updates in all.")
    meta_batch_size: PositiveInt = Field(
        20, description="Tasks per outer update; a multiple of the number of devices that share them."
    )
    episodes_per_task: PositiveInt = Field(20, description="Episodes per task in each of the K + 1 stages.")
    checkpoint_every: PositiveInt = Field(10, description="Updates between checkpoints.")
    keep_checkpoints: PositiveInt = Field(3, description="Newest checkpoints that are kept; the best one is kept too.")
    log_every: PositiveInt = Field(1, description="Updates between lines of metrics.")
    updates_per_visit: PositiveInt = Field(1, description="Outer updates fused into one call of the devices.")
    initial_run: Annotated[str, MinLen(1)] | None = Field(
        None, description="A run directory whose parameters training starts from; null for random ones."
    )
    initial_checkpoint: Literal["latest", "best"] | NonNegativeInt = Field(
        "latest", description="Which checkpoint of initial_run: 'latest', 'best', or an iteration."
    )
    initial_params: Annotated[tuple[str, ...], MinLen(1)] | None = Field(
        None,
        description="Which parameters are taken from initial_run, by path or pattern, as in mean/Dense_*; the others "
        "start as they would without it. null for all.",
    )


class EvaluationConfig(Section):
    """Adaptation to held-out tasks, after training and, if asked for, while it goes on."""

    WHILE_TRAINING: ClassVar = frozenset({"every", "validation_tasks", "patience", "min_improvement"})
    """The keys that say nothing about how an evaluation is made."""

    num_tasks: PositiveInt = Field(40, description="Held-out tasks.")
    num_inner_steps: NonNegativeInt = Field(
        3, description="Gradient steps taken on each task, or episodes seen, as the method adapts."
    )
    episodes_per_task: PositiveInt = Field(20, description="Episodes per task before and after each step.")
    step_size_rule: Literal["constant", "finn"] = Field(
        "constant", description="'constant' keeps the inner step size, 'finn' halves it after the first step."
    )
    distribution: Literal["held_out", "beyond"] = Field(
        "held_out", description="'held_out' tasks, or tasks 'beyond' the training distribution, if the family has such."
    )
    seed: Seed = Field(0, description="Draws the held-out tasks and their episodes.")
    test_policy: TestPolicy = Field(
        "stochastic",
        description="How the episodes that are measured are acted in: 'stochastic', the very ones that adaptation "
        "explores in, or 'deterministic', others beside them, by the mode of the policy.",
    )
    every: PositiveInt | None = Field(
        None, description="Updates between evaluations while training; null for none before its end."
    )
    validation_tasks: PositiveInt | None = Field(
        None,
        description="Tasks, neither of training nor held out, that are evaluated beside these while training: by their "
        "return the best checkpoint is chosen. null: it is chosen by the return on training tasks.",
    )
    patience: PositiveInt | None = Field(
        None,
        description="Training ends after so many evaluations without a better validation return; null: never.",
    )
    min_improvement: NonNegativeFloat = Field(
        0.0, description="By how much a validation return must exceed the best one to be better, for 'patience'."
    )

    @property
    def measurement(self) -> dict[str, Any]:
        """How an evaluation is made: all keys but those of evaluation while training."""
        return self.model_dump(exclude=set(self.WHILE_TRAINING))


class LoggingConfig(Section):
    """What a run writes besides metrics.jsonl, and where; and how often it says how far it is."""

    tensorboard: bool = Field(True, description="Write TensorBoard events.")
    trackers: tuple[SerializeAsAny[NamedSection], ...] = Field(
        (),
        description="Clients that are told of the run, too: names that 'metarl list trackers' shows, or sections of a "
        "name and its keys.",
    )
    print_every: PositiveInt = Field(10, description="Updates between lines of progress where there is no terminal.")
    run_root: Annotated[str, MinLen(1)] = Field("runs", description="Folder in which new run directories are made.")


class Config(Section):
    """One experiment. ``tasks``, ``policy`` and ``algorithm`` have the keys of the factory that their ``name`` chooses.

    ``optimizer`` is None for an algorithm that takes none.
    """

    seed: Seed = Field(0, description="Decides every random number of training.")
    tasks: NamedSection = Field(description="The task family.")
    policy: NamedSection = Field(description="The policy network.")
    algorithm: NamedSection = Field(description="The meta-learning algorithm.")
    optimizer: OptimizerConfig | None = Field(None, description="The outer optimiser, for algorithms that take one.")
    training: TrainingConfig = Field(TrainingConfig(), description="The outer loop.")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="Adaptation to held-out tasks.")
    logging: LoggingConfig = Field(LoggingConfig(), description="What a run writes, and where.")


def hyperparameters(section: NamedSection) -> dict[str, Any]:
    """Keyword arguments for the factory that a section names.

    Args:
      section: ``config.tasks``, ``config.policy``, ``config.algorithm`` or one of ``config.logging.trackers``.

    Returns:
      The factory's own keys: all but ``name`` and what every family or policy has. An algorithm's
      ``episodes_per_task`` is in ``config.training``.

    Example:
      >>> hyperparameters(NamedSection(name="promp"))
      {}
    """
    others = {"name", *ANY_FAMILY, *ANY_POLICY}
    return {key: getattr(section, key) for key in type(section).model_fields if key not in others}


def make_optimizer(config: OptimizerConfig, **traced: Array) -> optax.GradientTransformation:
    """Build the outer optimiser.

    Args:
      config: the ``optimizer`` section.
      **traced: numbers that take the place of the section's, which may be traced.

    Returns:
      An optax transformation, after clipping by global norm if asked for; steps on a learned inner rule are scaled
      last.

    Example:
      >>> make_optimizer(OptimizerConfig(max_grad_norm=1.0)).init({"w": 0.0})[0]
      EmptyState()
    """
    factories = {"adam": optax.adam, "adamw": optax.adamw, "sgd": optax.sgd, "rmsprop": optax.rmsprop}
    stages = [factories[config.name](step_size(config, **traced))]
    if config.max_grad_norm is not None:
        stages.insert(0, optax.clip_by_global_norm(traced.get("max_grad_norm", config.max_grad_norm)))
    if config.inner_rule_scale != 1.0:
        stages.append(optax.masked(optax.scale(config.inner_rule_scale), lambda params: {k: k == RULE for k in params}))
    return optax.chain(*stages) if len(stages) > 1 else stages[0]


def step_size(config: OptimizerConfig, **traced: Array) -> float | Array | optax.Schedule:
    """The outer step size: constant, or as it rises and falls over the steps of the optimiser.

    Args:
      config: the ``optimizer`` section.
      **traced: numbers that take the place of the section's.

    Example:
      >>> schedule = step_size(OptimizerConfig(learning_rate=0.1, warmup_steps=2, decay_steps=8))
      >>> [round(float(schedule(step)), 3) for step in (0, 1, 2, 6, 10, 20)]
      [0.0, 0.05, 0.1, 0.05, 0.0, 0.0]
    """
    peak = traced.get("learning_rate", config.learning_rate)
    rise = optax.linear_schedule(0.0, 1.0, config.warmup_steps)
    if config.decay_steps is None:
        return (lambda step: peak * rise(step)) if config.warmup_steps else peak
    final = traced.get("final_fraction", config.final_fraction)
    fall = optax.cosine_decay_schedule(1.0, config.decay_steps)
    height = optax.join_schedules([rise, lambda step: final + (1 - final) * fall(step)], [config.warmup_steps])
    return lambda step: peak * height(step)


def dump(config: Config) -> str:
    """Write a config as YAML: complete, so that later changes of defaults do not touch the run.

    Returns:
      Text that ``load_config`` reads back as an equal config.

    Example:
      >>> from metarl_jax.config import config_from_dict
      >>> config = config_from_dict({"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "maml"}})
      >>> dump(config).splitlines()[:3]
      ['seed: 0', 'tasks:', '  name: navigation_finn']
    """
    tree = config.model_dump(mode="json")
    for section in ("tasks", "policy", "algorithm"):  # the name first: it decides what follows
        tree[section] = {"name": tree[section].pop("name"), **tree[section]}
    if tree["optimizer"] is None:
        del tree["optimizer"]
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
