"""Curves as pictures: learning, adaptation, the errors of estimators."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metarl_jax.report.tables import milestones
from metarl_jax.report.text import wrap
from metarl_jax.runs.health import bad_end, is_lost
from metarl_jax.tracking.glossary import label

TRAINED = "#0b6e99"
RANDOM = "#8c8c8c"
OPTIMUM = "#333333"
BAYES_OPTIMAL: dict[str, Any] = {"color": OPTIMUM, "linewidth": 1.0, "linestyle": ":"}
"""How the line of what is best without knowing the task is drawn; that of one who knows it is dashed."""
_EVALUATIONS = {"evaluation_return_post": "o", "validation_return_post": "s"}
"""Markers of what is measured while training."""
WRONG = "#c1272d"
_TITLE = 56
"""Characters in a line above a picture."""


def tidy(axes: Axes) -> None:
    """Leave away the upper and right border, and draw a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def plot_adaptation(evaluation: dict[str, Any], path: Path, title: str) -> None:
    """Save the adaptation curve as a picture: mean return and interval against gradient steps.

    Args:
      evaluation: from :func:`metarl_jax.runs.evaluation.evaluate`.
      path: a ``.png``.
      title: above the axes.
    """
    figure, axes = _axes(title, f"{evaluation['settings']['adaptation']} on a new task", "return")
    steps = evaluation["gradient_steps"]
    marked: dict[str, Any] = {"marker": "o", "markevery": milestones(steps[-1])}
    for name, summary, color in (
        ("meta-trained", evaluation, TRAINED),
        ("random initialisation", evaluation["random_initialisation"], RANDOM),
    ):
        axes.fill_between(steps, summary["ci_low"], summary["ci_high"], color=color, alpha=0.2, linewidth=0)
        axes.plot(steps, summary["mean_return"], color=color, label=name, **marked)
    if "optimum" in evaluation:
        axes.axhline(evaluation["optimum"], color=OPTIMUM, linewidth=1.0, linestyle="--", label="optimum")
    if "bayes_optimum" in evaluation:
        axes.plot(steps, evaluation["bayes_optimum"], label="Bayes-optimal", **BAYES_OPTIMAL)
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def plot_training(rows: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Save the learning curve as a picture: return before and after adaptation against environment steps.

    Where it was evaluated while it trained, also the return on held-out and on validation tasks, after adaptation.
    Updates that were lost are shaded, and of a run that went wrong the title says so.

    Args:
      rows: of ``metrics.jsonl``.
      path: a ``.png``.
      title: above the axes.
    """
    evaluations = {name: [row for row in rows if name in row] for name in _EVALUATIONS}
    of_what = "return" if any(evaluations.values()) else label("return_per_stage")
    figure, axes = _axes(title, label("env_steps"), of_what)
    steps = [row["env_steps"] for row in rows]
    for name, color in (("return_post", TRAINED), ("return_pre", RANDOM)):
        axes.plot(steps, _numbers(rows, name), color=color, label=label(name), linewidth=1.2)
    for name, evaluated in evaluations.items():
        if evaluated:
            style: dict[str, Any] = {"color": OPTIMUM, "marker": _EVALUATIONS[name], "markersize": 3, "linewidth": 0.8}
            axes.plot([row["env_steps"] for row in evaluated], _numbers(evaluated, name), label=label(name), **style)
    if any(lost := [is_lost(row) for row in rows]):
        height = axes.get_xaxis_transform()
        shade: dict[str, Any] = {"color": WRONG, "alpha": 0.15, "linewidth": 1.0, "transform": height}
        axes.fill_between(steps, 0, 1, where=lost, label="update not finite", **shade)
    if trouble := bad_end(rows):
        axes.set_title(f"{wrap(title, _TITLE)}\n{trouble.partition(': ')[0]}", color=WRONG)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def plot_gradients(result: dict[str, Any], path: Path) -> None:
    """Save the estimators' errors against the number of sampled episodes as a picture.

    Args:
      result: from :func:`metarl_jax.diagnostics.gradient_check.check_gradients`.
      path: a ``.png``.
    """
    figure = Figure(figsize=(9, 3.75), layout="constrained")
    axes = figure.subplots(1, 2)
    sizes = result["sample_sizes"]
    for name, row in result["estimators"].items():
        hessian = [(row["hessian_bias"] ** 2 + spread**2) ** 0.5 for spread in row["hessian_spread"]]
        pairs = zip(row["meta_gradient_bias"], row["meta_gradient_spread"], strict=True)
        meta = [(bias**2 + spread**2) ** 0.5 for bias, spread in pairs]
        for panel, error in zip(axes, (hessian, meta), strict=True):
            panel.loglog(sizes, error, marker="o", label=name)
    for panel, title in zip(axes, ("Hessian", "meta-gradient"), strict=True):
        panel.set(title=title, xlabel="sampled episodes", ylabel="relative error (bias and spread)")
        tidy(panel)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def _numbers(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [float("nan") if row[name] is None else row[name] for row in rows]


def _axes(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 3.75), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=wrap(title, _TITLE), xlabel=x_label, ylabel=y_label)
    tidy(axes)
    return figure, axes
