"""From a config to the objects that it names."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import jax

from metarl_jax.checks import Refusal, arguments
from metarl_jax.config import Config, ConfigError, NamedSection, Values, hyperparameters, make_optimizer
from metarl_jax.config.schema import ANY_POLICY, FROM_TRAINING, accepts
from metarl_jax.inner.rules import RULE
from metarl_jax.networks.masked import masked_policy
from metarl_jax.networks.normalised import normalised_policy
from metarl_jax.tasks.wrappers.disjoint import with_disjoint_tasks
from metarl_jax.tasks.wrappers.oracle import with_critic_oracle, with_oracle
from metarl_jax.types import Adaptation, Key, MetaAlgorithm, Policy, Task, TaskFamily

Made = TypeVar("Made")


class Experiment(NamedTuple):
    """A config and what it describes.

    Attributes:
      config: the validated config.
      family: the tasks.
      policy: the policy.
      algorithm: the meta-learning algorithm.
      remake: ``(values) -> MetaAlgorithm``: the algorithm with other numbers, which may be traced, in the place of
        the config's.
      hyper: hyperparameters that take the place of both.
    """

    config: Config
    family: TaskFamily
    policy: Policy
    algorithm: MetaAlgorithm
    remake: Callable[[Values], MetaAlgorithm]
    hyper: Mapping[str, Any] = {}


def build(config: Config, **hyper: Any) -> Experiment:
    """Make the family, the policy and the algorithm that a config names.

    Args:
      config: a validated config.
      **hyper: hyperparameters of the algorithm that take the place of the config's, such as ``num_inner_steps``.

    Returns:
      The experiment.

    Raises:
      ValueError: if a combination of values cannot work, naming the value and the remedy.

    Example:
      >>> from metarl_jax.config import config_from_dict
      >>> config = config_from_dict({"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "maml"}})
      >>> build(config, num_inner_steps=2).family.horizon
      100
    """
    experiment = _experiment(config, _family(config), hyper)
    scale = 1.0 if config.optimizer is None else config.optimizer.inner_rule_scale
    if scale != 1.0 and RULE not in jax.eval_shape(experiment.algorithm.init, jax.random.key(0)).params:
        remedy = "this algorithm learns no inner rule: leave it out, or use meta_sgd or a learned algorithm.inner_rule"
        raise ConfigError(f"optimizer.inner_rule_scale = {scale:g}: {remedy}")
    return experiment


def with_config(experiment: Experiment, config: Config) -> Experiment:
    """The experiment of a config that differs in its seed and its traced numbers alone.

    Args:
      experiment: whose tasks are kept: an environment can take seconds to make.
      config: with an equal :func:`metarl_jax.config.static_part`.

    Returns:
      The experiment.

    Raises:
      ValueError: if a combination of numbers cannot work.
    """
    return _experiment(config, experiment.family, experiment.hyper)


def _experiment(config: Config, family: TaskFamily, hyper: Mapping[str, Any]) -> Experiment:
    method = partial(_method, config, family, hyper)
    policy, algorithm = method({})
    return Experiment(config, family, policy, algorithm, lambda values: method(values)[1], hyper)


def _family(config: Config) -> TaskFamily:
    family = _make_named(TaskFamily, "tasks", config.tasks, **hyperparameters(config.tasks))
    asked = config.tasks.model_dump()
    if asked["disjoint"]:
        validation = config.evaluation.validation_tasks is not None
        family = _make("tasks", lambda disjoint: with_disjoint_tasks(family, validation=validation), disjoint=True)
    if asked["oracle"] and asked["critic_oracle"]:
        raise ConfigError("tasks.critic_oracle = True: tasks.oracle shows the task to the value too: leave one out")
    if asked["oracle"]:
        family = with_oracle(family)
    if asked["critic_oracle"]:
        family = with_critic_oracle(family)
    meta_test_sampler(config, family, config.evaluation.distribution)
    return family


def _method(
    config: Config, family: TaskFamily, hyper: Mapping[str, Any], values: Values
) -> tuple[Policy, MetaAlgorithm]:
    """What is trained and how; ``values`` take the place of the config's, ``hyper`` that of both."""
    settings = {**hyperparameters(config.policy), **values.get("policy", {})}
    if family.privileged_size:
        if "privileged_size" not in arguments(config.policy.factory):
            remedy = "it cannot tell what these tasks show to a critic alone: use mlp, recurrent or belief"
            remedy += ", or leave out tasks.critic_oracle" if family.task_size else ""
            raise ConfigError(f"policy.name = {config.policy.name!r}: {remedy}")
        settings["privileged_size"] = family.privileged_size
    policy = _make_named(Policy, "policy", config.policy, family.observation_shape, family.action, **settings)
    switches = config.policy.model_dump(include=set(ANY_POLICY))
    policy = _make("policy", partial(_normalised, policy, family), **switches)
    if family.valid_actions is not None:  # last: it is shown what the family shows
        policy = masked_policy(policy, family.action, family.valid_actions)
    traced = values.get("optimizer", {})
    optimizer = [] if config.optimizer is None else [make_optimizer(config.optimizer, **traced)]
    settings = {
        **hyperparameters(config.algorithm),
        **values.get("algorithm", {}),
        **{key: getattr(config.training, key) for key in FROM_TRAINING if accepts(config.algorithm.factory, key)},
        **hyper,
    }
    algorithm = _make_named(MetaAlgorithm, "algorithm", config.algorithm, family, policy, *optimizer, **settings)
    if family.task_size and algorithm.adaptation is not None and not algorithm.adaptation.is_trial:
        remedy = "it adapts by a value that would know the task, in meta-testing too: leave it out"
        raise ConfigError(f"tasks.critic_oracle = True with algorithm.name = {config.algorithm.name!r}: {remedy}")
    return policy, algorithm


def _normalised(policy: Policy, family: TaskFamily, *, normalize_observations: bool) -> Policy:
    return normalised_policy(policy, family.observation_shape) if normalize_observations else policy


def meta_test_sampler(
    config: Config, family: TaskFamily, distribution: Literal["held_out", "beyond"]
) -> Callable[[Key], Task]:
    """What draws the tasks of meta-testing.

    Args:
      config: names the family.
      family: the tasks.
      distribution: which of them.

    Returns:
      ``(key) -> task``.

    Raises:
      ConfigError: if the family has no tasks of that distribution.
    """
    sample = family.sample_beyond if distribution == "beyond" else family.sample_held_out
    if sample is None:
        raise ConfigError(f"evaluation.distribution = 'beyond': {config.tasks.name} has no such tasks; use 'held_out'")
    return sample


def declared_adaptation(config: Config, algorithm: MetaAlgorithm) -> Adaptation:
    """How an algorithm adapts.

    Args:
      config: names the algorithm.
      algorithm: the algorithm.

    Returns:
      What it declares.

    Raises:
      ConfigError: if it declares nothing, with the remedy.
    """
    if algorithm.adaptation is None:
        raise ConfigError(
            f"algorithm.name = {config.algorithm.name!r}: it declares no adaptation, so that nobody can tell how it "
            "adapts: decorate its factory with metarl_jax.algorithms.adaptation.adapts, or give MetaAlgorithm its "
            "adaptation="
        )
    return algorithm.adaptation


def with_test_budget(config: Config, algorithm: MetaAlgorithm, settings: Mapping[str, Any]) -> MetaAlgorithm:
    """The method with the budget of a test.

    Args:
      config: names the algorithm.
      algorithm: as it is trained.
      settings: of the ``evaluation`` section.

    Raises:
      ConfigError: if it declares no adaptation.
    """
    budget = (settings["num_inner_steps"], settings["episodes_per_task"], settings["step_size_rule"])
    return declared_adaptation(config, algorithm).with_budget(*budget)


def _make_named(kind: type[Made], section: str, named: NamedSection, *arguments: Any, **settings: Any) -> Made:
    """Call the factory that a section names; one of the user's own may return anything."""
    made = _make(section, named.factory, *arguments, **settings)
    if not isinstance(made, kind):
        wanted = f"{kind.__module__}.{kind.__name__}"
        raise ConfigError(f"{section}.name: {named.name} must return a {wanted} (got {type(made).__name__})")
    return made


def _make(section: str, factory: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """Call a factory; a refusal of one of its settings names the section too."""
    try:
        return factory(*arguments, **settings)
    except Refusal as refusal:
        if refusal.name not in settings:
            raise
        raise ConfigError(f"{section}.{refusal}") from refusal
