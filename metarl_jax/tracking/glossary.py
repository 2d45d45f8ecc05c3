"""What the rows of ``metrics.jsonl`` hold: every metric of ours, declared once; health, plots and docs read it here."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """One entry of a row.

    Attributes:
      name: its key.
      unit: ``1`` for ratios and losses, which have none.
      meaning: one line.
      shape: ``[]`` for a number; of a list, its length and what its elements are.
      title: what an axis or a legend says; if empty, the name in words.
    """

    name: str
    unit: str
    meaning: str
    shape: str = "[]"
    title: str = ""


_STAGES = "[K + 1], after 0..K gradient steps; of RL^2 [n], in the episodes of a trial"
_INNER_STAGES = "[K], of the stages before the last"
_TESTED = "[K + 1], after 0..K units of adaptation, K of the evaluation section"

METRICS = (
    Metric("iteration", "updates", "outer updates so far, this one included"),
    Metric("env_steps", "steps", "taken since training began, by all tasks on all devices", title="environment steps"),
    Metric("computed_env_steps", "steps", "as env_steps, with those computed after an episode has ended"),
    Metric("return_pre", "reward", "first element of return_per_stage", title="before adaptation"),
    Metric("return_post", "reward", "last element of return_per_stage", title="after adaptation"),
    Metric(
        "return_per_stage",
        "reward",
        "mean undiscounted return on training tasks; null where every episode was dropped",
        _STAGES,
        title="return on training tasks",
    ),
    Metric("env_steps_per_second", "steps/s", "steps taken, over iteration_seconds"),
    Metric("computed_env_steps_per_second", "steps/s", "steps computed, over iteration_seconds"),
    Metric("iteration_seconds", "s", "time of the updates of one visit to the device, shared out; compilation counts"),
    Metric(
        "evaluation_return_per_stage",
        "reward",
        "mean return on the tasks of meta-testing, where evaluation.every is due",
        _TESTED,
        title="return in evaluation",
    ),
    Metric(
        "evaluation_return_post",
        "reward",
        "last element of evaluation_return_per_stage",
        title="evaluation, after adaptation",
    ),
    Metric("evaluation_success_rate", "1", "share of these episodes that succeeded, if the family says so", _TESTED),
    Metric(
        "validation_return_per_stage",
        "reward",
        "as evaluation_return_per_stage, on the validation tasks",
        _TESTED,
        title="return in validation",
    ),
    Metric(
        "validation_return_post",
        "reward",
        "last element of validation_return_per_stage",
        title="validation, after adaptation",
    ),
    Metric("validation_success_rate", "1", "as evaluation_success_rate, on the validation tasks", _TESTED),
    Metric("evaluation_seconds", "s", "time of the evaluation, without compilation"),
    Metric("policy_entropy", "nats", "mean entropy of an action, in the last stage or the whole trial"),
    Metric("episodes_dropped", "episodes", "left out of this update, since the environment failed in them"),
    Metric("skipped", "1", "1 if the update was not finite and so not taken, else 0"),
    Metric("critic_explained_variance", "1", "1 - var(target - value) / var(target) before adaptation; 1 is perfect"),
    Metric("value_loss", "reward^2", "mean error of the critic on trials, squared unless a key says otherwise"),
    Metric(
        "cross_entropy",
        "nats",
        "of the action that a supervised method predicts, before the update: of DPT by the length of the context",
        "[n], in the episodes of a trial or as many parts of the lengths",
    ),
    Metric("elbo", "nats", "bound of a trial that VariBAD's inference maximises: less errors and weighted belief_kl"),
    Metric("reward_loss", "1", "error of telling all rewards of a trial, weighted, mean over its beliefs"),
    Metric("transition_loss", "1", "error of telling all next states of a trial, weighted, mean over its beliefs"),
    Metric("task_loss", "1", "error of telling the task at all steps of a trial, weighted, mean over its beliefs"),
    Metric("belief_kl", "nats", "KL divergence of a belief from the one before it, mean over steps"),
    Metric("belief_std", "1", "mean standard deviation of a belief, 1 before anything is known"),
    Metric("novelty", "1", "mean error of the prediction that HyperX rewards, before any weight"),
    Metric("surprise", "1", "mean error of telling a step from the belief before it, before any weight"),
    Metric("loss", "1", "outer loss before the first outer step"),
    Metric("loss_after", "1", "outer loss after the trust region's step"),
    Metric("grad_norm", "1", "length of the outer gradient; of Reptile, of the tasks' mean displacement"),
    Metric("grad_snr", "1", "squared mean meta-gradient, less what noise adds, over its variance between tasks"),
    Metric("outer_ratio_error", "1", "largest distance of a ratio from 1 before any outer step; 0 up to rounding"),
    Metric("outer_kl", "nats", "KL divergence of the adapted policy after the update from before, per action"),
    Metric("outer_step_scale", "1", "of the update's last step; below 1 where max_outer_kl halved it"),
    Metric("kl", "nats", "KL divergence that the trust region bounds, after its step: per action, summed over stages"),
    Metric("cg_residual", "1", "what conjugate gradients left unsolved, relative to the gradient"),
    Metric("step_fraction", "1", "of the longest step, what the line search took; 0 if it rejected every length"),
    Metric("inner_kl", "nats", "KL divergence of the policies from those that collected, per action", _INNER_STAGES),
    Metric("kl_coefficient", "1", "weight of inner_kl in this update, where kl_target adapts it", _INNER_STAGES),
    Metric("exploration_loss", "1", "E-MAML's credit to the inner actions for the return after adaptation"),
    Metric("inner_distance", "1", "mean distance that a task's inner steps move the parameters"),
)
"""A method of a user's own may report more."""

GLOSSARY: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


def read(row: Mapping[str, Any], name: str) -> Any:
    """One of our metrics in a row, None if the row lacks it or it was not finite.

    Raises:
      KeyError: if the glossary has no such name, whatever the row has.

    Example:
      >>> read({"iteration": 3, "loss": None}, "loss") is None
      True
    """
    return row.get(GLOSSARY[name].name)


def label(name: str) -> str:
    """What an axis or a legend says of a metric, of ours or not.

    Example:
      >>> label("env_steps"), label("policy_entropy")
      ('environment steps', 'policy entropy')
    """
    return (name in GLOSSARY and GLOSSARY[name].title) or name.replace("_", " ")
