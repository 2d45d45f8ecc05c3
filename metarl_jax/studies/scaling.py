"""What all cores, and many runs in one program, gain over one core and over one run after the other."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarl_jax.cores import bind, bound_to, usable_cores
from metarl_jax.runs.run import Run, load
from metarl_jax.studies import commands
from metarl_jax.studies.parameters import are_same, difference
from metarl_jax.studies.results import markdown, table
from metarl_jax.tracking.jsonl import read_metrics

CORES: dict[str, tuple[str, ...]] = {
    "ProMP, corner": ("promp_navigation_corner", "training.num_iterations=20"),
    "ProMP, half-cheetah, C engine": (
        "promp_half_cheetah_direction",
        "tasks.backend=mujoco",
        "training.num_iterations=8",
    ),
}
"""What is trained on one core and on all."""
_STEP_SIZES, _SEEDS, _ITERATIONS = (0.05, 0.1, 0.2, 0.4), 4, 30
LANES = f"{len(_STEP_SIZES) * _SEEDS} runs"
CASES = (*CORES, LANES)
_WARM_UP = 2  # updates that are not counted: the first one compiles


def measure(case: str, rounds: int = 3) -> dict[str, Any]:
    """Time the ways in turn.

    Args:
      case: of :data:`CASES`.
      rounds: of which the median is taken.

    Returns:
      ``what`` was done, ``one`` and ``other``: medians of seconds and CPU seconds; and on what. Of cores, ``crowded``:
      ``runs`` at once and the ``seconds`` of an update of them, None where no two can be bound to cores. Of many runs,
      ``difference``: the largest of the parameters of a run apart from those of the same run together, its norm in
      units of theirs; and :func:`on_one_core`.
    """
    with tempfile.TemporaryDirectory() as folder:
        measured = _runs(Path(folder), rounds) if case == LANES else _cores(CORES[case], Path(folder), rounds)
    return {**measured, "rounds": rounds, "cores": os.cpu_count(), "jax": version("jax")}


class _Cost(NamedTuple):
    """Seconds, and CPU seconds of all threads."""

    seconds: float
    cpu_seconds: float


def _cores(words: Sequence[str], folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of an update, and CPU seconds of the whole run, on one core and on as many as are taken by default.

    A process that is to have one core is bound to it: an engine with threads of its own would take the others, too.
    ``crowded`` is the same on one core while the others train runs of their own, who have memory in common with it.
    """
    cores = bound_to()
    apart = [[core] for core in cores[: usable_cores()]]
    ways = {"one": [cores[-1:]], "other": [cores], "crowded": apart if len(apart) > 1 else []}
    costs: dict[str, list[_Cost]] = {way: [] for way in ways}
    for number in range(rounds):
        for way, shares in ways.items():
            option = () if way == "other" else ("--devices", "1")
            update = partial(_update, (*words, *option), folder / "cache")
            run_dirs = [folder / f"{number}-{way}-{nth}" for nth in range(len(shares))]
            with ThreadPoolExecutor(len(cores) or 1) as threads:
                costs[way] += threads.map(update, shares, run_dirs)
    one, other = _median(costs["one"]), _median(costs["other"])
    crowded = {"runs": len(apart), "seconds": _median(costs["crowded"])["seconds"]} if costs["crowded"] else None
    return {
        "what": f"metarl train {' '.join(words)}",
        "unit": "an update, on one core",
        "one": one,
        "other": other,
        "crowded": crowded,
    }


def _update(words: Sequence[str], cache: Path, cores: Sequence[int], run_dir: Path) -> _Cost:
    """Seconds of an update of a run that is bound to some cores, and CPU seconds of all that runs meanwhile."""
    bind(cores)
    whole = _timed("train", *words, "--run-dir", str(run_dir), cache=cache)
    seconds = [row["iteration_seconds"] for row in read_metrics(run_dir)[_WARM_UP:]]
    return whole._replace(seconds=float(np.median(seconds)))


def _runs(folder: Path, rounds: int) -> dict[str, Any]:
    """The whole of many runs, one `metarl train` after the other, and as one study."""
    config, length = "promp_navigation", f"training.num_iterations={_ITERATIONS}"
    study_file = folder / "study.yaml"
    study_file.write_text(
        json.dumps(
            {
                "config": config,
                "overrides": {"training.num_iterations": _ITERATIONS},
                "seeds": list(range(_SEEDS)),
                "grid": {"algorithm.inner_lr": list(_STEP_SIZES)},
                "objective": {"of": "training", "metric": "return_post"},
            }
        )
    )
    apart, together = [], []
    for number in range(rounds):
        cache, costs = folder / f"cache{number}", []
        for size in _STEP_SIZES:
            for seed in range(_SEEDS):
                settings = (f"algorithm.inner_lr={size}", f"seed={seed}")
                run_dir = str(folder / f"{number}-{size}-{seed}")
                costs.append(_timed("train", config, length, *settings, "--run-dir", run_dir, cache=cache))
        apart.append(_Cost(*np.sum(costs, axis=0).tolist()))
        directory = str(folder / f"study{number}")
        together.append(_timed("sweep", str(study_file), "--dir", directory, cache=folder / f"other-cache{number}"))
    what = f"{LANES} of {config}, {_ITERATIONS} updates each: metarl train one after the other, and metarl sweep"
    return {
        "what": what,
        "unit": "all, apart",
        "one": _median(apart),
        "other": _median(together),
        **_compared(config, length, folder),
    }


def _compared(config: str, length: str, folder: Path) -> dict[str, Any]:
    """The runs of the first round, beside each other, and :func:`on_one_core`."""
    together = {_setting(run): run.params for run in map(load, sorted((folder / "study0").glob("trials/*/seed-*")))}
    settings = [(size, seed) for size in _STEP_SIZES for seed in range(_SEEDS)]
    apart = {setting: load(folder / "0-{}-{}".format(*setting)).params for setting in settings}
    differences = [difference(apart[setting], together[setting]) for setting in settings]
    return {"difference": max(differences), **on_one_core(config, length, folder)}


def on_one_core(config: str, length: str, folder: Path) -> dict[str, int]:
    """Seeds together on one core, and each of them apart.

    Args:
      config: its name.
      length: how long they are trained.
      folder: where they may live.

    Returns:
      How many are ``compared``, and how many ``are_same``.
    """
    train = partial(_timed, "train", config, length, "--devices", "1", cache=folder / "cache-one")
    train("seed=0", "--seeds", str(_SEEDS), "--run-dir", str(folder / "one-core"))
    for seed in range(_SEEDS):
        train(f"seed={seed}", "--run-dir", str(folder / f"alone-{seed}"))
    runs = [(folder / f"alone-{seed}", folder / "one-core" / f"seed-{seed}") for seed in range(_SEEDS)]
    same = [are_same(load(apart).params, load(together).params) for apart, together in runs]
    return {"are_same": sum(same), "compared": len(same)}


def _setting(run: Run) -> tuple[float, int]:
    return run.config.algorithm.model_dump()["inner_lr"], run.config.seed


def _timed(*words: str, cache: Path) -> _Cost:
    """The whole command, in a process of its own."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    started, cpu_started = time.perf_counter(), commands.cpu_seconds()
    command = [sys.executable, "-m", "metarl_jax", *words]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return _Cost(time.perf_counter() - started, commands.cpu_seconds() - cpu_started)


def _median(costs: Sequence[_Cost]) -> dict[str, float]:
    return dict(zip(_Cost._fields, np.round(np.median(costs, axis=0), 3).tolist(), strict=True))


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each case."""
    titles = (
        "case | command | counted | s | CPU s | with all cores, or together, s | CPU s | times faster | runs apart | "
        "times the CPU"
    )
    return markdown(
        f"# {name}",
        "`python benchmarks/scaling.py`: medians of alternating rounds. Of cores, the seconds of an update after the "
        f"first {_WARM_UP} and the CPU seconds of the whole command; of many runs, both of everything, start and "
        "compilation included, with a compilation cache that is empty at first and shared by the runs. Runs apart: "
        "how many times as much as one alone do runs of their own, one bound to each core, all at once.",
        table([*titles.split(" | "), "rounds", "cores", "jax"], [_row(*item) for item in results.items()]),
        *[_agreement(case, result) for case, result in results.items() if "difference" in result],
    )


def _agreement(case: str, result: dict[str, Any]) -> str:
    return (
        f"{case}: parameters of a run apart, whose tasks the cores share, and of the same run together, which has one "
        f"core, differ by at most {result['difference']:.1e} of their norm: sums in another order, which training "
        f"amplifies. Of {result['compared']} seeds trained on one core {result['are_same']} have the same parameters "
        "together as apart, to the last digit."
    )


def _row(case: str, result: dict[str, Any]) -> list[str | None]:
    one, other = result["one"], result["other"]
    times = [f"{of[unit]:.2f}" for of in (one, other) for unit in _Cost._fields]
    crowded = result.get("crowded")
    ratios = [
        f"{one['seconds'] / other['seconds']:.2f}",
        None if crowded is None else f"{crowded['runs'] * one['seconds'] / crowded['seconds']:.2f}",
        f"{other['cpu_seconds'] / one['cpu_seconds']:.2f}",
    ]
    on = [str(result[key]) for key in ("rounds", "cores", "jax")]
    return [case, f"`{result['what']}`", result["unit"], *times, *ratios, *on]
