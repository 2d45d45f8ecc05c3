"""Methods beside each other at equal environment steps: what ``metarl compare`` is given, and the page."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rich.markup import render
from rich.table import Table

from metarl_jax.report.comparison import tables
from metarl_jax.studies import commands
from metarl_jax.studies.results import RUNS, markdown, read, table, write

_AFTER = ("after one unit", "after all")
_FRESH = 10_000  # evaluation.seed of the configs is 0: those tasks helped to choose the settings


class Comparison(NamedTuple):
    """What is compared.

    Attributes:
      words: configs and ``KEY=VALUE``, as ``metarl compare`` takes them.
      seeds: of each config.
      env_steps: of each run.
      tasks: held-out, to adapt to.
    """

    words: tuple[str, ...]
    seeds: int
    env_steps: float
    tasks: int


_GRADIENT_BASED = ("maml", "ppo_maml", "trpo_maml", "fomaml", "emaml", "promp", "meta_sgd", "anil", "cavia", "reptile")
_NAVIGATION = tuple(f"{method}_navigation" for method in (*_GRADIENT_BASED, "rl2", "pretraining"))
_PROMP_CHEETAH = (  # its authors' losses; network, epochs and steps of an update are MAML's on direction
    "policy.hidden_sizes=[100,100] policy.min_std=0.6 training.meta_batch_size=20 algorithm.num_epochs=10 "
    "optimizer.learning_rate=2e-3 evaluation.step_size_rule=finn"
)


def _half_cheetah(task: str, changes: str = "") -> Comparison:
    """Each method as its config has it, one for both tasks where there is no other; those whose step size of Adam falls
    over all updates get it to fall over the 25 (of the oracle, 50) that this budget is worth.
    """
    words = (
        f"tasks.backend=mujoco tasks.horizon=200 tasks.action_scale=10 {changes} "
        f"maml_half_cheetah_{task} optimizer.decay_steps=250 "
        f"maml_half_cheetah_{task} optimizer.decay_steps=250 algorithm.first_order=true "
        f"promp_half_cheetah_{task} {_PROMP_CHEETAH} "
        "reptile_half_cheetah_direction rl2_half_cheetah_direction "
        "pretraining_half_cheetah_direction optimizer.decay_steps=250 "
        f"oracle_half_cheetah_{task} optimizer.decay_steps=500"
    )
    return Comparison(tuple(words.split()), seeds=3, env_steps=4e6, tasks=40)


COMPARISONS = {
    "navigation": Comparison(
        (*_NAVIGATION, "pretraining_navigation", "tasks.oracle=true", "evaluation.num_inner_steps=0"), 5, 4e6, 100
    ),
    "half_cheetah_direction": _half_cheetah("direction"),
    "half_cheetah_velocity": _half_cheetah("velocity", "tasks.name=half_cheetah_velocity tasks.max_velocity=2.0"),
}


def study(name: str, file: Path, devices: int | None = None, runs: Path = RUNS) -> dict[str, Any]:
    """Train what is missing of a comparison, compare, and write numbers, page, picture and report.

    Args:
      name: of :data:`COMPARISONS`.
      file: of the numbers, a ``.json``, beside which the rest lies.
      devices: that the meta-batch is shared by; None for all that suit.
      runs: folder of the run directories.

    Returns:
      The ``command``, and what :func:`metarl_jax.studies.compare.comparison.compare` returns.
    """
    folder, words = runs / file.stem, command(COMPARISONS[name])
    shared = () if devices is None else ("--devices", devices)
    commands.metarl("compare", *words, *shared, "--dir", folder, "--output", folder)
    result = {"command": " ".join(["metarl", "compare", *words]), **read(folder / "comparison.json")}
    write(file, result, page)
    shutil.copyfile(folder / "comparison.png", file.with_suffix(".png"))
    of_runs = [run["directory"] for method in result["methods"].values() for run in method["runs"].values()]
    commands.metarl("report", *of_runs, "--output", file.with_suffix(".html"), "--title", title(name))
    return result


def command(what: Comparison) -> list[str]:
    """The words after ``metarl compare``."""
    numbers = {"--seeds": what.seeds, "--env-steps": f"{what.env_steps:g}", "--tasks": what.tasks}
    options = {**numbers, "--seed": _FRESH}
    return [*what.words, *(str(word) for option in options.items() for word in option)]


def title(name: str) -> str:
    """A heading.

    Example:
      >>> title("half_cheetah_velocity")
      'Methods on half cheetah velocity'
    """
    return f"Methods on {name.replace('_', ' ')}"


def page(name: str, result: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page`: the tables that the command prints."""
    return markdown(
        f"# {title(name.removeprefix('comparison_'))}",
        f"```\n{result['command']}\n```",
        f"![return, profiles and cost]({name}.png)",
        *(_section(one) for one in tables(result)),
    )


def overview(result: dict[str, Any], names: Iterable[str] | None = None) -> str:
    """The effect of methods and what it costs, a row for each; of the first, also what it earns from scratch.

    Args:
      result: of :func:`study`.
      names: of the methods; None for all.

    Returns:
      A table in Markdown.
    """
    methods = result["methods"] if names is None else {name: result["methods"][name] for name in names}
    beyond = ["beyond training"] if "beyond" in result["references"] else []
    costs = [method["cost"] for method in methods.values() if method["cost"] is not None]
    whose = "CPU s" if all(cost["device"] == "cpu" for cost in costs) else "device s"
    head = ["method", "before", *_AFTER, *beyond, "episodes", f"{whose} / 1M steps"]
    rows = [
        [f"`{name}`", *_cells(method["effect"], "iqm"), _needs(method), _price(method)]
        for name, method in methods.items()
    ]
    first = next(name for name, method in methods.items() if not method["reach"]["sees_task"])
    scratch = _cells(methods[first]["effect"], "from_scratch")
    return table(head, [*rows, [f"random initialisation (`{first}`)", *scratch, None, None]])


def _cells(effect: dict[str, Any], of: str) -> list[str | None]:
    """Before, after one unit, after all on held-out tasks; after all on those beyond."""
    values = effect["held_out"][of]
    cells = [values[0], values[1], values[-1]] if len(values) > 1 else [values[0], None, None]
    if "beyond" in effect:
        cells.append(effect["beyond"][of][-1])
    return [None if value is None else f"{value:.1f}" for value in cells]


def _needs(method: dict[str, Any]) -> str | None:
    return None if method["reach"]["sees_task"] else str(method["effect"]["held_out"]["episodes"][-1])


def _price(method: dict[str, Any]) -> str | None:
    return None if method["cost"] is None else f"{method['cost']['seconds']:.1f}"


def _section(of: Table) -> str:
    head = [_plain(column.header) or None for column in of.columns]
    rows = zip(*(map(_plain, column.cells) for column in of.columns), strict=True)
    caption = ["; ".join(_plain(of.caption).splitlines())] if of.caption else []
    return "\n\n".join([f"## {_plain(of.title)}", table(head, rows), *caption])


def _plain(text: Any) -> str:
    return render(str(text)).plain
