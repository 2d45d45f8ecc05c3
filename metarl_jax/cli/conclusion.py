"""What is said when training ends: how it ended, what to do next, and what a good result is."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from metarl_jax.report.text import amount

if TYPE_CHECKING:
    from metarl_jax.runs.build import Experiment
    from metarl_jax.runs.launch import Trained
    from metarl_jax.runs.training import Lane

_MOST_COMMANDS = 5


def tell_end(done: "Trained", title: str) -> None:
    """Draw the learning curves and say how far training came.

    Args:
      done: what was trained.
      title: of the pictures.
    """
    from metarl_jax.runs.directory import LEARNING_CURVE

    lanes, results, again = done
    is_one = len(lanes) == 1
    pictures = [path for lane in lanes[: len(results)] if (path := _draw(lane, title, not is_one))]
    iterations = [int(result.state.step) for result in results]
    if results[0].seconds_to_first_update is not None:
        print(f"first update after {results[0].seconds_to_first_update:.1f} s, compilation included")
    finished = sum(result.finished for result in results)
    if finished == len(lanes) and all(result.seconds_to_first_update is None for result in results):
        _tell_nothing_left(done)
    elif finished == len(lanes):
        several = "" if is_one else f" of each of {len(lanes)} runs"
        where = str(pictures[0]) if is_one and pictures else f"{lanes[0].directory.parent}/*/{LEARNING_CURVE}"
        shown = f"\nlearning curve{'' if is_one else 's'}: {where}" if pictures else ""
        early = sum(result.reason == "patience" for result in results)
        which = "" if is_one else f" {early} of them"
        ended = f",{which} ended early by evaluation.patience" if early else ""
        print(f"finished {amount(max(iterations), 'iteration')}{several}{ended}{shown}")
    elif max(iterations) == 0:
        print(f"stopped before the first update; start it with:\n  {again}")
    else:
        reached = f"at iteration {iterations[-1]}" if is_one else f"with {finished} of {len(lanes)} runs finished"
        print(f"stopped and saved {reached}; continue with:\n  {again}")


def _tell_nothing_left(done: "Trained") -> None:
    """Of runs that had ended before: that they had, and what trains them further."""
    lanes, results, again = done
    is_one, reached = len(lanes) == 1, max(int(result.state.step) for result in results)
    early = sum(result.reason == "patience" for result in results)
    if early:
        why = f"by evaluation.patience {f'at iteration {reached}' if is_one else f'in {early} of {len(lanes)} runs'}"
        change = "evaluation.patience=null"
    else:
        why = f"with all {amount(reached, 'iteration')}{'' if is_one else f' of each of {len(lanes)} runs'}"
        change = f"training.num_iterations={2 * reached}"
    print(f"finished already, {why}; train further with:\n  {again} {change}")


def _draw(lane: "Lane", title: str, is_one_of_several: bool) -> Path | None:
    """The learning curve of a run, if it has one."""
    from metarl_jax.report.curves import plot_training
    from metarl_jax.runs.directory import LEARNING_CURVE
    from metarl_jax.tracking.jsonl import read_metrics

    rows, path = read_metrics(lane.directory), lane.directory / LEARNING_CURVE
    if not rows:
        return None
    plot_training(rows, path, f"{title}, seed {lane.config.seed}" if is_one_of_several else title)
    return path


def tell_what_next(done: "Trained", experiment: "Experiment", is_evaluated: bool) -> None:
    """Of runs that went well, what to do with them and what to expect; of others, what went wrong, last of all.

    Args:
      done: what was trained to its end.
      experiment: of one of the runs.
      is_evaluated: whether the runs have been evaluated.
    """
    from metarl_jax.report.expected import expected_table, find_expected
    from metarl_jax.report.tables import print_table

    if tell_trouble(done):
        return
    if commands := list(_commands(done, experiment, is_evaluated)):
        print("next:", *(f"  {shlex.join(command)}" for command in commands), sep="\n")
    if good := find_expected(done.lanes[0].config):
        print_table(expected_table(*good))


def _commands(done: "Trained", experiment: "Experiment", is_evaluated: bool) -> Iterator[list[str]]:
    from metarl_jax.report.pictures.render import can_be_drawn

    folders = [str(lane.directory) for lane in done.lanes]
    if not is_evaluated:
        yield from (["metarl", "evaluate", folder] for folder in folders[:_MOST_COMMANDS])
    if can_be_drawn(experiment):
        yield ["metarl", "render", folders[0]]
    if len(folders) == 1:
        yield ["metarl", "report", folders[0]]
        return
    together = list(dict.fromkeys(str(lane.directory.parent) for lane in done.lanes))
    yield from (["metarl", command, *together] for command in ("compare", "report"))


def tell_trouble(done: "Trained") -> bool:
    """Say of each run that went wrong how; whether there is one."""
    from metarl_jax.cli.app import say
    from metarl_jax.runs.health import bad_end
    from metarl_jax.tracking.jsonl import read_metrics

    troubles = [(lane, bad_end(read_metrics(lane.directory))) for lane in done.lanes[: len(done.results)]]
    bad = [(lane, trouble) for lane, trouble in troubles if trouble]
    for lane, trouble in bad:
        say(trouble if len(done.lanes) == 1 else f"{lane.directory.name}: {trouble}")
    return bool(bad)
