"""How long memories remember: success in a corridor of growing length, whose first sight says which way pays."""

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from metarl_jax.report.curves import RANDOM, tidy
from metarl_jax.studies import commands
from metarl_jax.studies.results import RESULTS, RUNS, markdown, one_by_one, table

CONFIG = "configs/rl2_t_maze.yaml"
LENGTHS = (10, 30, 100, 300, 500, 1000)
_UPDATES = 100
"""At each length but the first, where training goes on from the length before."""
_FEWER = {"transformer of one layer 500": 60, "transformer of one layer 1000": 10}
"""Cases that are stopped after fewer of these, since an update takes minutes; the first ten only warm up."""
_LONGER = ["optimizer.warmup_steps=160", "optimizer.decay_steps=1440", "algorithm.entropy_decay_updates=50"]
"""What else is changed at all lengths but the first."""
_LAYERED = ["policy.chrono_steps=null", "optimizer.learning_rate=1e-3"]
"""What is changed for all memories but the cells, which alone know ``chrono_steps``."""
_TRANSFORMER = ["policy.memory=transformer", "policy.window={steps}"]
MEMORIES: dict[str, list[str]] = {
    "gru": ["policy.chrono_steps=1000"],
    "lstm": ["policy.memory=lstm", "policy.chrono_steps=1000"],
    "gru without chrono_steps": ["policy.chrono_steps=null"],
    "s5": ["policy.memory=s5", *_LAYERED],
    "s5 with splagger": ["policy.memory=s5", "policy.aggregate=splagger", *_LAYERED],
    "min_gru": ["policy.memory=min_gru", *_LAYERED],
    "transformer": [*_TRANSFORMER, "policy.chrono_steps=null", "optimizer.learning_rate=3e-4"],
    "transformer of one layer": [*_TRANSFORMER, "policy.num_layers=1", *_LAYERED],
}
"""What is changed in the config for each memory; ``{steps}`` are those of an episode."""
CASES = [f"{memory} {length}" for memory in MEMORIES for length in LENGTHS]


def study(
    cases: Iterable[str] = tuple(CASES),
    *,
    overrides: Sequence[str] = (),
    tasks: int = 1000,
    file: Path = RESULTS / "memory_lengths.json",
    runs: Path = RUNS / "memory_lengths",
) -> dict[str, Any]:
    """Train each memory at growing lengths, each from the one before, and test it; write it all down after each.

    Args:
      cases: of :data:`CASES`; what was measured of others is kept.
      overrides: ``KEY=VALUE`` that change the config.
      tasks: fresh test trials.
      file: of the numbers, a ``.json``; page and picture lie beside it.
      runs: folder of the run directories.

    Returns:
      By case: the command, ``success``, environment steps and seconds of training.
    """
    measure_one = partial(measure, overrides=overrides, tasks=tasks, runs=runs)
    results = one_by_one(file, cases, CASES, measure_one, page)
    draw(results, file.with_suffix(".png"))
    return results


def measure(case: str, *, overrides: Sequence[str], tasks: int, runs: Path) -> dict[str, Any]:
    """Train one memory up to one length, or go on where that stopped.

    Args:
      case: of :data:`CASES`.
      overrides: ``KEY=VALUE``.
      tasks: fresh test trials.
      runs: folder of the run directories.

    Returns:
      The last command, the share of ``success`` in the test, and what training at this length took.
    """
    memory, length = _parts(case)
    start: list[str] = []
    for shorter in [at for at in LENGTHS if at <= length]:
        if start:
            start += [f"training.num_iterations={_FEWER.get(f'{memory} {shorter}', _UPDATES)}", *_LONGER]
        run_dir = runs / f"{memory.replace(' ', '_')}_{shorter}"
        own = [change.format(steps=shorter + 1) for change in MEMORIES[memory]]
        changes = [f"tasks.length={shorter}", *own, *start, *overrides]
        commands.train(run_dir, CONFIG, *changes)
        start = [f"training.initial_run={run_dir}"]
    return {
        "command": " ".join(["metarl train", CONFIG, *changes]),
        "success": commands.evaluate(run_dir, tasks=tasks)["success_rate"][-1],
        **commands.training_cost(run_dir),
    }


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each memory and a column for each length."""
    by_memory = _by_memory(results)
    lengths = sorted({length for cells in by_memory.values() for length in cells})
    rows = [[memory, *(_cell(cells.get(length)) for length in lengths)] for memory, cells in by_memory.items()]
    return markdown(
        f"# {name}",
        f"`python benchmarks/memory_lengths.py`: `{CONFIG}` with each memory, one seed; from length to length training "
        f"goes on with the parameters of the run before, for {_UPDATES} updates where no other number is named (the "
        f"commands are in {name}.json). Share of fresh test trials that end on the side that pays, and the seconds of "
        f"training at this length; guessing succeeds in half of them. {commands.TRAINING_TIME}. What is "
        "empty has not been run.",
        table(["memory", *map(str, lengths)], rows),
    )


def _by_memory(results: dict[str, Any]) -> dict[str, dict[int, dict[str, Any]]]:
    """Results by memory and length."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for case, result in results.items():
        memory, length = _parts(case)
        found.setdefault(memory, {})[length] = result
    return found


def _parts(case: str) -> tuple[str, int]:
    """Memory and length of a case."""
    memory, length = case.rsplit(maxsplit=1)
    return memory, int(length)


def _cell(result: dict[str, Any] | None) -> str | None:
    if result is None:
        return None
    told = re.findall(r"training\.num_iterations=(\d+)", result["command"])
    others = f", {told[-1]} updates" if told and int(told[-1]) != _UPDATES else ""
    return f"{result['success']:.2f} ({result['seconds']} s{others}{commands.training_place(result)})"


def draw(results: dict[str, Any], path: Path) -> None:
    """Success against length, a line for each memory.

    Args:
      results: by case.
      path: a ``.png``.
    """
    figure = Figure(figsize=(7.5, 3.75), layout="constrained")
    axes = figure.add_subplot()
    for number, (memory, cells) in enumerate(_by_memory(results).items()):
        # A little apart, so that none hides another.
        points = sorted((length * 1.03**number, result["success"]) for length, result in cells.items())
        axes.semilogx(*zip(*points, strict=True), marker="o", label=memory)
    axes.axhline(0.5, color=RANDOM, linewidth=1.0, linestyle="--", label="guessing")
    axes.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
    axes.minorticks_off()
    axes.set(xlabel="steps between the cue and the fork", ylabel="success", ylim=(0.0, 1.05))
    tidy(axes)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)
