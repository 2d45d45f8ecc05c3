"""Tables on the terminal: adaptation curves, estimators, plans."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from metarl_jax.runs.memory import in_words

_MOST_IN_FULL = 12
_INTERVAL = ("mean_return", "ci_low", "ci_high")


def milestones(last: int) -> list[int]:
    """The amounts of adaptation that a table shows: all of a few, or 0, 1, 2, 5, 10, 20, 50, ... and the last of many.

    Args:
      last: gradient steps, or episodes seen.

    Returns:
      Increasing numbers from 0 to ``last``.

    Example:
      >>> milestones(3), milestones(60)
      ([0, 1, 2, 3], [0, 1, 2, 5, 10, 20, 50, 60])
    """
    if last <= _MOST_IN_FULL:
        return list(range(last + 1))
    series = (digit * 10**power for power in range(len(str(last))) for digit in (1, 2, 5))
    return [0, *(k for k in series if k < last), last]


def tasks_in_words(settings: dict[str, Any]) -> str:
    """How many tasks an evaluation adapted to, and where they are from.

    Example:
      >>> tasks_in_words({"num_tasks": 40}), tasks_in_words({"num_tasks": 40, "num_different_tasks": 2})
      ('40 held-out tasks', '40 draws of the 2 training tasks')
    """
    num_tasks, few = settings["num_tasks"], settings.get("num_different_tasks")
    if settings.get("distribution") == "beyond":
        return f"{num_tasks} tasks beyond the training distribution"
    return f"{num_tasks} held-out tasks" if few is None else f"{num_tasks} draws of the {few} training tasks"


def adaptation_table(evaluation: dict[str, Any]) -> Table:
    """The adaptation curve as a table: a row per number of gradient steps, or for some if there are many.

    Below them are the optimum of an episode, where it is known, and the total of a trial, for a method that has trials.

    Args:
      evaluation: from :func:`metarl_jax.runs.evaluation.evaluate`.
    """
    settings = evaluation["settings"]
    both = (evaluation, evaluation["random_initialisation"])
    dropped = sum(summary.get("episodes_dropped", 0) for summary in both)
    left_out = f"; {dropped} episodes in which the environment failed are left out" if dropped else ""
    table = Table(
        title=f"Return on {tasks_in_words(settings)}, {settings['episodes_per_task']} episodes each",
        caption=f"mean [95 % bootstrap interval over tasks]{left_out}",
    )
    table.add_column(settings["adaptation"], justify="right")
    table.add_column("meta-trained", justify="right")
    table.add_column("random initialisation", justify="right")
    has_successes = "success_rate" in evaluation
    if has_successes:
        table.add_column("success:\nmeta-trained", justify="right")
        table.add_column("success:\nrandom initialisation", justify="right")
    for k in milestones(evaluation["gradient_steps"][-1]):
        rates = [f"{summary['success_rate'][k]:.0%}" for summary in both] if has_successes else []
        means = (_with_interval(*(summary[name][k] for name in _INTERVAL)) for summary in both)
        table.add_row(str(k), *means, *rates)
    if "optimum" in evaluation:
        table.add_section()
        table.add_row("optimum", f"{evaluation['optimum']:.2f}")
    if "total" in evaluation:
        table.add_section()
        table.add_row("total", *(_with_interval(*(summary["total"][name] for name in _INTERVAL)) for summary in both))
    return table


def _with_interval(mean: float, low: float, high: float) -> str:
    return f"{mean:.2f} \\[{low:.2f}, {high:.2f}]"  # escaped: rich would take the bracket for markup


def gradients_table(result: dict[str, Any]) -> Table:
    """Bias and spread of each estimator as a table.

    Args:
      result: from :func:`metarl_jax.diagnostics.gradient_check.check_gradients`.
    """
    process, sizes = result["process"], result["sample_sizes"]
    table = Table(
        title=f"Estimators on an enumerable process: {process['states']} states, {process['actions']} actions, "
        f"{process['horizon']} steps",
        caption="relative to the exact Hessian and meta-gradient; spread: standard deviation; "
        f"meta-gradients from {result['repeats']} repeats, alpha {result['inner_lr']:g}",
    )
    table.add_column("estimator")
    table.add_column("Hessian: bias", justify="right")
    for size in sizes:
        table.add_column(f"spread\nn = {size}", justify="right")
    for size in sizes:
        table.add_column(f"meta-gradient:\nbias ± spread\nn = {size}", justify="right")
    for name, row in result["estimators"].items():
        pairs = zip(row["meta_gradient_bias"], row["meta_gradient_spread"], strict=True)
        table.add_row(
            name,
            f"{row['hessian_bias']:.1e}" if 0 < row["hessian_bias"] < 1e-3 else f"{row['hessian_bias']:.3f}",
            *(f"{spread:.2f}" for spread in row["hessian_spread"]),
            *(f"{bias:.3f} ± {spread:.2f}" for bias, spread in pairs),
        )
    return table


def plan_table(result: dict[str, Any], name: str) -> Table:
    """A plan as a table: what an update needs and costs on each device.

    Args:
      result: from :func:`metarl_jax.plan.estimate.plan`.
      name: of the config.

    Returns:
      A rich table.
    """
    devices = f"{result['devices']} device{'s' if result['devices'] > 1 else ''}"
    title = f"{name} on {result['target']}: {result['meta_batch_size']} tasks on {devices}"
    if not result["compiles"]:
        table = Table("does not compile", title=title)
        table.add_row(result["why"])
        return table
    memory, estimate = result["memory"], "estimate: the longest of products, other operations and kernels"
    verdict = "it fits" if memory["fits"] else f"it does not fit: {memory['remedy']}"
    table = Table(title=title, caption=f"{verdict}\n{estimate}; --json names its assumptions", width=78)
    table.add_column("on each device")
    table.add_column("", justify="right")
    for rows in (_memory_rows(result), _work_rows(result), _time_rows(result)):
        for row in rows:
            table.add_row(*row)
        table.add_section()
    return table


def _memory_rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in result["settings"].items():
        yield f"algorithm.{key}, as chosen", str(value)
    for part, words in _MEMORY.items():
        if result["memory"].get(part) is not None:
            yield words, in_words(result["memory"][part])
    yield "largest meta-batch that fits, about", f"{result['largest_meta_batch']:,}"
    if result["compiled_meta_batch"] is not None:
        yield "meta-batch that was compiled, too, and fits", f"{result['compiled_meta_batch']:,}"


def _work_rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    kernels, operations = result["kernels"], result["operations"]
    if kernels["per_environment_step"] is not None:
        yield "kernels per environment step, of all episodes", f"{kernels['per_environment_step']:,.0f}"
    yield "kernels per update", f"{kernels['per_update']:,.0f}"
    yield "GFLOP per update: products", f"{operations['products'] / 1e9:,.1f}"
    yield "GFLOP per update: other operations", f"{operations['others'] / 1e9:,.1f}"
    yield "GB moved per update", f"{result['bytes'] / 1e9:,.1f}"


def _time_rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for part, words in _SECONDS.items():
        yield words, f"{1e3 * result['seconds'][part]:,.2f}"
    yield "s that compilation took here", f"{result['compile_seconds']:.0f}"


_MEMORY = {
    "arguments": "memory: training state",
    "results": "memory: the next state, metrics",
    "temporary": "memory: temporary",
    "trajectories": "memory: trajectories, in the temporary",
    "code": "memory: program",
    "total": "memory of an update",
    "process": "memory of the process besides",
    "usable": "memory that can be used",
}
_SECONDS = {
    "products": "ms for products",
    "other_operations": "ms for other operations",
    "memory": "ms for what is moved",
    "launches": "ms for launches",
    "kernels": "ms for kernels, each what it moves or its launch",
    "per_update": "ms per update, estimated",
}


def print_table(table: Table) -> None:
    """Print a table, never narrower than its contents when the output is a file."""
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)
